package helmrelease

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/action"
)

// Rollback puts a release back to a revision and waits until it is ready. It
// takes none of the spared objects away, which that revision may not have.
func (c *Client) Rollback(ctx context.Context, namespace, name string, to int, w Wait, spare ...Object) (Outcome, error) {
	cfg, own, err := c.helm(ctx, namespace, name, w)
	if err != nil {
		return Outcome{}, err
	}
	was, err := c.Read(ctx, namespace, name)
	if err == nil {
		own.before, err = c.before(ctx, was, namespace)
	}
	if err != nil {
		return Outcome{}, err
	}
	for i := range own.before {
		own.before[i] = slices.DeleteFunc(own.before[i], func(o object) bool {
			return slices.ContainsFunc(spare, func(s Object) bool { return s.key() == o.key() })
		})
	}
	r := action.NewRollback(cfg)
	r.Version, r.MaxHistory = to, maxHistory
	r.Wait, r.WaitForJobs, r.Timeout = true, true, w.Timeout
	err = r.Run(name)
	o := own.outcome()
	if err != nil {
		err = rollbackError(ctx, name, to, o, err)
		if ctx.Err() == nil { // else whoever holds the release marks it, with time of their own
			number, ferr := c.endRollback(ctx, namespace, name, err)
			o.Revision, err = number, errors.Join(err, ferr)
		}
		return o, err
	}
	state, err := c.Read(ctx, namespace, name)
	if err != nil {
		return o, err
	}
	o.Revision = state.Last.Number
	return o, nil
}

func rollbackError(ctx context.Context, name string, to int, o Outcome, err error) error {
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case o.Failure != nil:
		err = o.Failure
	}
	return fmt.Errorf("rolling %q back to revision %d: %w", name, to, denied(err))
}

// endRollback marks a rollback that failed, and returns its number. Helm leaves
// it pending for ever where it was a hook that failed.
func (c *Client) endRollback(ctx context.Context, namespace, name string, cause error) (int, error) {
	state, err := c.Read(ctx, namespace, name)
	if err != nil || state.Last == nil {
		return 0, err
	}
	if !state.Last.Pending {
		return state.Last.Number, nil
	}
	return state.Last.Number, c.MarkFailed(ctx, namespace, name, state.Last.Number, cause.Error())
}
