package cmd

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
)

// decided is the flag with which a person says what no program can find out.
const decided = "nobody-is-at-work"

func runRecover(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	r, err := reach(ctx, run, o, nil)
	if err != nil {
		return err
	}
	defer r.watcher.Close()
	d := r.deps(run, o)
	if d.Decided = c.Bool(decided); d.Decided && r.session.CI.InJob {
		return tool.Exit(tool.Refused, errors.New("--"+decided+" is a person's word, and this is a job"), "a person who has looked runs it, with their own kubeconfig")
	}
	results := make([]apply.Recovered, len(r.releases))
	errs := make([]error, len(r.releases))
	var text []string
	for i, one := range r.releases {
		if results[i], errs[i] = apply.Recover(ctx, d, one, run.Step); errs[i] == nil {
			text = append(text, results[i].Text())
		}
	}
	run.Report.Result = results
	if err := apply.Worst(errs); err != nil {
		for _, line := range text {
			run.Log.Printf("%s", line)
		}
		return err
	}
	return run.Result(results, strings.Join(text, "\n"))
}
