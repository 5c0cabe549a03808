package helmrelease

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Found are the plan's objects that were live before it was carried out, as
// people name them. Definitions of a crds folder are left out: they stay when
// their release goes.
func (p *Plan) Found() []string {
	var out []string
	for _, ch := range slices.Concat(p.crds, p.changes) {
		if name := ch.key().String(); ch.live != nil && !ch.shared && !slices.Contains(out, name) {
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
		out = append(out, ch.key().object())
	}
	return out
}

// TakesOver are the objects that are live and that no manifest of the release
// had until now.
func (p *Plan) TakesOver() []Object {
	if p == nil { // nothing was planned: a stored revision is brought back
		return nil
	}
	return p.takesOver
}

func (o Object) key() key { return key{o.Group, o.Kind, o.Namespace, o.Name} }

// String names the object as people do.
func (o Object) String() string { return o.key().String() }

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
