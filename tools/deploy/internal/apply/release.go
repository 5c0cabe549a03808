// Package apply puts releases into a cluster: one under its lease, with what
// the last run left half done repaired first and what fails put back, or a
// set of them in the order of their needs.
package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
	"gitlab.com/slipway/slipway/tools/deploy/internal/lease"
)

// Deps is what releases are put in place with.
type Deps struct {
	Run         *tool.Run
	Cluster     *kube.Cluster
	Watcher     *rollout.Watcher
	Owner       owner.Owner
	LockTimeout time.Duration
	JobState    func(context.Context, owner.Owner) string
	// Renew and Expiry of leases: owner's, unless a test shortens them.
	Renew, Expiry time.Duration
}

// Request is a release, and what to do when it fails.
type Request struct {
	helmrelease.Spec
	Timeout, Stable time.Duration
	CreateNamespace bool
	Restore         bool   // roll a failed upgrade back
	WhyNot          string // why a failed one is left, where Restore is false
	RemoveFirst     bool   // remove a failed first installation again
	// Progress takes what the release is at; nil logs every line of it.
	Progress func(line string)
}

// The states a release may be left in.
const (
	Deployed = "deployed"
	Restored = "restored"
	Failed   = "failed"
)

// Result is how a release ended.
type Result struct {
	Release   string          `json:"release"`
	Namespace string          `json:"namespace"`
	Status    string          `json:"status"`
	Revision  int             `json:"revision,omitempty"`
	Chart     string          `json:"chart,omitempty"`
	Ready     float64         `json:"readySeconds"`
	Seconds   float64         `json:"seconds,omitempty"` // from its turn in a set to its end
	Objects   []rollout.State `json:"objects,omitempty"`
	Message   string          `json:"message,omitempty"`
	// Running is the revision that is in place now; nil where there is none.
	Running *helmrelease.Revision `json:"running,omitempty"`
}

// Stepper runs a named step of a release.
type Stepper func(ctx context.Context, name string, fn func(context.Context) error) error

// after bounds what is done once the run itself was told to end.
const after = 30 * time.Second

// Release puts one release in place.
func Release(ctx context.Context, d Deps, r Request, step Stepper) (Result, error) {
	j := &job{deps: d, request: r, client: helmrelease.New(d.Cluster, d.Watcher, d.Run.Log.Printf),
		result: Result{Release: r.Name, Namespace: r.Namespace, Status: Failed, Chart: r.Chart.Name() + "-" + r.Chart.Version()}}
	if err := j.namespace(ctx); err != nil {
		return j.result, err
	}
	var held *lease.Lease
	locked := ctx
	err := step(ctx, "lock release "+r.Name, func(ctx context.Context) (err error) {
		o := d.Owner
		o.Phase = "releasing " + r.Name
		locked, held, err = lease.Acquire(ctx, d.Cluster, lease.Options{Namespace: r.Namespace, Release: r.Name, Owner: o,
			Wait: d.LockTimeout, JobState: d.JobState, Log: d.Run.Log.Printf, Renew: d.Renew, Expiry: d.Expiry})
		return err
	})
	if err != nil {
		return j.result, err
	}
	err = j.locked(locked, held, step)
	if rerr := j.handBack(locked, held); err == nil {
		err = rerr
	}
	return j.result, err
}

// job is the work on one release.
type job struct {
	deps    Deps
	request Request
	client  *helmrelease.Client
	before  helmrelease.State
	result  Result
}

func (j *job) namespace(ctx context.Context) error {
	name := j.request.Namespace
	namespaces := j.deps.Cluster.Clientset().CoreV1().Namespaces()
	_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil, apierrors.IsForbidden(err): // whoever may not look will be told by the first write
		return nil
	case !apierrors.IsNotFound(err):
		if kube.Denied(err) {
			return tool.Exit(tool.Denied, fmt.Errorf("reaching the cluster: %w", err), "the cluster does not know this identity: bootstrap makes the role's access entry")
		}
		return fmt.Errorf("looking for namespace %q: %w", name, err)
	case !j.request.CreateNamespace:
		return tool.Hint(fmt.Errorf("looking for namespace %q: it does not exist", name), "the tenancy release of the platform makes the namespaces of services; nothing was changed")
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/managed-by": "slipway-deploy"}}}
	if _, err := namespaces.Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making namespace %q: %w", name, err)
	}
	return nil
}

