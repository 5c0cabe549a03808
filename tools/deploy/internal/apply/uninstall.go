package apply

import (
	"context"
	"fmt"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Removed is how an uninstallation ended.
type Removed struct {
	Release   string             `json:"release"`
	Namespace string             `json:"namespace"`
	Was       int                `json:"was,omitempty"` // its last revision; 0 where it was not installed
	Left      []helmrelease.Left `json:"left,omitempty"`
}

// Uninstall removes a release, waits until its objects are gone, and says what
// stays. One that is not there is removed already.
func Uninstall(ctx context.Context, d Deps, r Request, step Stepper) (Removed, error) {
	j := existing(d, r)
	out := Removed{Release: r.Name, Namespace: r.Namespace}
	state, held, err := j.found(ctx)
	if err != nil || state.Last == nil && !held {
		return out, err // a namespace that is gone has no place for a lease either
	}
	err = j.hold(ctx, step, "uninstalling", func(ctx context.Context) error {
		if j.before.Last == nil {
			return nil
		}
		out.Was = j.before.Last.Number
		j.touched = true
		return step(ctx, "uninstall "+r.Name, func(ctx context.Context) (err error) {
			out.Left, err = j.client.Uninstall(ctx, r.Namespace, r.Name, j.wait())
			if err != nil && ctx.Err() == nil && tool.CodeOf(err) == tool.Failed {
				err = tool.Exit(tool.Broken, err, "parts of it may be there still; the next uninstall goes on from here")
			}
			return err
		})
	})
	j.stays(out.Left)
	return out, err
}

// Text says what was removed and what stays.
func (r Removed) Text() string {
	if r.Was == 0 {
		return fmt.Sprintf("%s is not installed in namespace %s", r.Release, r.Namespace)
	}
	text := fmt.Sprintf("%s is removed from namespace %s", r.Release, r.Namespace)
	for _, l := range r.Left {
		text += fmt.Sprintf("\nstays: %s: %s", l.Object, l.Why)
	}
	return text
}
