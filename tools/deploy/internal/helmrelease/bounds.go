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
	b, err := c.gather(ctx, p, Look{})
	if err != nil {
		return p.mask(err)
	}
	p.tenant(b.all())
	return p.mask(p.Err())
}
