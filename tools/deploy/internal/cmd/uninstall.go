package cmd

import (
	"context"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
)

func runUninstall(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true, release: true})
	if err != nil {
		return err
	}
	r, err := reach(ctx, run, o, byPromote("nothing is uninstalled there by a job", "take the service out of the environment in landscape/services; then a person uninstalls it with helm"))
	if err != nil {
		return err
	}
	defer r.watcher.Close()
	result, err := apply.Uninstall(ctx, r.deps(run, o), r.releases[0], run.Step)
	run.Report.Result = result
	if err != nil {
		return err
	}
	return run.Result(result, result.Text())
}
