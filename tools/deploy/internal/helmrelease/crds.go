package helmrelease

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gitlab.com/slipway/slipway/pkg/rollout"
)

// definer is the field manager of definitions: they are applied on the server's
// side, where no annotation limits their size.
const definer = "slipway-deploy"

// chartCRDs reads the definitions of a chart's crds folders, its subcharts'
// included. Helm itself installs those once and never upgrades them.
func chartCRDs(c *Chart) ([]object, error) {
	var out []object
	for _, f := range c.c.CRDObjects() {
		list, err := parse(string(f.File.Data))
		if err != nil {
			return nil, fmt.Errorf("reading %q of chart %q: %w", f.Filename, c.Name(), err)
		}
		for _, o := range list {
			o.source, o.shared = f.Filename, true
			out = append(out, o)
		}
	}
	return out, nil
}

// versionsOf are what the definitions add to the capabilities of the cluster,
// since they are there before the release is.
func versionsOf(definitions []object) []string {
	var out []string
	for _, o := range definitions {
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
		for _, name := range versionNames(o.Object, "served") {
			out = append(out, group+"/"+name, group+"/"+name+"/"+kind)
		}
	}
	return out
}

// versionNames are the versions of a definition, those with a field set alone
// where one is named.
func versionNames(definition map[string]any, only string) []string {
	versions, _, _ := unstructured.NestedSlice(definition, "spec", "versions")
	var out []string
	for _, v := range versions {
		m, _ := v.(map[string]any)
		if name, _ := m["name"].(string); only == "" || m[only] == true {
			out = append(out, name)
		}
	}
	return out
}

// planCRDs works out what becomes of the definitions.
func (c *Client) planCRDs(ctx context.Context, p *Plan, l Look, definitions []object) ([]change, error) {
	changes := make([]change, len(definitions))
	for i, o := range definitions {
		changes[i] = change{object: o, action: Create}
	}
	found := make([]Problem, len(changes))
	err := each(ctx, len(changes), func(i int) (err error) {
		if err = c.look(ctx, &changes[i]); err != nil {
			return err
		}
		if !p.barred[changes[i].key()] {
			found[i], err = c.tryCRD(ctx, &changes[i], l)
		}
		return err
	})
	p.find(found...)
	return changes, err
}

func (c *Client) tryCRD(ctx context.Context, ch *change, l Look) (Problem, error) {
	if ch.unknown {
		return unknownKind(ch), nil
	}
	if ch.live != nil {
		ch.action = Update
		if lost := lostVersions(ch); len(lost) > 0 {
			return Problem{Class: ClassVersion, Source: ch.source, Object: ch.key().String(),
				Message: "it drops the version " + strings.Join(lost, ", ") + ", in which objects are stored",
				Next:    "migrate the stored objects first and take the version out of status.storedVersions; until then the chart must keep it"}, nil
		}
	}
	out, err := c.applyCRD(ctx, ch, true)
	if err != nil {
		f, err := judge(ch, err, func(string) bool { return false })
		if f.Class == ClassRights && l.Lenient {
			f.Class, f.Warning, f.Next = ClassUnchecked, true, ""
		}
		return f, err
	}
	ch.checked, ch.result = true, out
	if ch.live != nil && sameObject(ch.live, out) {
		ch.action, ch.result = None, ch.live
	}
	return Problem{}, nil
}

// lostVersions are the stored versions that a definition does not have any more.
func lostVersions(ch *change) []string {
	stored, _, _ := unstructured.NestedStringSlice(ch.live.Object, "status", "storedVersions")
	has := versionNames(ch.Object, "")
	return slices.DeleteFunc(stored, func(v string) bool { return slices.Contains(has, v) })
}

func (c *Client) applyCRD(ctx context.Context, ch *change, dry bool) (*unstructured.Unstructured, error) {
	o := metav1.ApplyOptions{FieldManager: definer, Force: true}
	if dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return c.cluster.Dynamic().Resource(ch.gvr).Apply(ctx, ch.GetName(), ch.Unstructured, o)
}

// applyCRDs applies the definitions that change and waits until the server
// serves their kinds. It reports whether it wrote any, or may have.
func (c *Client) applyCRDs(ctx context.Context, p *Plan, timeout time.Duration) (bool, error) {
	changed := slices.DeleteFunc(slices.Clone(p.crds), func(ch change) bool { return ch.action == None })
	if len(changed) == 0 {
		return false, nil
	}
	var applied atomic.Bool
	err := each(ctx, len(changed), func(i int) error {
		wrote, err := c.writeCRD(ctx, &changed[i])
		if wrote {
			applied.Store(true)
		}
		return err
	})
	if err != nil {
		return applied.Load(), denied(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not served after %s", timeout))
	defer cancel()
	if _, err := c.watcher.Wait(ctx, results(changed), rollout.Options{}); err != nil {
		return applied.Load(), fmt.Errorf("establishing the kinds of release %q: %w", p.Spec.Name, err)
	}
	return applied.Load(), c.served(ctx, changed)
}

// writeCRD applies a definition, and reports whether it became another one by
// that: somebody may have applied the same since it was planned.
func (c *Client) writeCRD(ctx context.Context, ch *change) (wrote bool, err error) {
	if err := c.look(ctx, ch); err != nil {
		return false, err
	}
	if ch.result, err = c.applyCRD(ctx, ch, false); err != nil {
		var refused apierrors.APIStatus
		wrote = !errors.As(err, &refused) || refused.Status().Code >= http.StatusInternalServerError
		return wrote, fmt.Errorf("applying %s: %w", ch.key(), err)
	}
	return ch.live == nil || ch.live.GetResourceVersion() != ch.result.GetResourceVersion(), nil
}

// served waits until the server tells of the kinds that were defined. What it
// tells follows the definitions a moment later, and cannot be watched.
func (c *Client) served(ctx context.Context, definitions []change) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if err := c.cluster.Refresh(); err != nil {
			return err
		}
		missing := slices.IndexFunc(definitions, func(ch change) bool { return !c.serves(ch) })
		if missing < 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until the server tells of %s: %w", definitions[missing].key(), context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

func (c *Client) serves(definition change) bool {
	spec, _, _ := unstructured.NestedMap(definition.Object, "spec")
	group, _ := spec["group"].(string)
	kind, _, _ := unstructured.NestedString(spec, "names", "kind")
	for _, version := range versionNames(definition.Object, "served") {
		if _, _, err := c.cluster.Resource(schema.GroupVersionKind{Group: group, Version: version, Kind: kind}); err != nil {
			return false
		}
	}
	return true
}
