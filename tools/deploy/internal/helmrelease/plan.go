package helmrelease

import (
	"context"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/tools/deploy/internal/mask"
	"gitlab.com/slipway/slipway/tools/deploy/internal/tenancy"
)

// Look says how a plan is made.
type Look struct {
	// Lookup lets templates read the cluster. An unprotected ref may not have
	// that: who writes the template would read with the job's rights.
	Lookup bool
	// Lenient plans are shown and not carried out: where the caller may not
	// try a change at the server, it is worked out without it.
	Lenient bool
	// Kinds are brought by releases that come before this one.
	Kinds map[schema.GroupKind]bool
	// NewNamespace says that the release's namespace is made where it is missing.
	NewNamespace bool
	// Was is what was stored a moment ago; nil where nothing is known.
	Was *State
	// Index has what is stored of all releases of a set; nil reads it of each.
	Index *Index
}

// Plan is what a release would do to the cluster. Nothing was changed for it.
type Plan struct {
	Spec     Spec
	State    State
	Problems []Problem // warnings among them

	rel       *release.Release
	crds      []change
	changes   []change
	hooks     []change
	takesOver []Object
	unmade    bool         // the release's namespace is not there yet
	barred    map[key]bool // what a service may not bring, and nobody need try
	masker    *mask.Masker
	same      bool // what is rendered is what is stored
	different bool // only in what is noted of its origin
}

// Plan renders a release once, compares it with what is stored and what is
// live, and tries every change at the server as a dry run.
func (c *Client) Plan(ctx context.Context, s Spec, l Look) (*Plan, error) {
	state, err := c.stored(ctx, s, l)
	if err != nil {
		return nil, err
	}
	p := &Plan{Spec: s, State: state}
	if p.masker, err = mask.New(s.Secrets); err != nil {
		return nil, err
	}
	b, err := c.gather(ctx, p, l)
	if err != nil {
		return nil, p.mask(err)
	}
	p.compare()
	if err := c.fill(ctx, p, l, b); err != nil {
		return nil, p.mask(err)
	}
	for i := range p.Problems {
		p.Problems[i].Message = p.masker.Text(p.Problems[i].Message)
	}
	return p, nil
}

// stored reads what is stored in the way that costs the least.
func (c *Client) stored(ctx context.Context, s Spec, l Look) (State, error) {
	switch {
	case l.Was != nil:
		return c.Reread(ctx, s.Namespace, s.Name, *l.Was)
	case l.Index != nil:
		return l.Index.read(ctx, c, s.Namespace, s.Name)
	}
	return c.Read(ctx, s.Namespace, s.Name)
}

// brought are the objects that a release brings, in their places.
type brought struct {
	definitions []object // of the crds folders, and of the manifest
	wanted      []object // the rest of the manifest
	hooks       []change
}

func (b brought) all() []object {
	all := slices.Concat(b.definitions, b.wanted)
	for _, h := range b.hooks {
		all = append(all, h.object)
	}
	return all
}

// gather renders the plan's release and reads all that it brings.
func (c *Client) gather(ctx context.Context, p *Plan, l Look) (b brought, err error) {
	if b.definitions, err = chartCRDs(p.Spec.Chart); err != nil {
		return b, err
	}
	if err = c.place(b.definitions, p.Spec.Namespace); err != nil {
		return b, err
	}
	if p.rel, err = c.render(ctx, p.Spec, p.State, l.Lookup, versionsOf(b.definitions)); err != nil {
		return b, err
	}
	manifest, err := c.objects(p.rel.Manifest, p.Spec.Namespace)
	if err != nil {
		return b, err
	}
	p.once(manifest)
	own(manifest, p.Spec.Name, p.Spec.Namespace)
	for _, o := range manifest {
		if isCRD(o) {
			b.definitions = append(b.definitions, o)
		} else {
			b.wanted = append(b.wanted, o)
		}
	}
	b.hooks, err = c.planHooks(p.rel)
	return b, err
}

// fill works out the changes and finds what stands against them.
func (c *Client) fill(ctx context.Context, p *Plan, l Look, b brought) (err error) {
	all := b.all()
	for _, o := range all {
		p.masker.LearnObject(o.Object)
	}
	p.tenant(all)
	if p.unmade, err = c.namespace(ctx, p, l); err != nil {
		return err
	}
	if p.crds, err = c.planCRDs(ctx, p, l, b.definitions); err != nil {
		return err
	}
	asked, err := c.asked(ctx, p.State, p.Spec.Namespace)
	if err != nil {
		return err
	}
	p.owned(p.crds, asked)
	olds := withoutCRDs(asked)
	if p.changes, err = c.differ(ctx, p.name(), b.wanted, olds...); err != nil {
		return err
	}
	p.hooks = b.hooks
	p.known(l)
	p.owned(p.changes, olds)
	p.size()
	if err := c.try(ctx, p, p.changes, l); err != nil {
		return err
	}
	if p.Unchanged() {
		return nil // its hooks will not run
	}
	return c.try(ctx, p, p.hooks, l)
}

