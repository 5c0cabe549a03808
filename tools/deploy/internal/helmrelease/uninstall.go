package helmrelease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"helm.sh/helm/v3/pkg/action"
	helmkube "helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/rollout"
)

// Left is an object that an uninstallation does not take away.
type Left struct {
	Object rollout.Ref `json:"object"`
	Why    string      `json:"why"`
}

// Uninstall removes a release, waits by watch until its objects are gone, and
// only then removes its record: while anything is still there, the record
// tells whose it is. It returns what stays.
func (c *Client) Uninstall(ctx context.Context, namespace, name string, w Wait) ([]Left, error) {
	cfg, own, err := c.helm(ctx, namespace, name, w)
	if err != nil {
		return nil, err
	}
	state, err := c.Read(ctx, namespace, name)
	if err != nil || state.Last == nil {
		return nil, err
	}
	rel := state.Last.record.rel
	kept, err := own.spare(state)
	if err != nil {
		return nil, err
	}
	if rel.Info.Status != release.StatusUninstalled {
		u := action.NewUninstall(cfg)
		u.KeepHistory, u.Wait, u.Timeout, u.DeletionPropagation = true, true, w.Timeout, "foreground"
		if _, err := u.Run(name); err != nil {
			return nil, uninstallError(ctx, name, own, err)
		}
		if !own.deleted { // Helm deletes nothing where the last revision has nothing to delete
			if _, errs := own.DeleteWithPropagationPolicy(nil, metav1.DeletePropagationForeground); len(errs) > 0 {
				return nil, uninstallError(ctx, name, own, own.left)
			}
		}
	}
	if err := own.allGone(w.Timeout); err != nil { // also of what an earlier run deleted
		return nil, uninstallError(ctx, name, own, err)
	}
	left, err := c.left(ctx, own, rel)
	left = append(kept, left...)
	if err != nil {
		return left, fmt.Errorf("finding what release %q leaves: %w", name, err)
	}
	return left, c.purge(ctx, namespace, name)
}

