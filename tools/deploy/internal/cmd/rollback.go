package cmd

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
)

func runRollback(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true, release: true})
	if err != nil {
		return err
	}
	r, err := reach(ctx, run, o, byPromote("a rollback there changes what is desired as well", "slipway-promote rollback, by the button in the environments project, writes both and deploys"))
	if err != nil {
		return err
	}
	defer r.watcher.Close()
	result, err := apply.Rollback(ctx, r.deps(run, o), r.releases[0], c.Int("to"), run.Step)
	run.Report.Result = result
	if err != nil {
		return err
	}
	made := ""
	if now := result.Running; now != nil && now.Annotations[commitAnnotation] != "" {
		made = ", of commit " + now.Annotations[commitAnnotation]
	}
	return run.Result(result, fmt.Sprintf("%s: %s, as revision %d in namespace %s%s", result.Release, result.Message, result.Revision, result.Namespace, made))
}
