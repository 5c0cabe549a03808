// Package plan is the verb plan: it keeps a plan of a stack, with a record
// that binds it to its commit and landscape.
package plan

import (
	"context"
	"fmt"
	"os"
	"time"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/terraform/internal/stack"
)

// Options are what the verb needs.
type Options struct {
	stack.Options
	DetailedExitCode bool
}

// Run plans the stack.
func Run(ctx context.Context, run *tool.Run, o Options) error {
	p, err := stack.Open(o.Options, run.Log)
	if err != nil {
		return err
	}
	if err := fresh(o.Out); err != nil {
		return err
	}
	record := stack.Record{Schema: stack.RecordSchema, Stack: o.Stack, Source: o.Source, Account: o.Account, Landscape: o.Landscape, Commit: o.Commit, Made: time.Now().UTC()}
	if record.Program, err = p.Version(ctx); err != nil {
		return err
	}
	run.Log.Printf("%s %s, state s3://%s/%s", o.Binary, record.Program, o.Backend.Bucket, o.StateKey())
	if err := run.Step(ctx, "init", p.Init); err != nil {
		return err
	}
	if err := run.Step(ctx, "validate", p.Validate); err != nil {
		return err
	}
	err = run.Step(ctx, "plan", func(ctx context.Context) error {
		record.Changes, err = p.Plan(ctx, o.PlanFile())
		return err
	})
	if err != nil {
		return err
	}
	if err := run.Step(ctx, "keep the plan", func(ctx context.Context) error { return keep(ctx, p, o, &record) }); err != nil {
		return err
	}
	run.Log.Printf("the plan is in %s; it may hold secrets: keep its artifact to developers (artifacts:access)", o.Out)
	text := summary(record)
	run.Report.Find(report.Finding{Level: "info", Class: "plan", Object: o.Stack + " in " + o.Account, Message: text, Evidence: record.Plan})
	if err := run.Result(record, text); err != nil {
		return err
	}
	if record.Changes && o.DetailedExitCode {
		return tool.Exitf(tool.Pending, "changes are pending: %s", record.Counts)
	}
	return nil
}

// fresh makes the folder, and takes an older plan out of it: after a failed
// run there must be no plan that could be applied.
func fresh(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making plan folder %q: %w", dir, err)
	}
	for _, f := range []string{"plan.tfplan", "plan.json", "tfplan.json"} {
		if err := os.RemoveAll(dir + "/" + f); err != nil {
			return fmt.Errorf("removing the older plan: %w", err)
		}
	}
	return nil
}

// keep reads the plan back, closes it to others, and writes its record.
func keep(ctx context.Context, p *stack.Program, o Options, r *stack.Record) error {
	if err := os.Chmod(o.PlanFile(), 0o600); err != nil {
		return fmt.Errorf("closing the plan file to others: %w", err)
	}
	content, err := p.Show(ctx, o.PlanFile())
	if err != nil {
		return err
	}
	r.Counts = stack.Count(content)
	if r.Plan, err = stack.FileDigest(o.PlanFile()); err != nil {
		return err
	}
	return stack.WriteRecord(o.Out, *r)
}

func summary(r stack.Record) string {
	where := fmt.Sprintf("stack %s in account %s", r.Stack, r.Account)
	switch {
	case !r.Changes:
		return where + ": nothing to change"
	case r.Counts == stack.Counts{}:
		return where + ": only outputs or state records change"
	default:
		return fmt.Sprintf("%s: %s", where, r.Counts)
	}
}