// spare looks at all that was asked for. It returns what an uninstallation
// leaves, and notes what it takes away.
func (c *client) spare(s State) ([]Left, error) {
	rel := s.Last.record.rel
	last, err := c.engine.objects(rel.Manifest, rel.Namespace)
	if err != nil {
		return nil, fmt.Errorf("reading revision %d: %w", rel.Version, err)
	}
	asked, err := c.engine.asked(c.ctx, s, rel.Namespace)
	if err != nil {
		return nil, err
	}
	seen := map[key]bool{}
	var all []change
	for _, o := range slices.Concat(append([][]object{last}, asked...)...) {
		if !seen[o.key()] {
			seen[o.key()] = true
			all = append(all, change{object: o, action: Delete})
		}
	}
	err = each(c.ctx, len(all), func(i int) error {
		if err := c.engine.look(c.ctx, &all[i]); !kube.Denied(err) { // who may not look there says nothing of it
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.spared = map[key]bool{}
	var out []Left
	for _, ch := range all {
		switch why := c.stays(ch); {
		case why == "" && ch.live != nil:
			c.going = append(c.going, ch)
		case why != "":
			c.spared[ch.key()] = true
			if ch.live != nil {
				out = append(out, Left{rollout.RefOf(ch.live), why})
			}
		}
	}
	return out, nil
}

// stays says why an uninstallation leaves an object, "" where it does not.
func (c *client) stays(ch change) string {
	switch {
	case isCRD(ch.object):
		return everything
	case kept(ch.Unstructured), ch.live != nil && kept(ch.live):
		return "its chart says keep (" + helmkube.ResourcePolicyAnno + ")"
	case ch.live != nil && foreign(ch.live, c.name()) != "":
		return "it belongs to release " + foreign(ch.live, c.name()) + " by now"
	}
	return ""
}

const everything = "deleting a kind deletes everything of that kind"

func uninstallError(ctx context.Context, name string, own *client, err error) error {
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case own.left != nil:
		err = own.left
	case own.failure != nil:
		err = own.failure
	}
	return fmt.Errorf("uninstalling %q: %w", name, denied(err))
}

// purge deletes the records of a release, the last one last: a run that dies
// over it leaves what the next one needs.
func (c *Client) purge(ctx context.Context, namespace, name string) error {
	list, err := c.records(ctx, namespace, name)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(list) {
		err := c.cluster.Clientset().CoreV1().Secrets(namespace).Delete(ctx, r.secret, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting the record of revision %d of release %q: %w", r.number, name, denied(err))
		}
	}
	return nil
}

// DeleteWithPropagationPolicy deletes what goes with a release, and keeps why
// it could not: Helm says no more than that it failed. Of the objects, Helm
// names those of the last revision alone.
func (c *client) DeleteWithPropagationPolicy(list helmkube.ResourceList, policy metav1.DeletionPropagation) (*helmkube.Result, []error) {
	c.mutated, c.deleted = true, true
	result, errs := &helmkube.Result{}, []error(nil)
	if going := c.mortal(list); len(going) > 0 { // of none, Helm makes an error
		result, errs = c.Client.DeleteWithPropagationPolicy(going, policy)
	}
	named := map[key]bool{}
	for _, i := range list {
		named[keyOf(i)] = true
	}
	for _, ch := range c.going {
		if named[ch.key()] {
			continue
		}
		if err := c.engine.discard(c.ctx, ch, policy); err != nil {
			errs = append(errs, fmt.Errorf("deleting %s: %w", ch.key(), err))
		}
	}
	c.left = errors.Join(errs...)
	return result, errs
}

// mortal leaves out of a list what is to stay.
func (c *client) mortal(list helmkube.ResourceList) helmkube.ResourceList {
	return list.Filter(func(i *resource.Info) bool { return !c.spared[keyOf(i)] })
}

func keyOf(i *resource.Info) key {
	k := key{i.Mapping.GroupVersionKind.Group, i.Mapping.GroupVersionKind.Kind, i.Namespace, i.Name}
	if !i.Namespaced() {
		k.namespace = ""
	}
	return k
}

// allGone waits until everything is gone that goes with the release.
func (c *client) allGone(timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(c.ctx, timeout, fmt.Errorf("not deleted after %s", timeout))
	defer cancel()
	return each(c.ctx, len(c.going), func(i int) error { return c.engine.untilGone(ctx, c.going[i]) })
}

// left finds what is still there of a release beside its objects: its hooks,
// the kinds of its crds folder, the claims of its stateful sets.
func (c *Client) left(ctx context.Context, own *client, rel *release.Release) ([]Left, error) {
	var out []Left
	find := func(manifest, why string) error {
		list, err := own.Build(bytes.NewBufferString(manifest), false)
		if err != nil {
			return fmt.Errorf("reading %q: %w", why, err)
		}
		for _, i := range list {
			switch _, err := resource.NewHelper(i.Client, i.Mapping).Get(i.Namespace, i.Name); {
			case err == nil:
				api, kind := i.Mapping.GroupVersionKind.ToAPIVersionAndKind()
				out = append(out, Left{rollout.Ref{APIVersion: api, Kind: kind, Namespace: i.Namespace, Name: i.Name}, why})
			case !apierrors.IsNotFound(err) && !kube.Denied(err): // who may not look there says nothing of it
				return fmt.Errorf("looking for %s: %w", i.ObjectName(), err)
			}
		}
		return nil
	}
	for _, h := range rel.Hooks {
		if err := find(h.Manifest, "it is a hook, which Helm leaves"); err != nil {
			return out, err
		}
	}
	if rel.Chart != nil {
		for _, crd := range rel.Chart.CRDObjects() {
			if err := find(string(crd.File.Data), everything); err != nil {
				return out, err
			}
		}
	}
	claims, err := c.claims(ctx, rel)
	return append(out, claims...), err
}

// claims finds the volume claims that the stateful sets of a release made.
func (c *Client) claims(ctx context.Context, rel *release.Release) ([]Left, error) {
	docs, err := documents(rel.Manifest)
	if err != nil {
		return nil, err
	}
	var out []Left
	for _, u := range rollout.Objects(docs, rel.Namespace) {
		if u.GroupVersionKind() != appsv1.SchemeGroupVersion.WithKind("StatefulSet") {
			continue
		}
		var set appsv1.StatefulSet
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &set); err != nil {
			return out, fmt.Errorf("reading %s: %w", rollout.RefOf(u), err)
		}
		if len(set.Spec.VolumeClaimTemplates) == 0 {
			continue
		}
		list, err := c.cluster.Clientset().CoreV1().PersistentVolumeClaims(set.Namespace).List(ctx, metav1.ListOptions{})
		if kube.Denied(err) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("listing the claims of %s: %w", rollout.RefOf(u), err)
		}
		for _, t := range set.Spec.VolumeClaimTemplates {
			own := regexp.MustCompile("^" + regexp.QuoteMeta(t.Name+"-"+set.Name) + "-[0-9]+$")
			for _, claim := range list.Items {
				if own.MatchString(claim.Name) && claim.DeletionTimestamp == nil {
					out = append(out, Left{rollout.Ref{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name},
						"data of StatefulSet " + set.Name + ": a person deletes it"})
				}
			}
		}
	}
	return out, nil
}
