package helmrelease

import (
	"encoding/base64"
	"fmt"
	"slices"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Err returns everything that stands against the plan, nil where nothing does.
// Whether nothing was changed is for the caller to say: a plan may be one of many.
func (p *Plan) Err() error { return refusals(p.Spec.Name, p.Problems) }

// Unchanged reports whether carrying the plan out would change nothing: what
// is rendered is what is stored, and nobody changed the objects since.
func (p *Plan) Unchanged() bool {
	return p.same && p.Err() == nil && !slices.ContainsFunc(slices.Concat(p.crds, p.changes), func(ch change) bool {
		return ch.action != None && ch.action != Keep
	})
}

// NewOrigin reports whether the record says that the release was made of
// something else, a commit or a bundle, that comes to the same objects.
func (p *Plan) NewOrigin() bool { return p.different }

// NewNamespace reports whether the release's namespace has to be made first.
func (p *Plan) NewNamespace() bool { return p.unmade }

// Kinds are the kinds that the release's own definitions bring.
func (p *Plan) Kinds() map[schema.GroupKind]bool {
	out := map[schema.GroupKind]bool{}
	for _, ch := range p.crds {
		group, _, _ := unstructured.NestedString(ch.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(ch.Object, "spec", "names", "kind")
		out[schema.GroupKind{Group: group, Kind: kind}] = true
	}
	return out
}

// Change is what becomes of one object, for showing: both sides are without
// what the server notes for itself and without secrets.
type Change struct {
	Object  string
	Source  string
	Action  string
	Hook    bool
	Checked bool // the server tried it
	Before  map[string]any
	After   map[string]any
}

// Changes are all objects of the plan, hooks last: those run anew each time.
func (p *Plan) Changes() []Change {
	var out []Change
	for i, list := range [][]change{p.crds, p.changes, p.hooks} {
		for _, ch := range list {
			one := Change{Object: ch.key().String(), Source: ch.source, Action: ch.action, Hook: i == 2, Checked: ch.checked}
			if ch.live != nil {
				one.Before = p.masker.Object(Tidy(ch.live))
			}
			switch after := ch.result; {
			case ch.action == Delete:
			case ch.action == Keep:
				one.After = one.Before
			case after == nil:
				one.After = p.masker.Object(Tidy(ch.Unstructured))
			default:
				one.After = p.masker.Object(Tidy(after))
			}
			out = append(out, one)
		}
	}
	return p.hookChanges(out)
}

// hookChanges compares hooks with those of the stored revision: they have no
// live object that would say anything.
func (p *Plan) hookChanges(all []Change) []Change {
	before := map[string]map[string]any{}
	if d := p.State.Deployed; d != nil {
		for _, h := range d.record.rel.Hooks {
			list, _ := parse(h.Manifest) // it was read when it ran
			for _, o := range list {
				before[o.GetKind()+" "+o.GetName()] = p.bare(o)
			}
		}
	}
	for i, h := range p.hooks {
		ch := &all[len(p.crds)+len(p.changes)+i]
		name := h.GetKind() + " " + h.GetName()
		ch.Before, ch.After, ch.Action = before[name], p.bare(h.object), Update
		delete(before, name)
		switch {
		case ch.Before == nil:
			ch.Action = Create
		case equality.Semantic.DeepEqual(ch.Before, ch.After):
			ch.Action = None
		}
	}
	for name, o := range before {
		all = append(all, Change{Object: name, Action: Delete, Hook: true, Before: o})
	}
	return all
}

// bare is an object as its template has it, without secrets.
func (p *Plan) bare(o object) map[string]any {
	u := o.DeepCopy()
	u.SetNamespace("")
	return p.masker.Object(Tidy(u))
}

// Tidy returns a copy of an object without what the server notes for itself.
func Tidy(u *unstructured.Unstructured) map[string]any {
	out := u.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(out.Object, "metadata", field)
	}
	a := out.GetAnnotations()
	delete(a, "kubectl.kubernetes.io/last-applied-configuration")
	delete(a, "deployment.kubernetes.io/revision")
	out.SetAnnotations(a)
	if len(a) == 0 {
		unstructured.RemoveNestedField(out.Object, "metadata", "annotations")
	}
	delete(out.Object, "status")
	return out.Object
}

func sameObject(a, b *unstructured.Unstructured) bool {
	return equality.Semantic.DeepEqual(Tidy(a), Tidy(b))
}

// mask hides secrets in an error that a template or the server worded.
func (p *Plan) mask(err error) error {
	if err == nil || p.masker == nil {
		return err
	}
	if text := p.masker.Text(err.Error()); text != err.Error() {
		return maskedError{text, err}
	}
	return err
}

type maskedError struct {
	text string
	err  error
}

// Error returns the text without secrets.
func (m maskedError) Error() string { return m.text }

// Unwrap returns the cause, for its code.
func (m maskedError) Unwrap() error { return m.err }

// recordLimit is what the API server takes as the data of one Secret.
const recordLimit = 1 << 20

// size finds a record that would be too large to be stored.
func (p *Plan) size() {
	if p.same {
		return
	}
	data, err := encode(p.rel)
	if err != nil || len(data) <= recordLimit {
		return
	}
	parts := map[string]int{"the rendered manifest": len(p.rel.Manifest)}
	for _, f := range slices.Concat(p.rel.Chart.Templates, p.rel.Chart.Files) {
		parts["chart file "+f.Name] = len(f.Data)
	}
	names := make([]string, 0, len(parts))
	for n := range parts {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool { return parts[names[i]] > parts[names[j]] })
	var largest []string
	for _, n := range names[:min(3, len(names))] {
		largest = append(largest, fmt.Sprintf("%s (%d KiB)", n, parts[n]>>10))
	}
	p.Problems = append(p.Problems, Problem{Class: ClassSize, Object: "Secret " + p.Spec.Namespace + "/" + recordName(p.rel.Name, p.rel.Version),
		Message: fmt.Sprintf("the record of the release would be %d KiB packed, %d as stored, and the limit is %d KiB; the largest parts, unpacked, are %s",
			base64.StdEncoding.DecodedLen(len(data))>>10, len(data)>>10, recordLimit>>10, strings.Join(largest, ", ")),
		Next: ".helmignore keeps files out of the chart; large data belongs into an object of its own, outside of the release"})
}
