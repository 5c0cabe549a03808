package helmrelease

import "fmt"

// name is the release as its objects are marked with it.
func (p *Plan) name() string { return qualified(p.Spec.Namespace, p.Spec.Name) }

// once finds objects that the manifest has twice: one would be written over
// the other, in no order that anybody chose.
func (p *Plan) once(list []object) {
	source := map[key]string{}
	for _, o := range list {
		first, twice := source[o.key()]
		switch {
		case o.GetName() == "":
		case !twice:
			source[o.key()] = o.source
		case first == o.source:
			p.find(Problem{Class: ClassInvalid, Source: o.source, Object: o.key().String(), Message: "the template makes it twice", Next: onceNext})
		default:
			p.find(Problem{Class: ClassInvalid, Source: o.source, Object: o.key().String(), Message: "template " + first + " makes it as well", Next: onceNext})
		}
	}
}

const onceNext = "take the object out of one of the templates, or give it a name of its own there"

// owned finds objects that are another release's, or nobody's, and notes those
// that were taken over.
func (p *Plan) owned(changes []change, olds [][]object) {
	before := map[key]bool{}
	for _, old := range olds {
		for _, o := range old {
			before[o.key()] = true
		}
	}
	for _, ch := range changes {
		if ch.live == nil {
			continue
		}
		if !before[ch.key()] && !ch.shared {
			p.takesOver = append(p.takesOver, ch.key().object())
		}
		owner := ownerOf(ch.live)
		f := Problem{Class: ClassOwner, Source: ch.source, Object: ch.key().String(), Message: "it belongs to release " + owner,
			Next: "take it over with slipway-deploy adopt, or take it out of one of the two"}
		switch {
		case owner == p.name():
			continue
		case ch.action == Keep && owner != "":
			f.Message, f.Next, f.Warning = fmt.Sprintf("it belongs to release %s by now, and stays", owner), "", true
		case ch.action == Delete || ch.action == Keep || ch.shared:
			continue
		case owner == "" && before[ch.key()]:
			continue // somebody took our marks off it; they come back
		case owner == "":
			f.Message = "it exists already and belongs to no release"
		}
		p.find(f)
	}
}
