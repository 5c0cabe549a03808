package apply

import (
	"context"
	"fmt"
	"slices"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Rollback puts a release back to a revision, or with 0 to the last one that
// was ready before the present one. Where that fails, it brings back what ran.
func Rollback(ctx context.Context, d Deps, r Request, to int, step Stepper) (Result, error) {
	j := existing(d, r)
	err := j.hold(ctx, step, "rolling back", func(ctx context.Context) error {
		history, err := j.client.History(ctx, r.Namespace, r.Name)
		if err != nil {
			return err
		}
		target, err := choose(r.Name, history, to)
		if err != nil {
			return err
		}
		if err := crosses(history, target); err != nil {
			return err
		}
		if !target.WasReady() {
			d.Run.Log.Printf("%s: nothing says that revision %d was ready once (%s)", r.Name, target.Number, target.Description)
		}
		secrets, err := j.client.SecretsOf(ctx, r.Namespace, r.Name, target.Number)
		if err != nil {
			return err
		}
		j.redact(secrets)
		changed := false
		err = step(ctx, fmt.Sprintf("roll %s back to revision %d", r.Name, target.Number), func(ctx context.Context) (err error) {
			changed, err = j.back(ctx, target.Number)
			return err
		})
		switch {
		case err != nil && !changed && ctx.Err() == nil:
			return tool.Hint(err, "no object was changed: what ran runs on")
		case err == nil:
			j.result.Status, j.result.Message = Deployed, fmt.Sprintf("revision %d is back and ready", target.Number)
			return nil
		case ctx.Err() != nil:
			return err // handBack says in which state
		case j.before.Deployed == nil || j.before.Deployed.Number == target.Number:
			return tool.Exit(tool.Broken, err, "a person is needed: no revision but this one is known to have been ready")
		}
		return j.restore(ctx, err, step)
	})
	return j.result, err
}

func existing(d Deps, r Request) *job {
	return &job{deps: d, request: r, client: helmrelease.New(d.Cluster, d.Watcher, d.Run.Log.Printf),
		result: Result{Release: r.Name, Namespace: r.Namespace, Status: Failed}}
}

// choose returns the revision to go back to. One that a rollback brought back
// counts as the one that it brought back: from there the way leads on into the
// past, and not to what was rolled back.
func choose(name string, history []helmrelease.Revision, to int) (helmrelease.Revision, error) {
	var none helmrelease.Revision
	if len(history) == 0 {
		return none, tool.Exitf(tool.Failed, "rolling back %q: it is not installed", name)
	}
	last := history[len(history)-1]
	if to > 0 {
		i := slices.IndexFunc(history, func(r helmrelease.Revision) bool { return r.Number == to })
		switch {
		case i < 0:
			return none, tool.Exit(tool.Usage, fmt.Errorf("rolling back %q: there is no revision %d", name, to), "slipway-deploy history lists them")
		case to == last.Number && last.WasReady():
			return none, tool.Exit(tool.Usage, fmt.Errorf("rolling back %q: revision %d is in place", name, to), "slipway-deploy history lists the others")
		}
		if s := history[i].Status; s != "superseded" && s != Deployed {
			return none, tool.Exit(tool.Refused, fmt.Errorf("rolling back %q: revision %d is %s", name, to, s), "slipway-deploy history lists those that were ready")
		}
		return history[i], nil
	}
	for _, r := range slices.Backward(history) {
		before := r.Number < last.Number && (!last.WasReady() || r.Origin() < last.Origin())
		if before && r.WasReady() {
			return r, nil
		}
	}
	return none, tool.Exit(tool.Failed, fmt.Errorf("rolling back %q: no revision before %d is known to have been ready", name, last.Number), "slipway-deploy history lists what is stored; --to names one")
}

// crosses refuses a rollback across a migration after which the code before it
// cannot work with the data. One that failed may have gone half the way.
func crosses(history []helmrelease.Revision, target helmrelease.Revision) error {
	for _, r := range history {
		if r.Number <= target.Origin() || r.Annotations[helmrelease.MigrationsAnnotation] != "contract" || r.Origin() <= target.Origin() {
			continue
		}
		hint := "no backup taken before it is known"
		if b := r.Annotations[helmrelease.BackupAnnotation]; b != "" {
			hint = "the backup taken before it is " + b + ": slipway-backup restore brings its data back"
		}
		return tool.Exit(tool.Refused, fmt.Errorf("rolling back to revision %d: revision %d declared its migrations contract, and the code of revision %d cannot work with the data since", target.Number, r.Number, target.Number), hint)
	}
	return nil
}