// try sends the changes as dry runs and notes what the server has against them.
func (c *Client) try(ctx context.Context, p *Plan, changes []change, l Look) error {
	brought, missing := map[string]bool{}, map[string]bool{p.Spec.Namespace: p.unmade}
	for _, ch := range slices.Concat(p.changes, p.crds) {
		if ch.action == Create {
			brought[ch.GetName()] = true
			missing[ch.GetName()] = missing[ch.GetName()] || ch.GetKind() == "Namespace"
		}
	}
	found := make([]Problem, len(changes))
	err := each(ctx, len(changes), func(i int) (err error) {
		ch := &changes[i]
		if ch.unknown || ch.checked || ch.GetName() == "" || ch.action == None || ch.action == Keep || missing[ch.GetNamespace()] || p.barred[ch.key()] {
			return nil
		}
		found[i], err = c.tryOne(ctx, p, ch, func(name string) bool { return brought[name] }, l)
		return err
	})
	p.find(found...)
	return err
}

// find notes the problems that are some.
func (p *Plan) find(found ...Problem) {
	for _, f := range found {
		if f.Class != "" {
			p.Problems = append(p.Problems, f)
		}
	}
}

func (c *Client) tryOne(ctx context.Context, p *Plan, ch *change, brought func(string) bool, l Look) (Problem, error) {
	out, err := c.send(ctx, ch, true)
	if err == nil {
		ch.checked = true
		if ch.action != Delete {
			ch.result = out
		}
		if ch.action == Update && sameObject(ch.live, out) {
			ch.action, ch.result = None, ch.live
		}
		return Problem{}, nil
	}
	if apierrors.IsAlreadyExists(err) && ch.live == nil {
		return c.leftHook(ctx, p, *ch)
	}
	if ch.action == Update {
		if local, lerr := ch.patch.local(ch.live); lerr == nil {
			ch.result = local
		}
	}
	f, err := judge(ch, err, brought)
	if f.Class == ClassRights && l.Lenient {
		f.Class, f.Warning, f.Next = ClassUnchecked, true, ""
		f.Message = "not tried at the server: " + f.Message
	}
	return f, err
}

// namespace looks whether the release's namespace is there.
func (c *Client) namespace(ctx context.Context, p *Plan, l Look) (missing bool, err error) {
	name := p.Spec.Namespace
	_, err = c.cluster.Clientset().CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil, kube.Denied(err): // whoever may not look is told by the first dry run
		return false, nil
	case !apierrors.IsNotFound(err):
		return false, fmt.Errorf("looking for namespace %q: %w", name, err)
	}
	f := Problem{Class: ClassNamespace, Object: "Namespace " + name, Message: "it does not exist",
		Next: "the tenancy release of the platform makes the namespaces of services"}
	if l.NewNamespace {
		f = Problem{Class: ClassUnchecked, Object: "Namespace " + name, Message: "it is made first, so nothing in it could be tried yet", Warning: true}
	}
	p.Problems = append(p.Problems, f)
	return true, nil
}

// tenant holds a service to what a service may bring.
func (p *Plan) tenant(list []object) {
	p.barred = map[key]bool{}
	if !p.Spec.Tenant {
		return
	}
	for _, o := range list {
		for _, why := range tenancy.Check(o.Unstructured, p.Spec.Namespace) {
			p.barred[o.key()] = true
			p.Problems = append(p.Problems, Problem{Class: ClassTenancy, Source: o.source, Object: o.key().String(), Message: why,
				Next: "what a whole cluster shares is the platform project's, in its release set"})
		}
	}
}

// known names the kinds that the server does not know, and objects without a name.
func (p *Plan) known(l Look) {
	brought := p.Kinds()
	for _, ch := range slices.Concat(p.changes, p.hooks) {
		gk := ch.GroupVersionKind().GroupKind()
		f := Problem{Source: ch.source, Object: ch.key().String()}
		switch {
		case ch.GetName() == "":
			f.Class, f.Message = ClassInvalid, "the object has no name"
		case !ch.unknown:
			continue
		case brought[gk] || l.Kinds[gk]:
			f.Class, f.Message, f.Warning = ClassUnchecked, "its kind comes with the definitions of this set, so it could not be tried yet", true
		default:
			f = unknownKind(&ch)
		}
		p.Problems = append(p.Problems, f)
	}
}

func unknownKind(ch *change) Problem {
	gvk := ch.GroupVersionKind()
	return Problem{Class: ClassKind, Source: ch.source, Object: ch.key().String(),
		Message: fmt.Sprintf("the cluster does not know kind %s of %s", gvk.Kind, gvk.GroupVersion()),
		Next:    "the release that brings the kind comes first; or the chart is for another version of Kubernetes"}
}
