package estate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// Estate is a landscape together with the ways to its live organisation.
type Estate struct {
	Facts    *Facts
	Phases   []resource.Phase
	Patience Patience
	Parallel int // accounts at a time
}

// Result is what a run found or did, and the snapshot's digest.
type Result struct {
	resource.Outcome
	Landscape string `json:"landscape"` // digest, as far as the live organisation is known
}

// Look observes the organisation and its accounts, on which everything else
// rests, and names all that is wrong with them. It changes nothing.
func (e *Estate) Look(ctx context.Context) error {
	engine := resource.Engine{Parallel: e.Parallel}
	var problems []error
	for _, phase := range e.Phases {
		if phase.Name == phaseOrganization || phase.Name == phaseAccounts {
			for _, r := range phase.Resources { // each by itself, so that one does not hide another
				_, err := engine.Run(ctx, resource.Phase{Name: phase.Name, Resources: []resource.Resource{r}})
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(problems...)
}

// Run looks at every resource, changes what differs where act is set, and
// notes the findings. With an error, the result holds what came before it.
func (e *Estate) Run(ctx context.Context, run *tool.Run, act bool) (Result, error) {
	engine := resource.Engine{Act: act, Parallel: e.Parallel, Patience: e.Patience.Propagation, Again: maybeDone, Say: run.Log.Printf}
	all := Result{Outcome: resource.Outcome{Changes: []resource.Change{}}} // a list, also of nothing
	for _, phase := range e.Phases {
		err := run.Step(ctx, phase.Name, func(ctx context.Context) error {
			out, err := engine.Run(ctx, phase)
			all.Changes = append(all.Changes, out.Changes...)
			all.Waiting = append(all.Waiting, out.Waiting...)
			all.Findings = append(all.Findings, out.Findings...)
			all.Unchanged += out.Unchanged
			all.Unseen += out.Unseen
			for _, w := range out.Waiting {
				run.Log.Printf("waiting: %s", w)
			}
			for _, f := range out.Findings {
				run.Report.Find(f)
				run.Log.Printf("%s: %s; %s", f.Level, f.Message, f.Next)
			}
			return err
		})
		if err != nil {
			return all, err
		}
	}
	s, err := e.Facts.Snapshot()
	if err != nil {
		return all, err
	}
	if all.Landscape, err = s.Digest(); err != nil {
		return all, err
	}
	run.Report.Landscape = all.Landscape
	return all, nil
}

// Lines returns the changes, a line each.
func (r Result) Lines() string {
	var b strings.Builder
	for _, c := range r.Changes {
		fmt.Fprintln(&b, c)
	}
	return b.String()
}
