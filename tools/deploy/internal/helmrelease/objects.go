package helmrelease

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// What Helm marks the objects of a release with.
const (
	managedBy        = "app.kubernetes.io/managed-by"
	releaseName      = "meta.helm.sh/release-name"
	releaseNamespace = "meta.helm.sh/release-namespace"
)

// object is one object of a manifest.
type object struct {
	*unstructured.Unstructured
	source  string // the template that made it
	gvr     schema.GroupVersionResource
	unknown bool // the server does not know its kind
	shared  bool // a definition of a crds folder: it is no release's own
}

// key names an object across versions of its kind.
type key struct {
	group, kind, namespace, name string
}

func (o object) key() key {
	gvk := o.GroupVersionKind()
	return key{gvk.Group, gvk.Kind, o.GetNamespace(), o.GetName()}
}

// object is the key for others to read, without the version of its kind.
func (k key) object() Object {
	return Object{GroupVersionKind: schema.GroupVersionKind{Group: k.group, Kind: k.kind}, Namespace: k.namespace, Name: k.name}
}

// String names the object as people do.
func (k key) String() string {
	if k.namespace == "" {
		return k.kind + " " + k.name
	}
	return k.kind + " " + k.namespace + "/" + k.name
}

// parse reads the objects of a manifest in their order. Lists are opened.
func parse(manifest string) ([]object, error) {
	var out []object
	source := ""
	for r := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the rendered manifest: %w", err)
		}
		if s := sourceOf(doc); s != "" {
			source = s
		}
		raw, err := utilyaml.ToJSON(doc)
		var m map[string]any
		if err == nil {
			err = utiljson.Unmarshal(raw, &m)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: reading a rendered object: %w", source, err)
		}
		for _, one := range open(m) {
			out = append(out, object{Unstructured: &unstructured.Unstructured{Object: one}, source: source})
		}
	}
}

// sourceOf returns the template that Helm names above what it rendered.
func sourceOf(doc []byte) string {
	for line := range bytes.Lines(doc) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "# Source: "); ok {
			return name
		}
	}
	return ""
}

// open returns the objects of a document: one, those of a list, or none.
func open(m map[string]any) []map[string]any {
	if len(m) == 0 {
		return nil
	}
	items, ok := m["items"].([]any)
	if kind, _ := m["kind"].(string); !ok || !strings.HasSuffix(kind, "List") {
		return []map[string]any{m}
	}
	var out []map[string]any
	for _, i := range items {
		if one, ok := i.(map[string]any); ok {
			out = append(out, open(one)...)
		}
	}
	return out
}

// documents decodes the objects of a manifest.
func documents(manifest string) ([]map[string]any, error) {
	list, err := parse(manifest)
	if err != nil {
		return nil, err
	}
	var out []map[string]any
	for _, o := range list {
		out = append(out, o.Object)
	}
	return out, nil
}

// place gives the objects their resource and, where they name none, the
// release's namespace. A kind that the server does not know is only noted.
func (c *Client) place(list []object, namespace string) error {
	mapper, err := c.cluster.Mapper()
	if err != nil {
		return err
	}
	for i := range list {
		o := &list[i]
		gvk := o.GroupVersionKind()
		m, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if meta.IsNoMatchError(err) {
			o.unknown = true
			continue
		}
		if err != nil {
			return fmt.Errorf("finding the resource of kind %s: %w", gvk, err)
		}
		o.unknown, o.gvr = false, m.Resource
		switch {
		case m.Scope.Name() != meta.RESTScopeNameNamespace:
			o.SetNamespace("")
		case o.GetNamespace() == "":
			o.SetNamespace(namespace)
		}
	}
	return nil
}

// objects reads a manifest and places what is in it.
func (c *Client) objects(manifest, namespace string) ([]object, error) {
	list, err := parse(manifest)
	if err != nil {
		return nil, err
	}
	return list, c.place(list, namespace)
}

// own marks objects as the release's.
func own(list []object, name, namespace string) {
	for _, o := range list {
		l := o.GetLabels()
		if l == nil {
			l = map[string]string{}
		}
		l[managedBy] = "Helm"
		o.SetLabels(l)
		mark(o, name, namespace)
	}
}

// mark notes on an object whose it is.
func mark(o object, name, namespace string) {
	a := o.GetAnnotations()
	if a == nil {
		a = map[string]string{}
	}
	a[releaseName], a[releaseNamespace] = name, namespace
	o.SetAnnotations(a)
}

// qualified names a release in its namespace.
func qualified(namespace, name string) string { return namespace + "/" + name }

// ownerOf returns the release that a live object is marked with, "" for none.
func ownerOf(live *unstructured.Unstructured) string {
	a := live.GetAnnotations()
	if a[releaseName] == "" {
		return ""
	}
	return qualified(a[releaseNamespace], a[releaseName])
}

// foreign returns the release that a live object is marked with where it is
// another one than ours.
func foreign(live *unstructured.Unstructured, ours string) string {
	if owner := ownerOf(live); owner != ours {
		return owner
	}
	return ""
}

// kept reports whether an object stays when its release lets go of it.
func kept(o *unstructured.Unstructured) bool {
	return o.GetAnnotations()["helm.sh/resource-policy"] == "keep"
}

// crdGroup is the group of the kinds of kinds.
const crdGroup = "apiextensions.k8s.io"

func isCRD(o object) bool {
	gvk := o.GroupVersionKind()
	return gvk.Kind == "CustomResourceDefinition" && gvk.Group == crdGroup
}