func (j *job) locked(ctx context.Context, held *lease.Lease, step Stepper) error {
	err := step(ctx, "look at release "+j.request.Name, func(ctx context.Context) error { return j.look(ctx, held) })
	if err != nil {
		return err
	}
	var outcome helmrelease.Outcome
	err = step(ctx, "apply release "+j.request.Name, func(ctx context.Context) error {
		outcome, err = j.client.Apply(ctx, j.request.Spec, j.wait())
		j.evidence(outcome, err)
		return err
	})
	j.result.Revision, j.result.Ready, j.result.Objects = outcome.Revision, outcome.Ready.Seconds(), outcome.Objects
	switch {
	case err == nil:
		j.result.Status = Deployed
		return j.readBack(ctx)
	case ctx.Err() != nil:
		return err // handBack says in which state
	case !outcome.Changed:
		if state, rerr := j.client.Read(ctx, j.request.Namespace, j.request.Name); rerr == nil {
			j.result.Running = state.Deployed
		}
		return err
	}
	return j.putBack(ctx, err, step)
}

func (j *job) wait() helmrelease.Wait {
	progress := j.request.Progress
	if progress == nil {
		progress = func(line string) { j.deps.Run.Log.Printf("%s: %s", j.request.Name, line) }
	}
	return helmrelease.Wait{Timeout: j.request.Timeout, Stable: j.request.Stable, Progress: progress}
}

// look reads what is stored, and repairs what a dead run left half done.
func (j *job) look(ctx context.Context, held *lease.Lease) error {
	r := j.request
	state, err := j.client.Read(ctx, r.Namespace, r.Name)
	if err != nil {
		return err
	}
	j.before = state
	switch {
	case state.Last == nil:
		j.deps.Run.Log.Printf("%s: not installed yet", r.Name)
		return nil
	case !state.Last.Pending:
		j.deps.Run.Log.Printf("%s: revision %d is %s", r.Name, state.Last.Number, state.Last.Status)
		return nil
	case held.Former == nil:
		return tool.Exit(tool.Undecidable, fmt.Errorf("release %q is at revision %d in state %s, and no lease says who left it so", r.Name, state.Last.Number, state.Last.Status),
			"somebody may be at work with helm; if not: "+unlock(r, state))
	}
	why := fmt.Sprintf("left in state %s by %s", state.Last.Status, *held.Former)
	if err := j.client.MarkFailed(ctx, r.Namespace, r.Name, state.Last.Number, why); err != nil {
		return err
	}
	j.deps.Run.Log.Printf("%s: revision %d was %s; it is marked failed, and the release goes on from there", r.Name, state.Last.Number, why)
	j.deps.Run.Report.Find(report.Finding{Level: "warning", Class: "recovered", Object: r.Namespace + "/" + r.Name,
		Message: fmt.Sprintf("revision %d was %s", state.Last.Number, why), Next: "nothing; this run repaired it"})
	return nil
}

// unlock is the command that ends a pending state by hand.
func unlock(r Request, s helmrelease.State) string {
	if s.Deployed != nil {
		return fmt.Sprintf("helm -n %s rollback %s %d", r.Namespace, r.Name, s.Deployed.Number)
	}
	return fmt.Sprintf("kubectl -n %s delete secret sh.helm.release.v1.%s.v%d", r.Namespace, r.Name, s.Last.Number)
}

// evidence keeps why it failed, before anything is put back.
func (j *job) evidence(o helmrelease.Outcome, err error) {
	if err == nil {
		return
	}
	findings := o.Findings
	if o.Failure != nil && len(findings) == 0 {
		findings = []rollout.Finding{o.Failure.Finding}
	}
	for i, f := range findings {
		level := "error"
		if f.Transient || i > 0 {
			level = "warning"
		}
		j.deps.Run.Report.Find(report.Finding{Level: level, Class: f.Class, Object: f.Workload.String(), Message: f.Sentence(), Evidence: f.LogTail, Next: f.Next})
		if f.LogTail != "" && i == 0 {
			j.deps.Run.Log.Printf("last lines of container %s of pod %s:", f.Container, f.Pod)
			for _, line := range strings.Split(strings.TrimSpace(f.LogTail), "\n") {
				j.deps.Run.Log.Printf("  | %s", line)
			}
		}
	}
}

