package helmrelease

import (
	"bytes"
	"encoding/json"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
)

// patch is what brings an object from what it is to what it should be.
type patch struct {
	kind types.PatchType
	body []byte
}

func (p patch) empty() bool { return len(p.body) == 0 || string(p.body) == "{}" }

// builtIn returns the patch rules of a kind that is part of Kubernetes, nil
// for custom resources, whose lists are replaced as a whole.
func builtIn(gvk schema.GroupVersionKind) (strategicpatch.LookupPatchMeta, error) {
	if gvk.Group == crdGroup || !scheme.Scheme.Recognizes(gvk) {
		return nil, nil
	}
	typed, err := scheme.Scheme.New(gvk)
	if err != nil {
		return nil, fmt.Errorf("finding the type of %s: %w", gvk, err)
	}
	rules, err := strategicpatch.NewPatchMetaFromStruct(typed)
	if err != nil {
		return nil, fmt.Errorf("reading the type of %s: %w", gvk, err)
	}
	return rules, nil
}

// makePatch compares three states as Helm does: what was asked for before says
// which fields to take away, what is live says which to set. Where a failed
// revision was applied after the deployed one, both were asked for: olds has
// them in their order. Without any, nothing is taken away.
func makePatch(olds []*unstructured.Unstructured, wanted, live *unstructured.Unstructured) (patch, error) {
	rules, err := builtIn(wanted.GroupVersionKind())
	if err != nil {
		return patch{}, err
	}
	if len(olds) == 0 {
		olds = []*unstructured.Unstructured{wanted}
	}
	now, err := json.Marshal(live)
	if err != nil {
		return patch{}, fmt.Errorf("encoding the live object: %w", err)
	}
	will, err := json.Marshal(wanted)
	if err != nil {
		return patch{}, fmt.Errorf("encoding the wanted object: %w", err)
	}
	next, p := now, patch{}
	for _, old := range olds {
		was, err := json.Marshal(old)
		if err != nil {
			return patch{}, fmt.Errorf("encoding the stored object: %w", err)
		}
		if p, err = threeWay(rules, was, will, next); err != nil {
			return patch{}, fmt.Errorf("making the patch: %w", err)
		}
		if next, err = p.apply(rules, next); err != nil {
			return patch{}, err
		}
	}
	if len(olds) == 1 {
		return p, nil
	}
	return twoWay(rules, now, next)
}

func threeWay(rules strategicpatch.LookupPatchMeta, was, will, now []byte) (patch, error) {
	if rules != nil {
		body, err := strategicpatch.CreateThreeWayMergePatch(was, will, now, rules, true)
		return patch{types.StrategicMergePatchType, body}, err
	}
	body, err := jsonmergepatch.CreateThreeWayJSONMergePatch(was, will, now,
		mergepatch.RequireKeyUnchanged("kind"), mergepatch.RequireMetadataKeyUnchanged("name"))
	return patch{types.MergePatchType, body}, err
}

func twoWay(rules strategicpatch.LookupPatchMeta, now, next []byte) (patch, error) {
	if bytes.Equal(now, next) {
		return patch{kind: types.MergePatchType}, nil
	}
	if rules != nil {
		body, err := strategicpatch.CreateTwoWayMergePatchUsingLookupPatchMeta(now, next, rules)
		return patch{types.StrategicMergePatchType, body}, err
	}
	body, err := jsonpatch.CreateMergePatch(now, next)
	return patch{types.MergePatchType, body}, err
}

// apply returns what the patch makes of an object, without the server.
func (p patch) apply(rules strategicpatch.LookupPatchMeta, to []byte) (out []byte, err error) {
	switch {
	case p.empty():
		return to, nil
	case p.kind == types.StrategicMergePatchType:
		out, err = strategicpatch.StrategicMergePatchUsingLookupPatchMeta(to, p.body, rules)
	default:
		out, err = jsonpatch.MergePatch(to, p.body)
	}
	if err != nil {
		return nil, fmt.Errorf("applying the patch: %w", err)
	}
	return out, nil
}

// local is what the patch makes of the live object where the server may not be
// asked: without its defaults and its webhooks.
func (p patch) local(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	rules, err := builtIn(live.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(live)
	if err != nil {
		return nil, fmt.Errorf("encoding the live object: %w", err)
	}
	if raw, err = p.apply(rules, raw); err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("reading the patched object: %w", err)
	}
	return out, nil
}
