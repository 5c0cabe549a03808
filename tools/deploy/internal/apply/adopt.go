package apply

import (
	"context"
	"fmt"

	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Adopt takes over what was found, under the release's lease. What has changed
// since it was looked at is refused by the server.
func Adopt(ctx context.Context, d Deps, s helmrelease.Spec, list []helmrelease.Adoption, step Stepper) error {
	j := existing(d, Request{Spec: s})
	return j.hold(ctx, step, "adopting into", func(ctx context.Context) error {
		return step(ctx, "adopt into "+s.Name, func(ctx context.Context) error {
			for i := range list {
				err := j.client.Adopt(ctx, s, list[i:i+1])
				if err != nil && i > 0 {
					return changed(err, fmt.Sprintf("%d of %d were adopted before it and stay so; run it again for the others", i, len(list)))
				}
				if err != nil {
					return err
				}
				j.touched = true
			}
			return nil
		})
	})
}
