package helmrelease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

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
	list, err := c.records(ctx, namespace, name)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	last, err := c.load(ctx, namespace, name, list[0].number)
	if err != nil {
		return nil, err
	}
	rel := last.rel
	objects, err := own.Build(bytes.NewBufferString(rel.Manifest), false)
	if err != nil {
		return nil, fmt.Errorf("reading the objects of release %q: %w", name, err)
	}
	objects = objects.Filter(func(i *resource.Info) bool { return !keep(rel.Manifest, i) })
	if rel.Info.Status != release.StatusUninstalled {
		u := action.NewUninstall(cfg)
		u.KeepHistory, u.Wait, u.Timeout, u.DeletionPropagation = true, true, w.Timeout, "foreground"
		if _, err := u.Run(name); err != nil {
			return nil, uninstallError(ctx, name, own, err)
		}
	} else if err := own.WaitForDelete(objects, w.Timeout); err != nil { // an earlier run got as far as that
		return nil, uninstallError(ctx, name, own, err)
	}
	left, err := c.left(ctx, own, rel)
	if err != nil {
		return left, fmt.Errorf("finding what release %q leaves: %w", name, err)
	}
	return left, c.purge(ctx, namespace, name)
}

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

// DeleteWithPropagationPolicy deletes objects, and keeps why it could not:
// Helm says no more than that it failed.
func (c *client) DeleteWithPropagationPolicy(list helmkube.ResourceList, policy metav1.DeletionPropagation) (*helmkube.Result, []error) {
	c.mutated = true
	result, errs := c.Client.DeleteWithPropagationPolicy(list, policy)
	c.left = errors.Join(errs...)
	return result, errs
}

// keep reports whether Helm leaves an object when its release goes.
func keep(manifest string, i *resource.Info) bool {
	docs, err := documents(manifest)
	if err != nil {
		return false
	}
	for _, d := range docs {
		m, _ := d["metadata"].(map[string]any)
		a, _ := m["annotations"].(map[string]any)
		if d["kind"] == i.Mapping.GroupVersionKind.Kind && m["name"] == i.Name && a[helmkube.ResourcePolicyAnno] == helmkube.KeepPolicy {
			return true
		}
	}
	return false
}

// left finds what is still there of a release: what its chart keeps, its hooks,
// the kinds of its crds folder, the claims of its stateful sets.
func (c *Client) left(ctx context.Context, own *client, rel *release.Release) ([]Left, error) {
	var out []Left
	find := func(manifest, why string, is func(*resource.Info) bool) error {
		list, err := own.Build(bytes.NewBufferString(manifest), false)
		if err != nil {
			return fmt.Errorf("reading %q: %w", why, err)
		}
		for _, i := range list {
			if !is(i) {
				continue
			}
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
	all := func(*resource.Info) bool { return true }
	if err := find(rel.Manifest, "its chart says keep ("+helmkube.ResourcePolicyAnno+")", func(i *resource.Info) bool { return keep(rel.Manifest, i) }); err != nil {
		return out, err
	}
	for _, h := range rel.Hooks {
		if err := find(h.Manifest, "it is a hook, which Helm leaves", all); err != nil {
			return out, err
		}
	}
	if rel.Chart != nil {
		for _, crd := range rel.Chart.CRDObjects() {
			if err := find(string(crd.File.Data), "deleting a kind deletes everything of that kind", all); err != nil {
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
