// Package apply is the verb apply: it applies the plan that was kept, and no
// other, and reads back that nothing is left to change.
package apply

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/terraform/internal/stack"
)

// Result is what an apply did.
type Result struct {
	Stack   string       `json:"stack"`
	Account string       `json:"account"`
	Plan    string       `json:"plan"`
	Changed bool         `json:"changed"`
	Counts  stack.Counts `json:"counts"`
	Outputs int          `json:"outputs"`
}

// Run applies the kept plan.
func Run(ctx context.Context, run *tool.Run, o stack.Options) error {
	p, err := stack.Open(o, run.Log)
	if err != nil {
		return err
	}
	record, err := check(ctx, run, o)
	if err != nil {
		return err
	}
	if err := run.Step(ctx, "init", p.Init); err != nil {
		return err
	}
	result := Result{Stack: o.Stack, Account: o.Account, Plan: record.Plan, Changed: record.Changes, Counts: record.Counts}
	if !record.Changes {
		run.Report.Skip("apply", "the plan changes nothing")
		if result.Outputs, err = p.Outputs(ctx); err != nil {
			return err
		}
		return run.Result(result, fmt.Sprintf("stack %s in account %s: nothing to change", o.Stack, o.Account))
	}
	if err := run.Step(ctx, "apply", func(ctx context.Context) error { return broken(o, p.Apply(ctx, o.PlanFile())) }); err != nil {
		return err
	}
	if err := run.Step(ctx, "read back", func(ctx context.Context) error { return readBack(ctx, p, &result) }); err != nil {
		return err
	}
	return run.Result(result, fmt.Sprintf("stack %s in account %s: applied (%s), read back: nothing left to change, %d outputs",
		o.Stack, o.Account, record.Counts, result.Outputs))
}

// check refuses a plan that was not made for this run.
func check(ctx context.Context, run *tool.Run, o stack.Options) (stack.Record, error) {
	var record stack.Record
	err := run.Step(ctx, "check the plan", func(context.Context) error {
		var err error
		if record, err = stack.ReadRecord(o.Out); err != nil {
			return err
		}
		digest, err := stack.FileDigest(o.PlanFile())
		if err != nil {
			return tool.Exit(tool.Usage, err, "the plan's folder must hold plan.tfplan and plan.json")
		}
		return record.Check(o, digest)
	})
	return record, err
}

// broken marks an apply that failed on its way: some of it may have been done.
// A lock that is held and a stale plan failed before anything was touched.
func broken(o stack.Options, err error) error {
	var own *tool.Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	var hints []string
	if _, missing := os.Stat(o.Errored()); missing == nil {
		hints = append(hints, fmt.Sprintf("the state could not be saved: it is in %q, which the job keeps as an artifact; before anything else, put it back into the folder and push it:", o.Errored()))
		hints = append(hints, o.ByHand("state push errored.tfstate")...)
	}
	return tool.Exit(tool.Broken, err, append(hints, "a part may have been applied: run slipway-terraform plan to see what is left")...)
}

func readBack(ctx context.Context, p *stack.Program, r *Result) error {
	left, err := p.Plan(ctx, "")
	if err != nil {
		return tool.Exit(tool.Broken, fmt.Errorf("planning again: %w", err), "the plan was applied, but it could not be read back")
	}
	if left {
		return tool.Exit(tool.Broken, errors.New("the stack still has changes after it was applied"),
			"the log above shows them; a value that differs at every plan (timestamp(), a provider's default) must be ignored or fixed in the stack")
	}
	if r.Outputs, err = p.Outputs(ctx); err != nil {
		return tool.Exit(tool.Broken, err)
	}
	return nil
}
