package apply

import (
	"context"
	"errors"
	"fmt"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
	"gitlab.com/slipway/slipway/tools/deploy/internal/lease"
)

// hold does work on a release that nobody else works on meanwhile: under its
// lease, with what a dead run left half done repaired before, and with nothing
// left half done after.
func (j *job) hold(ctx context.Context, step Stepper, phase string, work func(context.Context) error) error {
	d, r := j.deps, j.request
	var held *lease.Lease
	locked := ctx
	err := step(ctx, "lock release "+r.Name, func(ctx context.Context) (err error) {
		o := d.Owner
		o.Phase = phase + " " + r.Name
		locked, held, err = lease.Acquire(ctx, d.Cluster, lease.Options{Namespace: r.Namespace, Release: r.Name, Owner: o, Decided: d.Decided,
			Wait: d.LockTimeout, JobState: d.JobState, Log: d.Run.Log.Printf, Renew: d.Renew, Expiry: d.Expiry})
		return err
	})
	if err != nil {
		return j.passing(err)
	}
	err = step(locked, "look at release "+r.Name, func(ctx context.Context) error { return j.look(ctx, held) })
	if err == nil {
		err = work(locked)
	}
	if cause := context.Cause(locked); errors.Is(cause, lease.ErrLost) && (errors.Is(err, cause) || errors.Is(err, context.Canceled)) {
		err = j.lost(err, cause)
	}
	switch herr := j.handBack(locked, held); {
	case err == nil:
		err = herr
	case herr != nil:
		err = fmt.Errorf("%w; and %w", err, herr) // the first one's exit code
	}
	return j.passing(err)
}

// passing gives what the API server could not do just now its exit code, where
// nothing was changed: a retry is safe.
func (j *job) passing(err error) error {
	if j.touched || tool.CodeOf(err) != tool.Failed || !kube.Passing(err) {
		return err
	}
	return tool.Exit(tool.Temporary, err, "the API server could not answer just now; run it again")
}

// lost is the error of work that ended with the release's lease. Its exit code is
// that of how the lease was lost, unless the release may be half done.
func (j *job) lost(err, cause error) error {
	if !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if j.touched {
		return tool.Exit(tool.Broken, err, "run it again: it finds what this run left half done, and goes on from there")
	}
	return tool.Exit(tool.CodeOf(cause), err, "nothing was changed; run it again")
}

// redact keeps what the release's Secrets hold out of the log, and of what is
// kept of the run: a program that fails may print it.
func (j *job) redact(secrets ...[]string) {
	for _, list := range secrets {
		for _, s := range list {
			j.deps.Run.Log.Redact(s)
		}
	}
}

// found returns what is stored of the release, and whether anybody has its lease.
func (j *job) found(ctx context.Context) (helmrelease.State, bool, error) {
	state, err := j.client.Read(ctx, j.request.Namespace, j.request.Name)
	if err != nil {
		return state, false, j.passing(err)
	}
	held, err := lease.There(ctx, j.deps.Cluster, j.request.Namespace, j.request.Name)
	return state, held, j.passing(err)
}

// look reads what is stored, and repairs what a dead run left half done.
func (j *job) look(ctx context.Context, held *lease.Lease) error {
	r := j.request
	state, err := j.stored(ctx)
	if err != nil {
		return err
	}
	j.before = state
	j.redact(state.Last.Secrets(), state.Deployed.Secrets())
	if err := r.refused(state); err != nil {
		return err
	}
	switch {
	case state.Last == nil:
		j.deps.Run.Log.Printf("%s: not installed yet", r.Name)
	case !state.Last.Pending:
		j.deps.Run.Log.Printf("%s: revision %d is %s", r.Name, state.Last.Number, state.Last.Status)
	case held.Former == nil && !j.deps.Decided:
		return tool.Exit(tool.Undecidable, fmt.Errorf("release %q is at revision %d in state %s, and no lease says who left it so", r.Name, state.Last.Number, state.Last.Status),
			"somebody may be at work with helm; once you have made sure that nobody is, a person runs: slipway-deploy recover --nobody-is-at-work, with the flags of this run")
	default:
		err = j.repair(ctx, held)
	}
	j.looked = err == nil
	return err
}

