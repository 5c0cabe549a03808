package review

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Remover takes review apps away.
type Remover struct {
	apply.Deps
	Timeout time.Duration // for the release, and again for the namespace
}

// errKept says that a namespace is wanted again.
var errKept = errors.New("it was deployed to again meanwhile")

// Stop removes an app. What is not there is removed already.
func (r Remover) Stop(ctx context.Context, a App) (removed bool, err error) {
	ns, err := r.Cluster.Clientset().CoreV1().Namespaces().Get(ctx, a.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for namespace %q: %w", a.Namespace, denied(err))
	case !a.owns(ns):
		return false, a.errForeign()
	}
	return true, r.remove(ctx, a, ns, func(*corev1.Namespace) bool { return true })
}

// remove uninstalls the release, then deletes the namespace that was looked
// at, and no other of its name. still is asked under the release's lease, and
// again before the end: a deployment may have come first.
func (r Remover) remove(ctx context.Context, a App, ns *corev1.Namespace, still func(*corev1.Namespace) bool) error {
	again := func() (*corev1.Namespace, error) { return r.again(ctx, a, ns, still) }
	if ns.DeletionTimestamp == nil {
		if err := r.uninstall(ctx, a, again); err != nil {
			return err
		}
		if err := r.delete(ctx, again); err != nil {
			return err
		}
	}
	ctx, cancel := tool.Deadline(ctx, r.Timeout, "the end of namespace "+a.Namespace)
	defer cancel()
	if err := gone(ctx, r.Cluster, ns.Name, string(ns.UID)); err != nil {
		return fmt.Errorf("%w: %s", err, r.stuck(context.WithoutCancel(ctx), ns.Name))
	}
	return nil
}

// again reads the namespace once more; nil where it is gone.
func (r Remover) again(ctx context.Context, a App, ns *corev1.Namespace, still func(*corev1.Namespace) bool) (*corev1.Namespace, error) {
	now, err := r.Cluster.Clientset().CoreV1().Namespaces().Get(ctx, ns.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("looking at namespace %q again: %w", ns.Name, denied(err))
	case now.UID != ns.UID || !a.owns(now) || !still(now):
		return nil, errKept
	}
	return now, nil
}

// uninstall runs what the chart wants done at its end. All of the release goes
// with the namespace anyway, so that only somebody at work on it is in the way.
func (r Remover) uninstall(ctx context.Context, a App, again func() (*corev1.Namespace, error)) error {
	request := apply.Request{Spec: helmrelease.Spec{Name: a.Service, Namespace: a.Namespace}, Timeout: r.Timeout,
		Refuse: func(helmrelease.State) error { _, err := again(); return err }}
	quiet := func(ctx context.Context, _ string, fn func(context.Context) error) error { return fn(ctx) }
	_, err := apply.Uninstall(ctx, r.Deps, request, quiet)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, errors.Is(err, errKept), tool.CodeOf(err) == tool.Held:
		return err
	}
	r.Run.Log.Printf("%s: the release was not uninstalled; it goes with its namespace: %v", a.Namespace, err)
	return nil
}

// delete names what it read, by uid and version, and reads again where
// something else has written meanwhile.
func (r Remover) delete(ctx context.Context, again func() (*corev1.Namespace, error)) error {
	for {
		now, err := again()
		if err != nil || now == nil {
			return err
		}
		err = r.Cluster.Clientset().CoreV1().Namespaces().Delete(ctx, now.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &now.UID, ResourceVersion: &now.ResourceVersion}})
		switch {
		case err == nil, apierrors.IsNotFound(err):
			return nil
		case !apierrors.IsConflict(err):
			return fmt.Errorf("deleting namespace %q: %w", now.Name, denied(err))
		}
	}
}

// stuck says what keeps a namespace from ending.
func (r Remover) stuck(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ns, err := r.Cluster.Clientset().CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "why cannot be told: " + err.Error()
	}
	for _, c := range ns.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			return c.Message
		}
	}
	return "it is " + string(ns.Status.Phase)
}
