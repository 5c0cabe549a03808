package apply

import (
	"context"
	"fmt"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// putBack brings the revision back that was ready before, once why the new one
// is not is kept.
func (j *job) putBack(ctx context.Context, cause error, step Stepper) error {
	r := j.request
	switch {
	case !r.Restore:
		return tool.Exit(tool.Broken, cause, "the release is left as it is: "+r.WhyNot)
	case j.before.Deployed == nil && !j.before.Ever && r.RemoveFirst:
		return j.takeAway(ctx, cause, step)
	case j.before.Deployed == nil:
		return tool.Exit(tool.Broken, cause, "no revision of this release is known to have been ready, so there is none to go back to; it is left for a person")
	}
	return j.restore(ctx, cause, step)
}

// restore brings the revision that was ready before back.
func (j *job) restore(ctx context.Context, cause error, step Stepper) error {
	to := j.before.Deployed.Number
	err := step(ctx, fmt.Sprintf("restore revision %d of %s", to, j.request.Name), func(ctx context.Context) error { return j.back(ctx, to) })
	if ctx.Err() != nil {
		return tool.Exit(tool.Cancelled, fmt.Errorf("%w; restoring revision %d was cancelled: %w", cause, to, context.Cause(ctx)), "a person is needed, or one more run: parts of both revisions may run")
	}
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("%w; and restoring revision %d failed: %w", cause, to, err), "a person is needed: the release is in no known state")
	}
	j.result.Status, j.result.Message = Restored, fmt.Sprintf("revision %d is back and ready", to)
	return tool.Exit(tool.Restored, cause, fmt.Sprintf("revision %d was restored, and is ready", to))
}

// back rolls back to a revision and checks what is stored then.
func (j *job) back(ctx context.Context, to int) error {
	o, err := j.client.Rollback(ctx, j.request.Namespace, j.request.Name, to, j.wait())
	j.evidence(o, err)
	j.result.Ready, j.result.Objects = o.Ready.Seconds(), o.Objects
	if err != nil {
		return err
	}
	j.result.Revision = o.Revision
	return j.readBack(ctx)
}

// takeAway removes a first installation that failed.
func (j *job) takeAway(ctx context.Context, cause error, step Stepper) error {
	r := j.request
	err := step(ctx, "remove failed installation "+r.Name, func(ctx context.Context) error {
		_, err := j.client.Uninstall(ctx, r.Namespace, r.Name, j.wait())
		return err
	})
	if ctx.Err() != nil {
		return tool.Exit(tool.Cancelled, fmt.Errorf("%w; removing it again was cancelled: %w", cause, context.Cause(ctx)), "slipway-deploy uninstall removes the rest")
	}
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("%w; and removing it again failed: %w", cause, err), "slipway-deploy uninstall tries it once more")
	}
	j.result.Status, j.result.Message = Restored, "the first installation was removed again"
	return tool.Exit(tool.Restored, cause, "the failed first installation was removed again")
}

// readBack checks that what is stored says what was done.
func (j *job) readBack(ctx context.Context) error {
	state, err := j.client.Read(ctx, j.request.Namespace, j.request.Name)
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("reading the release back: %w", err))
	}
	if state.Last == nil || state.Last.Number != j.result.Revision || state.Last.Status != Deployed {
		return tool.Exitf(tool.Broken, "reading the release back: revision %d is not what is deployed", j.result.Revision)
	}
	j.result.Running = state.Deployed
	return nil
}