func (j *job) putBack(ctx context.Context, cause error, step Stepper) error {
	r := j.request
	switch {
	case j.before.Deployed == nil && j.before.Last == nil && r.RemoveFirst && r.Restore:
		err := step(ctx, "remove failed installation "+r.Name, func(ctx context.Context) error {
			return j.client.Uninstall(ctx, r.Namespace, r.Name, r.Timeout)
		})
		if err != nil {
			return tool.Exit(tool.Broken, fmt.Errorf("%w; and removing it again failed: %w", cause, err))
		}
		j.result.Status, j.result.Message = Restored, "the first installation was removed again"
		return tool.Exit(tool.Restored, cause, "the failed first installation was removed again")
	case !r.Restore:
		return tool.Exit(tool.Broken, cause, "the release is left as it is: "+r.WhyNot)
	case j.before.Deployed == nil:
		return tool.Exit(tool.Broken, cause, "no revision of this release was ever ready, so there is none to go back to; it is left for a person")
	}
	to := j.before.Deployed.Number
	err := step(ctx, fmt.Sprintf("restore revision %d of %s", to, r.Name), func(ctx context.Context) error {
		o, err := j.client.Rollback(ctx, r.Namespace, r.Name, to, j.wait())
		j.evidence(o, err)
		if err == nil {
			j.result.Revision = o.Revision
			err = j.readBack(ctx)
		}
		return err
	})
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("%w; and restoring revision %d failed: %w", cause, to, err), "a person is needed: the release is in no known state")
	}
	j.result.Status, j.result.Message = Restored, fmt.Sprintf("revision %d is back and ready", to)
	return tool.Exit(tool.Restored, cause, fmt.Sprintf("revision %d was restored, and is ready", to))
}

// readBack checks that what is stored says what was done.
func (j *job) readBack(ctx context.Context) error {
	state, err := j.client.Read(ctx, j.request.Namespace, j.request.Name)
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("reading the release back: %w", err))
	}
	if state.Last == nil || state.Last.Number != j.result.Revision || state.Last.Status != Deployed {
		return tool.Exitf(tool.Broken, "reading the release back: revision %d is not what is deployed", j.result.Revision)
	}
	j.result.Running = state.Deployed
	return nil
}

// handBack ends the run's hold on the release. A run that was told to end
// leaves no pending state behind; one that lost its lease touches nothing.
func (j *job) handBack(ctx context.Context, held *lease.Lease) error {
	r := j.request
	if errors.Is(context.Cause(ctx), lease.ErrLost) {
		held.Abandon()
		return nil
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), after)
	defer cancel()
	state, err := j.client.Read(end, r.Namespace, r.Name)
	if err == nil && state.Last != nil && state.Last.Pending && (j.before.Last == nil || state.Last.Number > j.before.Last.Number) {
		err = j.client.MarkFailed(end, r.Namespace, r.Name, state.Last.Number, "ended before it was ready: "+fmt.Sprint(context.Cause(ctx)))
		if err == nil {
			j.deps.Run.Log.Printf("%s: revision %d is marked failed: the run ended before it was ready", r.Name, state.Last.Number)
		}
	}
	if err != nil {
		held.Abandon() // the next run finds our name on it
		return tool.Exit(tool.Broken, fmt.Errorf("leaving release %q in order: %w", r.Name, err))
	}
	if ctx.Err() != nil {
		j.deps.Run.Log.Printf("%s: cancelled; %s", r.Name, describe(state))
	}
	return held.Release(end)
}

func describe(s helmrelease.State) string {
	switch {
	case s.Last == nil:
		return "it is not installed"
	case s.Deployed == nil:
		return fmt.Sprintf("revision %d was under way and is failed; none was ready before", s.Last.Number)
	case s.Deployed.Number == s.Last.Number:
		return fmt.Sprintf("revision %d is deployed", s.Last.Number)
	}
	return fmt.Sprintf("revision %d was under way and is failed; revision %d was ready before, and parts of both may run until the next deployment", s.Last.Number, s.Deployed.Number)
}
