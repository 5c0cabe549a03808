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
	l, err := loadDir(ctx, run, o)
	if err != nil {
		return err
	}
	f := l.finding()
	if err := findReferences([]*finding{f}); err != nil {
		return err
	}
	for _, s := range f.found.Sources() {
		run.Log.Printf("%s is not fetched by render: the reference stays where the secret would be", s)
	}
	if err := checkValues([]*finding{f}, false); err != nil {
		return err
	}
	text, err := helmrelease.Render(ctx, f.spec("default", nil))
	if err != nil {
		return err
	}
	return run.Result(map[string]string{"service": l.service.Name, "environment": o.environment, "manifest": text}, text)
}
