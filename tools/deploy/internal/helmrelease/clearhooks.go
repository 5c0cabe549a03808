package helmrelease

import (
	"context"
	"fmt"
	"slices"

	helmkube "helm.sh/helm/v3/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// hookMark is on every object that is a hook.
const hookMark = "helm.sh/hook"

const hookNext = "a hook takes the place of what has its name: give the hook another one, or delete the object by hand where nobody needs it"

// Delete deletes what hooks left. Helm deletes nothing else by it.
func (c *client) Delete(list helmkube.ResourceList) (*helmkube.Result, []error) {
	objects, err := placed(list)
	if err != nil {
		return &helmkube.Result{}, []error{err}
	}
	for _, o := range objects {
		if err := c.clear(o); err != nil {
			return &helmkube.Result{}, []error{err}
		}
	}
	return &helmkube.Result{Deleted: list}, nil
}

// clear deletes what a hook left, and waits until it is gone. What is not this
// run's must be the release's, and have come to its end.
func (c *client) clear(o object) error {
	ch := change{object: o, action: Delete}
	if o.unknown {
		return nil
	}
	err := c.engine.look(c.ctx, &ch)
	if err == nil && ch.live != nil && !c.made[ch.live.GetUID()] {
		if err = c.mine(ch); err == nil {
			err = c.ended(ch)
		}
	}
	if err != nil || ch.live == nil {
		return err
	}
	policy := metav1.DeletePropagationBackground
	if o.GetKind() == "Job" {
		policy = metav1.DeletePropagationForeground // the next one must not run beside its pods
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.timeout, fmt.Errorf("not deleted after %s", c.timeout))
	defer cancel()
	c.began()
	if err = c.engine.discard(ctx, ch, policy); err == nil {
		err = c.engine.untilGone(ctx, ch)
	}
	if err != nil {
		return fmt.Errorf("deleting hook %s: %w", o.key(), denied(err))
	}
	return nil
}

// mine refuses an object that is no hook of the release.
func (c *client) mine(ch change) error {
	why, err := c.engine.hookOf(c.ctx, c.Namespace, c.release, c.number, ch)
	if err == nil && why != "" {
		err = tool.Hint(fmt.Errorf("replacing hook %s: %s", ch.key(), why), hookNext)
	}
	return err
}

// hookOf says what speaks against taking a live object for a hook of a release,
// "" for nothing. Hooks that Helm made bear no mark of their release: of those,
// its records before the revision tell (before any, where it is 0).
func (c *Client) hookOf(ctx context.Context, namespace, name string, revision int, ch change) (string, error) {
	nobodys := "it exists already and belongs to no release"
	switch owner := ownerOf(ch.live); {
	case owner == qualified(namespace, name):
		return "", nil
	case owner != "":
		return "it belongs to release " + owner, nil
	case ch.live.GetAnnotations()[hookMark] == "":
		return nobodys, nil
	}
	list, err := c.records(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	for _, s := range list {
		if revision > 0 && s.number >= revision {
			continue
		}
		r, err := c.load(ctx, namespace, name, s.number)
		if err != nil {
			return "", err
		}
		for _, h := range r.rel.Hooks {
			objects, err := c.objects(h.Manifest, namespace)
			if err != nil {
				return "", fmt.Errorf("%s: %w", h.Path, err)
			}
			if slices.ContainsFunc(objects, func(o object) bool { return o.key() == ch.key() }) {
				return "", nil
			}
		}
	}
	return nobodys, nil
}

// leftHook judges what is there already of a hook's name: what the last run of
// the hook left is deleted before the next.
func (c *Client) leftHook(ctx context.Context, p *Plan, ch change) (Problem, error) {
	if err := c.look(ctx, &ch); err != nil || ch.live == nil {
		if kube.Denied(err) {
			err = nil // whoever may not look is told when the hook is replaced
		}
		return Problem{}, err
	}
	why, err := c.hookOf(ctx, p.Spec.Namespace, p.Spec.Name, p.rel.Version, ch)
	if err != nil || why == "" {
		return Problem{}, err
	}
	return Problem{Class: ClassOwner, Source: ch.source, Object: ch.key().String(), Message: why, Next: hookNext}, nil
}

// ended waits until what an earlier run started works no more: a migration that
// is cut short, or runs twice at once, leaves data that no code fits.
func (c *client) ended(ch change) error {
	if k := ch.GetKind(); k != "Job" && k != "Pod" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.timeout, fmt.Errorf("it still works after %s", c.timeout))
	defer cancel()
	told := false
	err := c.cluster.UntilList(ctx, corev1.SchemeGroupVersion.WithResource("pods"), ch.GetNamespace(), podsOf(ch.live), func(list []*unstructured.Unstructured) (bool, error) {
		busy := slices.ContainsFunc(list, works)
		if busy && !told && c.tell != nil {
			told = true
			c.tell(fmt.Sprintf("hook %s of an earlier run still works: it is waited for", ch.key()))
		}
		return !busy, nil
	})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("waiting for the end of hook %s of an earlier run: %w", ch.key(), err)
	if c.ctx.Err() == nil && ctx.Err() != nil {
		return tool.Exit(tool.Temporary, err, "run it again once the hook has ended; where it never will, delete it by hand")
	}
	return denied(err)
}

// works reports whether a container of a pod runs.
func works(u *unstructured.Unstructured) bool {
	var p corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
		return true // what cannot be read is not cut short
	}
	return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses),
		func(s corev1.ContainerStatus) bool { return s.State.Running != nil })
}
