package cmd

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// rendered is the manifest of a release.
type rendered struct {
	Release     string `json:"release"`
	Environment string `json:"environment,omitempty"` // of a service
	Manifest    string `json:"manifest"`
}

// runRender prints manifests from files alone: no landscape is read, no role
// assumed and no secret fetched.
func runRender(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{environment: true})
	if err != nil {
		return err
	}
	if o.releases != "" {
		return renderSet(ctx, run, o)
	}
	l, err := loadDir(ctx, run, o)
	if err != nil {
		return err
	}
	list := []*finding{l.finding()}
	if err := findReferences(list); err != nil {
		return err
	}
	all, err := render(ctx, run, list, func(int) string { return "default" })
	if err != nil {
		return err
	}
	all[0].Environment = o.environment
	return run.Result(all, all[0].Manifest)
}

func renderSet(ctx context.Context, run *tool.Run, o options) error {
	p := &preparedSet{}
	if err := p.read(o); err != nil {
		return err
	}
	if err := p.load(ctx, run, o); err != nil {
		return err
	}
	all, err := render(ctx, run, p.list, func(i int) string { return p.set.Releases[i].Namespace })
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, r := range all {
		text.WriteString("# Release: " + r.Release + "\n" + r.Manifest)
	}
	return run.Result(all, text.String())
}

// render renders releases, once their values hold to the charts' schemas.
func render(ctx context.Context, run *tool.Run, list []*finding, namespace func(int) string) ([]rendered, error) {
	for _, f := range list {
		for _, s := range f.found.Sources() {
			run.Log.Printf("%s: %s is not fetched by render: the reference stays where the secret would be", f.release, s)
		}
	}
	if err := checkValues(list, false); err != nil {
		return nil, err
	}
	var all []rendered
	var wrong []error
	for i, f := range list {
		text, err := helmrelease.Render(ctx, f.spec(namespace(i), nil))
		all, wrong = append(all, rendered{Release: f.release, Manifest: text}), append(wrong, err)
	}
	return all, config.Join(wrong...)
}
