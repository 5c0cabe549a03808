package apply

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// prepare looks whether anything is to be done: no lease is taken where
// nothing is. It reports whether the release is done with, and whether its
// namespace was made.
func (j *job) prepare(ctx context.Context, step Stepper) (done, made bool, err error) {
	if j.plan.Unchanged() && !j.plan.NewOrigin() {
		j.unchanged(j.plan.State.Deployed)
		return true, false, nil
	}
	if err := j.request.refused(j.plan.State); err != nil {
		return false, false, j.request.untouched(err)
	}
	made, err = j.namespace(ctx)
	if made && err == nil { // what comes into it can be tried now
		err = j.makePlan(ctx, step)
	}
	return false, made, err
}

// MadeFor says that the namespace of a release that then fails was made
// and stays: the codes that say that nothing was changed would be wrong.
func MadeFor(namespace string, err error) error {
	return changed(err, fmt.Sprintf("namespace %q was made for it and stays; run it again when the release is mended", namespace))
}

// changed tells what a run has changed before it failed, and replaces the
// codes that say that nothing was, or that all is as before.
func changed(err error, hint string) error {
	switch tool.CodeOf(err) {
	case tool.Failed, tool.Usage, tool.Refused, tool.Restored:
		return tool.Exit(tool.Broken, err, hint)
	}
	return tool.Hint(err, hint)
}

// again looks a second time where somebody wrote to the release before it was
// locked, or left it half done.
func (j *job) again(ctx context.Context, step Stepper) (done bool, err error) {
	pending := j.before.Last != nil && j.before.Last.Pending
	if pending || !j.before.Same(j.plan.State) {
		if err := j.makePlan(ctx, step); err != nil {
			return false, err
		}
	}
	if !j.plan.Unchanged() {
		return false, nil
	}
	running := j.plan.State.Deployed
	if j.plan.NewOrigin() {
		if running, err = j.client.NoteOrigin(ctx, j.plan); err != nil {
			return false, err
		}
		j.deps.Run.Log.Printf("%s: revision %d is what is asked for; what it is made of now is noted in it", j.request.Name, running.Number)
	}
	j.unchanged(running)
	return true, nil
}

func (j *job) unchanged(running *helmrelease.Revision) {
	j.result.Status, j.result.Revision, j.result.Running = Unchanged, running.Number, running
	j.result.Message = fmt.Sprintf("revision %d is deployed as asked for", running.Number)
	j.deps.Run.Log.Printf("%s: %s; nothing was changed", j.request.Name, j.result.Message)
}

// makePlan makes the plan, and tells everything that stands against it.
func (j *job) makePlan(ctx context.Context, step Stepper) error {
	return step(ctx, "plan release "+j.request.Name, func(ctx context.Context) (err error) {
		r := j.request
		look := helmrelease.Look{Lookup: r.Lookup, NewNamespace: r.CreateNamespace, Index: j.index}
		if j.plan != nil {
			look.Was = &j.plan.State
		}
		if j.looked { // under the lease
			look.Was = &j.before
		}
		if j.plan, err = j.client.Plan(ctx, r.Spec, look); err != nil {
			return j.passing(err)
		}
		j.redact(j.plan.Secrets())
		j.result.Status = Failed // until it is better
		for _, p := range j.plan.Problems {
			level := "error"
			if p.Warning {
				level = "warning"
				j.deps.Run.Log.Printf("%s: %s", r.Name, p)
			}
			j.deps.Run.Report.Find(report.Finding{Level: level, Class: p.Class, Object: p.Object, Message: p.String(), Next: p.Next})
		}
		if d := j.plan.State.Deployed; d != nil {
			j.result.Running = d
		}
		return j.plan.Err()
	})
}

// namespace makes the release's namespace where it is missing and may be made.
func (j *job) namespace(ctx context.Context) (made bool, err error) {
	if !j.plan.NewNamespace() {
		return false, nil
	}
	if err := j.made.once(j.request.Namespace, func() error { return j.makeNamespace(ctx) }); err != nil {
		return false, err
	}
	j.touched = true
	return true, nil
}

func (j *job) makeNamespace(ctx context.Context) error {
	name := j.request.Namespace
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/managed-by": "slipway-deploy"}}}
	_, err := j.deps.Cluster.Clientset().CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making namespace %q: %w", name, err)
	}
	return nil
}

// namespaces are those that a run makes, each once however many releases go there.
type namespaces struct {
	mu   sync.Mutex
	made map[string]bool
}

func (n *namespaces) once(name string, make func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.made[name] {
		return nil
	}
	err := make()
	if err == nil {
		if n.made == nil {
			n.made = map[string]bool{}
		}
		n.made[name] = true
	}
	return err
}
