package apply

import (
	"context"

	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Adopt takes over what was found, under the release's lease. What has changed
// since it was looked at is refused by the server.
func Adopt(ctx context.Context, d Deps, s helmrelease.Spec, list []helmrelease.Adoption, step Stepper) error {
	j := existing(d, Request{Spec: s})
	return j.hold(ctx, step, "adopting into", func(ctx context.Context) error {
		return step(ctx, "adopt into "+s.Name, func(ctx context.Context) error {
			j.touched = true // by its part, where it fails in the middle
			return j.client.Adopt(ctx, s, list)
		})
	})
}
