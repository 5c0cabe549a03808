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

// remove uninstalls the release under its lease, then deletes the namespace
// that was looked at, and no other of its name. still is asked again between
// the two: a deployment may have come first.
func (r Remover) remove(ctx context.Context, a App, ns *corev1.Namespace, still func(*corev1.Namespace) bool) error {
	if ns.DeletionTimestamp == nil {
		if err := r.uninstall(ctx, a); err != nil {
			return err
		}
		if err := r.delete(ctx, a, ns, still); err != nil {
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

// uninstall runs what the chart wants done at its end. All of the release goes
// with the namespace anyway, so that only somebody at work on it is in the way.
func (r Remover) uninstall(ctx context.Context, a App) error {
	request := apply.Request{Spec: helmrelease.Spec{Name: a.Service, Namespace: a.Namespace}, Timeout: r.Timeout}
	quiet := func(ctx context.Context, _ string, fn func(context.Context) error) error { return fn(ctx) }
	_, err := apply.Uninstall(ctx, r.Deps, request, quiet)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, tool.CodeOf(err) == tool.Held:
		return err
	}
	r.Run.Log.Printf("%s: the release was not uninstalled; it goes with its namespace: %v", a.Namespace, err)
	return nil
}

// delete names what it read, by uid and version: what changed since is wanted.
func (r Remover) delete(ctx context.Context, a App, ns *corev1.Namespace, still func(*corev1.Namespace) bool) error {
	client := r.Cluster.Clientset().CoreV1().Namespaces()
	now, err := client.Get(ctx, ns.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("looking at namespace %q again: %w", ns.Name, denied(err))
	}
	if err == nil {
		if now.UID != ns.UID || !a.owns(now) || !still(now) {
			return errKept
		}
		err = client.Delete(ctx, ns.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &now.UID, ResourceVersion: &now.ResourceVersion}})
	}
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		return errKept
	}
	return fmt.Errorf("deleting namespace %q: %w", ns.Name, denied(err))
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
