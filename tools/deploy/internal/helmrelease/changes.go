package helmrelease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
)

// manager is the field manager of what is written, Helm's own: releases go
// from one program to the other, and each must find its fields again.
const manager = "helm"

// parallelObjects is how many objects of one kind are worked on at once.
const parallelObjects = 16

// What becomes of an object.
const (
	Create = "create"
	Update = "update"
	Delete = "delete"
	None   = "none"
	Keep   = "keep" // dropped from the release, and left in the cluster
)

// change is what becomes of one object: the very request that is sent, first
// as a dry run and then in earnest.
type change struct {
	object
	action  string
	live    *unstructured.Unstructured // nil where there is none
	patch   patch
	result  *unstructured.Unstructured // by the dry run, or as sent
	checked bool                       // the server has looked at it
}

// differ finds what becomes of the objects of a release's manifest: olds are
// the manifests that were asked for before, in their order.
func (c *Client) differ(ctx context.Context, release string, wanted []object, olds ...[]object) ([]change, error) {
	before := map[key][]*unstructured.Unstructured{}
	for _, old := range olds {
		for _, o := range old {
			before[o.key()] = append(before[o.key()], o.Unstructured)
		}
	}
	changes := make([]change, 0, len(wanted))
	will := map[key]bool{}
	for _, o := range wanted {
		will[o.key()] = true
		changes = append(changes, change{object: o})
	}
	gone := dropped(will, olds)
	for _, o := range gone {
		changes = append(changes, change{object: o, action: Delete})
	}
	if err := each(ctx, len(changes), func(i int) error { return c.look(ctx, &changes[i]) }); err != nil {
		return nil, err
	}
	changes = slices.DeleteFunc(changes, func(ch change) bool { return ch.action == Delete && ch.live == nil })
	scaled, err := c.autoscaled(ctx, changes)
	if err != nil {
		return nil, err
	}
	for i := range changes {
		if err := changes[i].decide(release, before[changes[i].key()], scaled); err != nil {
			return nil, fmt.Errorf("%s: %w", changes[i].key(), err)
		}
	}
	return changes, nil
}

// dropped are the objects that are in no manifest any more, the last of the
// old first, as Helm takes them away.
func dropped(will map[key]bool, olds [][]object) []object {
	var out []object
	for _, old := range olds {
		for _, o := range slices.Backward(old) {
			if !will[o.key()] && !o.unknown {
				will[o.key()] = true
				out = append(out, o)
			}
		}
	}
	return out
}

// look fetches the live object.
func (c *Client) look(ctx context.Context, ch *change) error {
	if ch.unknown || ch.GetName() == "" {
		return nil
	}
	live, err := c.cluster.Dynamic().Resource(ch.gvr).Namespace(ch.GetNamespace()).Get(ctx, ch.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", ch.key(), denied(err))
	}
	ch.live = live
	return nil
}

func (ch *change) decide(release string, olds []*unstructured.Unstructured, scaled map[key]bool) (err error) {
	switch {
	case ch.action == Delete && (kept(ch.live) || isCRD(ch.object) || foreign(ch.live, release) != ""): // with a definition go all objects of its kind
		ch.action = Keep
		return nil
	case ch.action == Delete:
		return nil
	case ch.live == nil:
		ch.action = Create
		return nil
	case isCRD(ch.object): // a rollback's: what is newer serves the older objects too
		ch.action, ch.result = None, ch.live
		return nil
	}
	if scaled[ch.key()] {
		keepReplicas(ch.Unstructured, ch.live)
	}
	if ch.patch, err = makePatch(olds, ch.Unstructured, ch.live); err != nil {
		return err
	}
	ch.action, ch.result = Update, ch.live
	if ch.patch.empty() {
		ch.action, ch.checked = None, true
	}
	return nil
}

