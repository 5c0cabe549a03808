package cmd

import (
	"context"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
)

func runTest(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true, release: true})
	if err != nil {
		return err
	}
	r, err := reach(ctx, run, o, nil)
	if err != nil {
		return err
	}
	defer r.watcher.Close()
	result, err := apply.Test(ctx, r.deps(run, o), r.releases[0], run.Step)
	run.Report.Result = result
	if err != nil {
		return err
	}
	return run.Result(result, result.Text())
}
