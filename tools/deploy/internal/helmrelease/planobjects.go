package helmrelease

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Found are the plan's objects that were live before it was carried out, as
// people name them. Definitions of a crds folder are left out: they stay when
// their release goes.
func (p *Plan) Found() []string {
	manifest, _ := parse(p.rel.Manifest) // it was read when the plan was made
	definitions := map[string]bool{}
	for _, o := range manifest {
		if isCRD(o) {
			definitions[o.GetName()] = true
		}
	}
	folder := func(ch change) bool { return isCRD(ch.object) && !definitions[ch.GetName()] }
	var out []string
	for _, ch := range slices.Concat(p.crds, p.changes) {
		if name := ch.key().String(); ch.live != nil && !folder(ch) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// Brings are the objects that the release would own, without the version of
// their kind. Hooks are made anew by whoever runs them, and objects of a kind
// that the server does not know yet have no certain place.
func (p *Plan) Brings() []Object {
	var out []Object
	for _, ch := range p.changes {
		if ch.action == Delete || ch.action == Keep || ch.unknown || ch.GetName() == "" {
			continue
		}
		k := ch.key()
		one := Object{Namespace: k.namespace, Name: k.name}
		one.Group, one.Kind = k.group, k.kind
		out = append(out, one)
	}
	return out
}

// String names the object as people do.
func (o Object) String() string { return key{o.Group, o.Kind, o.Namespace, o.Name}.String() }

// Objects are the objects that the release consists of, as a look takes them.
func (p *Plan) Objects() []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, ch := range p.changes {
		if ch.action != Delete && ch.action != Keep && !ch.unknown {
			out = append(out, ch.Unstructured)
		}
	}
	return out
}

// HookLine reports whether a line of progress is what a hook wrote: those begin
// with its name, and those of a wait with a number.
func HookLine(line string) bool { return strings.HasPrefix(line, "hook ") }
