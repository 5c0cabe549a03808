package cmd

import (
	"context"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/diff"
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

func runDiff(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	specs, i, cluster, err := diffTargets(ctx, run, o)
	if err != nil {
		return err
	}
	kc, err := connect(ctx, run, o, i, cluster)
	if err != nil {
		return err
	}
	watcher := rollout.NewWatcher(kc)
	defer watcher.Close()
	client := helmrelease.New(kc, watcher, run.Log.Printf)
	var all []diff.Change
	for _, s := range specs {
		state, err := client.Read(ctx, s.Namespace, s.Name)
		if err != nil {
			return err
		}
		stored := ""
		if r := state.Deployed; r != nil {
			stored = r.Manifest
		} else if state.Last != nil {
			stored = state.Last.Manifest
		}
		rendered, err := client.Render(ctx, s, state.Last != nil)
		if err != nil {
			return err
		}
		changes, err := diff.Manifests(stored, rendered)
		if err != nil {
			return err
		}
		all = append(all, changes...)
	}
	if err := run.Result(all, diff.Text(all)); err != nil {
		return err
	}
	if len(all) > 0 && c.Bool("detailed-exitcode") {
		return tool.Exitf(tool.Pending, "%d objects would change", len(all))
	}
	return nil
}

// diffTargets returns the releases to compare, and as whom, in which cluster.
func diffTargets(ctx context.Context, run *tool.Run, o options) ([]helmrelease.Spec, *identity, string, error) {
	if o.set != "" {
		nodes, err := loadSet(o)
		if err != nil {
			return nil, nil, "", err
		}
		var specs []helmrelease.Spec
		for _, n := range nodes {
			specs = append(specs, n.Spec)
		}
		_, i, err := openSet(ctx, run, o)
		return specs, i, o.cluster, err
	}
	p, err := prepare(ctx, run, o)
	if err != nil {
		return nil, nil, "", err
	}
	spec, err := p.loaded.spec(p.target.Namespace)
	return []helmrelease.Spec{spec}, p.identity, p.target.Cluster, err
}
