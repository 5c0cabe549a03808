package review

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
	"gitlab.com/slipway/slipway/tools/deploy/internal/lease"
)

// Remover takes review apps away.
type Remover struct {
	Cluster     *kube.Cluster
	Watcher     *rollout.Watcher
	Owner       owner.Owner
	JobState    func(context.Context, owner.Owner) string
	LockTimeout time.Duration
	Timeout     time.Duration // for the release, and again for the namespace
	Log         func(format string, args ...any)
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

// remove uninstalls the release under its lease and deletes the namespace that
// was looked at, and no other of its name. still is asked again under the
// lease: a deployment may have come first.
func (r Remover) remove(ctx context.Context, a App, ns *corev1.Namespace, still func(*corev1.Namespace) bool) error {
	client := r.Cluster.Clientset().CoreV1().Namespaces()
	if ns.DeletionTimestamp == nil {
		locked, held, err := lease.Acquire(ctx, r.Cluster, lease.Options{Namespace: a.Namespace, Release: a.Service, Owner: r.Owner, Wait: r.LockTimeout, JobState: r.JobState, Log: r.Log})
		if err != nil {
			return err
		}
		err = r.locked(locked, a, ns, still)
		if rerr := held.Release(context.WithoutCancel(ctx)); rerr != nil && err == nil && !apierrors.IsNotFound(rerr) {
			r.Log("%s: %v", a.Namespace, rerr) // it goes with the namespace
		}
		if err != nil {
			return err
		}
	}
	ctx, cancel := tool.Deadline(ctx, r.Timeout, "the end of namespace "+a.Namespace)
	defer cancel()
	if err := gone(ctx, r.Cluster, ns.Name, string(ns.UID)); err != nil {
		return fmt.Errorf("%w: %s", err, r.stuck(context.WithoutCancel(ctx), client, ns.Name))
	}
	return nil
}

func (r Remover) locked(ctx context.Context, a App, ns *corev1.Namespace, still func(*corev1.Namespace) bool) error {
	client := r.Cluster.Clientset().CoreV1().Namespaces()
	now, err := client.Get(ctx, ns.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("looking at namespace %q again: %w", ns.Name, err)
	}
	if now.UID != ns.UID || !a.owns(now) || !still(now) {
		return errKept
	}
	if err := r.uninstall(ctx, a); err != nil {
		// All of it goes with the namespace; what a hook would have done is said.
		r.Log("%s: the release was not uninstalled: %v", a.Namespace, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	uid := now.UID
	err = client.Delete(ctx, ns.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return errKept
	case err != nil:
		return fmt.Errorf("deleting namespace %q: %w", ns.Name, denied(err))
	}
	return nil
}

func (r Remover) uninstall(ctx context.Context, a App) error {
	helm := helmrelease.New(r.Cluster, r.Watcher, r.Log)
	state, err := helm.Read(ctx, a.Namespace, a.Service)
	if err != nil || state.Last == nil {
		return err
	}
	return helm.Uninstall(ctx, a.Namespace, a.Service, r.Timeout)
}

// stuck says what keeps a namespace from ending.
func (r Remover) stuck(ctx context.Context, client interface {
	Get(context.Context, string, metav1.GetOptions) (*corev1.Namespace, error)
}, name string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ns, err := client.Get(ctx, name, metav1.GetOptions{})
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