// stored reads what is stored, again where it was planned with.
func (j *job) stored(ctx context.Context) (helmrelease.State, error) {
	if j.plan != nil {
		return j.client.Reread(ctx, j.request.Namespace, j.request.Name, j.plan.State)
	}
	return j.client.Read(ctx, j.request.Namespace, j.request.Name)
}

// repair marks what a dead run left in a pending state as what it is.
func (j *job) repair(ctx context.Context, held *lease.Lease) error {
	r, last := j.request, j.before.Last
	who := "nobody knows who; " + j.deps.Owner.User + " says that nobody is at work on it"
	if held.Former != nil {
		who = held.Former.String()
	}
	why := fmt.Sprintf("left in state %s by %s", last.Status, who)
	if err := j.client.MarkFailed(ctx, r.Namespace, r.Name, last.Number, why); err != nil {
		return err
	}
	j.deps.Run.Log.Printf("%s: revision %d was %s; it is marked failed, and the release goes on from there", r.Name, last.Number, why)
	j.deps.Run.Report.Find(report.Finding{Level: "warning", Class: "recovered", Object: r.Namespace + "/" + r.Name,
		Message: fmt.Sprintf("revision %d was %s", last.Number, why), Next: "nothing; this run repaired it"})
	return nil
}

// handBack ends the run's hold on the release. A run that was told to end
// leaves no pending state behind; one that lost its lease touches nothing.
func (j *job) handBack(ctx context.Context, held *lease.Lease) error {
	r := j.request
	if errors.Is(context.Cause(ctx), lease.ErrLost) {
		held.Abandon()
		return nil
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), after)
	defer cancel()
	var state helmrelease.State
	var err error
	if !j.settled || ctx.Err() != nil {
		state, err = j.client.Read(end, r.Namespace, r.Name)
	}
	if err == nil && j.looked && state.Last != nil && state.Last.Pending {
		why := "ended before it was ready"
		if ctx.Err() != nil {
			why += ": " + fmt.Sprint(context.Cause(ctx))
		}
		err = j.client.MarkFailed(end, r.Namespace, r.Name, state.Last.Number, why)
		j.touched = true
		if err == nil {
			j.deps.Run.Log.Printf("%s: revision %d was %s and is marked failed: it %s", r.Name, state.Last.Number, state.Last.Status, why)
		}
	}
	if err == nil && !j.looked && state.Last != nil && state.Last.Pending && held.Former != nil {
		held.Abandon() // whose it was must not be forgotten: the next run repairs it
		return nil
	}
	if err != nil && (j.looked || held.Former != nil) {
		held.Abandon() // the next run finds our name on it
		return tool.Exit(tool.Broken, fmt.Errorf("leaving release %q in order: %w", r.Name, err))
	}
	if ctx.Err() != nil && err == nil {
		how := describe(state)
		if !j.touched && state.Last != nil {
			how = fmt.Sprintf("revision %d is %s, and %s", state.Last.Number, state.Last.Status, untouched)
		}
		j.deps.Run.Log.Printf("%s: cancelled; %s", r.Name, how)
	}
	if err := held.Release(end); err != nil {
		j.deps.Run.Log.Printf("%s: the lease is not given back, and expires by itself: %v", r.Name, err)
	}
	return nil
}

func describe(s helmrelease.State) string {
	switch {
	case s.Last == nil:
		return "it is not installed"
	case s.Deployed == nil:
		return fmt.Sprintf("revision %d was under way and is failed; none was ready before", s.Last.Number)
	case s.Deployed.Number == s.Last.Number:
		return fmt.Sprintf("revision %d is deployed", s.Last.Number)
	}
	return fmt.Sprintf("revision %d was under way and is failed; revision %d was ready before, and parts of both may run until the next deployment", s.Last.Number, s.Deployed.Number)
}
