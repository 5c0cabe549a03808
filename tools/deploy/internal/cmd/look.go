package cmd

import (
	"context"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

func runRender(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{environment: true})
	if err != nil {
		return err
	}
	l, err := loadDir(o)
	if err != nil {
		return err
	}
	if err := l.fromEnv(run, o); err != nil {
		return err
	}
	text, err := helmrelease.Render(ctx, helmrelease.Spec{Name: l.service.Name, Namespace: "default", Chart: l.chart, Values: l.values})
	if err != nil {
		return err
	}
	return run.Result(map[string]string{"service": l.service.Name, "environment": o.environment, "manifest": text}, text)
}
