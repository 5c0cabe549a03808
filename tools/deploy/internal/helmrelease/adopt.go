package helmrelease

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// OwnerLabel is on the records of releases that are ours.
const (
	OwnerLabel = "slipway.dev/managed-by"
	ownerValue = "slipway-deploy"
)

// What flux notes on the objects of the releases that it makes.
const (
	fluxName      = "helm.toolkit.fluxcd.io/name"
	fluxNamespace = "helm.toolkit.fluxcd.io/namespace"
)

// Adoption is something that a release would take over.
type Adoption struct {
	Object  rollout.Ref `json:"object"`
	Was     string      `json:"was"`               // whose it is now
	Problem string      `json:"problem,omitempty"` // why it cannot be taken over

	live     *unstructured.Unstructured
	resource schema.GroupVersionResource
	revision int // of a record; 0 for an object
}

// Adoptable finds what is there of a release and is not ours: its record, and
// the objects that its chart renders. It changes nothing.
// Templates may read the cluster where lookup is set. What a service may not
// bring is refused, as it is when it is released.
func (c *Client) Adoptable(ctx context.Context, s Spec, lookup bool) ([]Adoption, error) {
	if s.Tenant {
		if err := c.Bounds(ctx, s); err != nil {
			return nil, err
		}
	}
	state, err := c.Read(ctx, s.Namespace, s.Name)
	if err != nil {
		return nil, err
	}
	var out []Adoption
	installed := state.Last != nil && state.Last.Status != string(release.StatusUninstalled)
	if installed {
		a, ours, err := c.adoptableRecord(ctx, s, state.Last)
		if err != nil {
			return nil, err
		}
		if !ours || a.Problem != "" {
			out = append(out, a)
		}
		if a.Problem != "" {
			return out, nil
		}
	}
	rel, err := c.render(ctx, s, state, lookup, nil)
	if err != nil {
		return nil, err
	}
	docs, err := documents(rel.Manifest)
	if err != nil {
		return nil, err
	}
	for _, u := range rollout.Objects(docs, s.Namespace) {
		a, ours, err := c.adoptableObject(ctx, s, u)
		if err != nil {
			return nil, err
		}
		if !ours {
			out = append(out, a)
		}
	}
	return out, nil
}

func (c *Client) adoptableRecord(ctx context.Context, s Spec, last *Revision) (a Adoption, ours bool, err error) {
	r, err := c.load(ctx, s.Namespace, s.Name, last.Number)
	if err != nil {
		return Adoption{}, false, err
	}
	a = Adoption{Object: rollout.Ref{APIVersion: "v1", Kind: "Secret", Namespace: s.Namespace, Name: r.secret.Name}, revision: last.Number,
		Was: fmt.Sprintf("revision %d of release %s, made by somebody else", last.Number, s.Name)}
	if last.Pending {
		a.Problem = "somebody is at work on it, or died over it: it is " + last.Status
	}
	return a, r.secret.Labels[OwnerLabel] == ownerValue, nil
}

func (c *Client) adoptableObject(ctx context.Context, s Spec, u *unstructured.Unstructured) (a Adoption, ours bool, err error) {
	gvr, namespaced, err := c.cluster.Resource(u.GroupVersionKind())
	if err != nil {
		return Adoption{}, true, nil //nolint:nilerr // a kind that the chart itself brings: nothing of it is there
	}
	if !namespaced {
		u.SetNamespace("")
	}
	live, err := c.object(gvr, u.GetNamespace()).Get(ctx, u.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Adoption{}, true, nil
	}
	if err != nil {
		return Adoption{}, false, fmt.Errorf("looking for %s: %w", rollout.RefOf(u), denied(err))
	}
	a = Adoption{Object: rollout.RefOf(u), live: live, resource: gvr, Was: "without an owner"}
	name, namespace := live.GetAnnotations()[releaseName], live.GetAnnotations()[releaseNamespace]
	other := name != "" && (name != s.Name || namespace != s.Namespace)
	owner := metav1.GetControllerOf(live)
	flux, err := c.flux(ctx, live)
	switch {
	case err != nil:
		return Adoption{}, false, err
	case flux != "":
		a.Was, a.Problem = "of "+flux, "flux would put it back: suspend or delete "+flux+" first, keeping its objects"
	case owner != nil:
		a.Was, a.Problem = "of "+owner.Kind+" "+owner.Name, "its owner makes it anew"
	case other:
		if err := c.disown(ctx, &a, namespace, name); err != nil {
			return Adoption{}, false, err
		}
	case name != "" && live.GetLabels()[managedBy] == "Helm":
		return Adoption{}, true, nil
	}
	return a, false, nil
}

