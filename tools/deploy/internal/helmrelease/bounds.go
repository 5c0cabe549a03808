package helmrelease

import (
	"context"

	"gitlab.com/slipway/slipway/tools/deploy/internal/mask"
)

// Bounds refuses a release that brings what a service may not. It needs
// neither the release's namespace nor a right to it, so that it can be asked
// before the namespace is made.
func (c *Client) Bounds(ctx context.Context, s Spec) error {
	p := &Plan{Spec: s}
	var err error
	if p.masker, err = mask.New(s.Secrets); err != nil {
		return err
	}
	all, err := chartCRDs(s.Chart)
	if err != nil {
		return err
	}
	if p.rel, err = c.render(ctx, s, State{}, false, versionsOf(all)); err != nil {
		return p.mask(err)
	}
	wanted, err := c.objects(p.rel.Manifest, s.Namespace)
	if err != nil {
		return p.mask(err)
	}
	hooks, err := c.planHooks(p.rel)
	if err != nil {
		return p.mask(err)
	}
	all = append(all, wanted...)
	for _, h := range hooks {
		all = append(all, h.object)
	}
	if err := c.place(all, s.Namespace); err != nil {
		return p.mask(err)
	}
	p.tenant(all)
	return p.mask(p.Err())
}