// send makes the call that a change consists of. A dry run sends the same, and
// asks for strict validation: the server then refuses fields that it does not know.
func (c *Client) send(ctx context.Context, ch *change, dry bool) (out *unstructured.Unstructured, err error) {
	resource := c.cluster.Dynamic().Resource(ch.gvr).Namespace(ch.GetNamespace())
	var dryRun []string
	validation := metav1.FieldValidationWarn
	if dry {
		dryRun, validation = []string{metav1.DryRunAll}, metav1.FieldValidationStrict
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() (err error) {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		switch ch.action {
		case Create:
			out, err = resource.Create(ctx, ch.Unstructured, metav1.CreateOptions{DryRun: dryRun, FieldManager: manager, FieldValidation: validation})
		case Update:
			out, err = resource.Patch(ctx, ch.GetName(), ch.patch.kind, ch.patch.body, metav1.PatchOptions{DryRun: dryRun, FieldManager: manager, FieldValidation: validation})
		case Delete:
			if dry { // in the address, where an audit and a proxy see that it is one
				err = c.cluster.Clientset().CoreV1().RESTClient().Delete().AbsPath(pathOf(ch.object)).Param("dryRun", metav1.DryRunAll).Do(ctx).Error()
				break
			}
			err = c.discard(ctx, *ch, metav1.DeletePropagationBackground)
		}
		if ch.action == Delete && apierrors.IsNotFound(err) {
			err = nil
		}
		return err
	})
	return out, err
}

// discard deletes the object that was looked at, and no other of its name.
func (c *Client) discard(ctx context.Context, ch change, policy metav1.DeletionPropagation) error {
	uid := ch.live.GetUID()
	err := c.cluster.Dynamic().Resource(ch.gvr).Namespace(ch.GetNamespace()).Delete(ctx, ch.GetName(),
		metav1.DeleteOptions{PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// untilGone waits by watch until the object that was looked at is gone.
func (c *Client) untilGone(ctx context.Context, ch change) error {
	uid := ch.live.GetUID()
	_, err := c.cluster.Until(ctx, ch.gvr, ch.GetNamespace(), ch.GetName(), func(u *unstructured.Unstructured) (bool, error) {
		return u == nil || u.GetUID() != uid, nil
	})
	return err
}

// pathOf is the address of an object.
func pathOf(o object) string {
	parts := []string{"", "apis", o.gvr.Group, o.gvr.Version}
	if o.gvr.Group == "" {
		parts = []string{"", "api", o.gvr.Version}
	}
	if ns := o.GetNamespace(); ns != "" {
		parts = append(parts, "namespaces", ns)
	}
	return strings.Join(append(parts, o.gvr.Resource, o.GetName()), "/")
}

// carryOut sends the changes, one kind after the other in Helm's order and the
// objects of a kind at once, and takes away last. It stops at the first kind
// with an error.
func (c *Client) carryOut(ctx context.Context, changes []change, began func()) error {
	for batch := range batches(changes) {
		if slices.ContainsFunc(batch, change.writes) {
			began()
		}
		err := each(ctx, len(batch), func(i int) error {
			ch := &batch[i]
			if !ch.writes() {
				return nil
			}
			out, err := c.send(ctx, ch, false)
			if err != nil {
				return fmt.Errorf("%s %s: %w", gerund(ch.action), ch.key(), err)
			}
			ch.result = out
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// writes reports whether the change consists of a call.
func (ch change) writes() bool {
	return ch.action == Create || ch.action == Update || ch.action == Delete
}

func gerund(action string) string {
	return map[string]string{Create: "creating", Update: "updating", Delete: "deleting"}[action]
}

// batches splits the changes where the kind changes, or where taking away begins.
func batches(changes []change) func(yield func([]change) bool) {
	return func(yield func([]change) bool) {
		for start := 0; start < len(changes); {
			end := start + 1
			for end < len(changes) && changes[end].GroupVersionKind() == changes[start].GroupVersionKind() &&
				(changes[end].action == Delete) == (changes[start].action == Delete) {
				end++
			}
			if !yield(changes[start:end]) {
				return
			}
			start = end
		}
	}
}

// each does something n times, several at once, and returns every error.
func each(ctx context.Context, n int, do func(i int) error) error {
	errs := make([]error, n)
	slots := make(chan struct{}, parallelObjects)
	var all sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() == nil {
				errs[i] = do(i)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// results are the objects of a release as the cluster has them now.
func results(changes []change) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, ch := range changes {
		if ch.result != nil && ch.action != Delete && ch.action != Keep {
			out = append(out, ch.result)
		}
	}
	return out
}
