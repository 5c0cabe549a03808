package apply

import (
	"context"
	"fmt"
	"time"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Recovered is what a look at a release found, and what was done about it.
type Recovered struct {
	Release   string                `json:"release"`
	Namespace string                `json:"namespace"`
	Repaired  bool                  `json:"repaired"`
	Last      *helmrelease.Revision `json:"last,omitempty"`
	Deployed  *helmrelease.Revision `json:"deployed,omitempty"`
	Objects   []rollout.State       `json:"objects,omitempty"` // of the revision that was ready last
	Findings  []rollout.Finding     `json:"findings,omitempty"`
}

// judging bounds how long a look at the objects of a release may take.
const judging = 30 * time.Second

// Recover ends the pending state that a dead run left, and looks at what runs
// then. It deploys and deletes nothing.
func Recover(ctx context.Context, d Deps, r Request, step Stepper) (Recovered, error) {
	j := existing(d, r)
	out := Recovered{Release: r.Name, Namespace: r.Namespace}
	state, held, err := j.found(ctx)
	if err != nil {
		return out, err
	}
	if held || state.Last != nil && state.Last.Pending {
		err := j.hold(ctx, step, "recovering", func(ctx context.Context) (err error) {
			out.Repaired = j.before.Last != nil && j.before.Last.Pending
			state, err = j.client.Read(ctx, r.Namespace, r.Name)
			return err
		})
		if err != nil {
			return out, err
		}
	}
	out.Last, out.Deployed = state.Last, state.Deployed
	j.redact(state.Last.Secrets(), state.Deployed.Secrets())
	if state.Deployed == nil {
		return out, nil
	}
	err = step(ctx, "look at what runs of "+r.Name, func(ctx context.Context) (err error) {
		objects, err := state.Deployed.Objects(r.Namespace)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, judging)
		defer cancel()
		result, err := d.Watcher.Look(ctx, objects, rollout.Options{})
		out.Objects, out.Findings = result.Objects, result.Findings
		return err
	})
	if err != nil {
		return out, err
	}
	return out, out.verdict(d)
}

// verdict asks for a person where the revision that was ready before is not now.
func (r Recovered) verdict(d Deps) error {
	for _, f := range r.Findings {
		d.Run.Report.Find(report.Finding{Level: "warning", Class: f.Class, Object: f.Workload.String(), Message: f.Sentence(), Evidence: f.LogTail, Next: f.Next})
	}
	for _, o := range r.Objects {
		if !o.Ready {
			return tool.Exit(tool.Broken, fmt.Errorf("release %q is in order, and what it deployed is not: %s: %s", r.Release, o.Object, o.Message),
				"slipway-deploy apply releases anew; slipway-deploy rollback goes back to the last revision that was ready")
		}
	}
	return nil
}

// Text says what was found and done.
func (r Recovered) Text() string {
	switch {
	case r.Last == nil:
		return r.Release + ": it is not installed"
	case !r.Repaired:
		return fmt.Sprintf("%s: nothing to recover; revision %d is %s", r.Release, r.Last.Number, r.Last.Status)
	case r.Deployed == nil:
		return fmt.Sprintf("%s: revision %d is marked failed; none was ready before it: run slipway-deploy apply", r.Release, r.Last.Number)
	}
	return fmt.Sprintf("%s: revision %d is marked failed; revision %d was ready before it, and all it deployed is ready now. Parts of both may run until the next apply or rollback",
		r.Release, r.Last.Number, r.Deployed.Number)
}
