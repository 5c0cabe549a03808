package apply

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
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
	err := step(ctx, fmt.Sprintf("restore revision %d of %s", to, j.request.Name), func(ctx context.Context) error {
		// A revision that failed before this one may have migrated too.
		history, err := j.client.History(ctx, j.request.Namespace, j.request.Name)
		if err == nil {
			err = crosses(history, *j.before.Deployed)
		}
		if err != nil {
			return err
		}
		_, err = j.back(ctx, to)
		return err
	})
	if ctx.Err() != nil {
		return tool.Exit(tool.Cancelled, fmt.Errorf("%w; restoring revision %d was broken off: %w", cause, to, context.Cause(ctx)), "a person is needed, or one more run: parts of both revisions may run")
	}
	if err != nil {
		hints := append(tool.HintsOf(err), "a person is needed: the release is in no known state")
		return tool.Exit(tool.Broken, fmt.Errorf("%w; and restoring revision %d failed: %w", cause, to, err), hints...)
	}
	for _, o := range j.plan.TakesOver() {
		j.deps.Run.Log.Printf("%s: %s stays: it was there before revision %d took it over", j.request.Name, o, j.before.Last.Number+1)
	}
	j.result.Status, j.result.Message = Restored, fmt.Sprintf("revision %d is back and ready", to)
	return tool.Exit(tool.Restored, cause, fmt.Sprintf("revision %d was restored, and is ready", to))
}

// back rolls back to a revision and checks what is stored then. It reports
// whether an object was changed, or may have been.
func (j *job) back(ctx context.Context, to int) (changed bool, err error) {
	j.touched = true
	o, err := j.client.Rollback(ctx, j.request.Namespace, j.request.Name, to, j.wait(), j.plan.TakesOver()...)
	j.evidence(ctx, o, err)
	j.result.Ready, j.result.Objects = o.Ready.Seconds(), o.Objects
	if err != nil {
		return o.Changed, err
	}
	j.result.Revision = o.Revision
	return true, j.readBack(ctx)
}

// takeAway removes a first installation that failed, unless it took over what
// was there before: an uninstallation would take that away as well.
func (j *job) takeAway(ctx context.Context, cause error, step Stepper) error {
	r := j.request
	found := j.plan.Found()
	if apierrors.IsAlreadyExists(cause) {
		found = append(found, "what somebody made meanwhile")
	}
	if len(found) > 0 {
		return tool.Exit(tool.Broken, cause, "the release is left as it is: removing it again would delete what was there before it: "+strings.Join(found, ", "),
			"mend it and run again; slipway-deploy uninstall removes all of it, those objects too")
	}
	var left []helmrelease.Left
	err := step(ctx, "remove failed installation "+r.Name, func(ctx context.Context) (err error) {
		left, err = j.client.Uninstall(ctx, r.Namespace, r.Name, j.wait())
		return err
	})
	j.stays(left)
	if ctx.Err() != nil {
		return tool.Exit(tool.Cancelled, fmt.Errorf("%w; removing it again was broken off: %w", cause, context.Cause(ctx)), "slipway-deploy uninstall removes the rest")
	}
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("%w; and removing it again failed: %w", cause, err), "slipway-deploy uninstall tries it once more")
	}
	how := "was removed again"
	for i, l := range left {
		how += []string{", but for ", ", "}[min(i, 1)] + l.Object.String()
	}
	j.result.Status, j.result.Message = Restored, "the first installation "+how
	return tool.Exit(tool.Restored, cause, "the failed first installation "+how)
}

// stays tells what an uninstallation leaves.
func (j *job) stays(left []helmrelease.Left) {
	for _, l := range left {
		j.deps.Run.Log.Printf("%s: %s stays: %s", j.request.Name, l.Object, l.Why)
	}
}

// readBack checks that what is stored says what was done.
func (j *job) readBack(ctx context.Context) error {
	now, err := j.client.Stored(ctx, j.request.Namespace, j.request.Name, j.result.Revision)
	if ctx.Err() != nil {
		return context.Cause(ctx) // handBack looks once more
	}
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("reading the release back: %w", err))
	}
	if now.Status != Deployed {
		return tool.Exitf(tool.Broken, "reading the release back: revision %d is %s", now.Number, now.Status)
	}
	j.result.Running, j.settled = now, true
	return nil
}