// disown finds out what an object is to the release that it is marked with.
func (c *Client) disown(ctx context.Context, a *Adoption, namespace, name string) error {
	release := qualified(namespace, name)
	a.Was = "of release " + release + ", which is gone"
	state, err := c.Read(ctx, namespace, name)
	if err != nil || state.Last == nil {
		return err
	}
	asked, err := c.asked(ctx, state, namespace)
	if err != nil {
		return err
	}
	a.Was = "of release " + release + ", whose chart does not have it any more"
	own := object{Unstructured: a.live}.key()
	if slices.ContainsFunc(asked, func(m []object) bool { return slices.ContainsFunc(m, func(o object) bool { return o.key() == own }) }) {
		a.Was = "of release " + release
		a.Problem = "that release has it: take the object out of its chart, with " + `the annotation "helm.sh/resource-policy: keep" on the object, and release it`
	}
	return nil
}

// flux returns the HelmRelease that an object belongs to, where there still is one.
func (c *Client) flux(ctx context.Context, live *unstructured.Unstructured) (string, error) {
	name, namespace := live.GetLabels()[fluxName], live.GetLabels()[fluxNamespace]
	if name == "" {
		return "", nil
	}
	gvr, _, err := c.cluster.Resource(schema.GroupVersionKind{Group: "helm.toolkit.fluxcd.io", Version: "v2", Kind: "HelmRelease"})
	if err != nil {
		return "", nil //nolint:nilerr // flux is not there any more
	}
	switch _, err = c.object(gvr, namespace).Get(ctx, name, metav1.GetOptions{}); {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("looking for HelmRelease %s/%s: %w", namespace, name, denied(err))
	}
	return "HelmRelease " + namespace + "/" + name, nil
}

func (c *Client) object(gvr schema.GroupVersionResource, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return c.cluster.Dynamic().Resource(gvr)
	}
	return c.cluster.Dynamic().Resource(gvr).Namespace(namespace)
}

// Adopt takes over what Adoptable found. It writes labels and annotations and
// nothing else, and no object that has changed since it was looked at.
func (c *Client) Adopt(ctx context.Context, s Spec, list []Adoption) error {
	for i, a := range list {
		err := c.adopt(ctx, s, a)
		if err == nil {
			continue
		}
		var taken []string
		for _, done := range list[:i] {
			taken = append(taken, done.Object.String())
		}
		if len(taken) == 0 {
			return err
		}
		hint := "taken over before that, and stay so: " + strings.Join(taken, ", ") + "; the next adoption goes on with the rest"
		if ctx.Err() != nil {
			return tool.Hint(err, hint)
		}
		return tool.Exit(tool.Broken, err, hint)
	}
	return nil
}

func (c *Client) adopt(ctx context.Context, s Spec, a Adoption) error {
	if a.revision > 0 {
		return c.adoptRecord(ctx, s, a.revision)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": a.live.GetResourceVersion(),
		"labels":          map[string]string{managedBy: "Helm"},
		"annotations":     map[string]string{releaseName: s.Name, releaseNamespace: s.Namespace},
	}})
	if err == nil {
		_, err = c.object(a.resource, a.live.GetNamespace()).Patch(ctx, a.live.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "slipway-deploy"})
	}
	if err != nil {
		return fmt.Errorf("adopting %s: %w", a.Object, denied(err))
	}
	return nil
}

func (c *Client) adoptRecord(ctx context.Context, s Spec, revision int) error {
	r, err := c.load(ctx, s.Namespace, s.Name, revision)
	if err != nil {
		return err
	}
	r.secret.Labels[OwnerLabel] = ownerValue
	if _, err := c.cluster.Clientset().CoreV1().Secrets(s.Namespace).Update(ctx, r.secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("adopting the record of revision %d of release %q: %w", revision, s.Name, denied(err))
	}
	return nil
}
