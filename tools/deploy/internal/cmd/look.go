package cmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/diff"
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
	if err := l.fromEnv(run, o); err != nil {
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
	if o.releases != "" {
		set, err := prepareSet(ctx, run, o)
		if err != nil {
			return nil, nil, "", err
		}
		var specs []helmrelease.Spec
		for _, n := range set.nodes {
			specs = append(specs, n.Spec)
		}
		return specs, set.identity, o.cluster, nil
	}
	p, err := prepare(ctx, run, o)
	if err != nil {
		return nil, nil, "", err
	}
	spec, err := p.loaded.spec(p.target.Namespace)
	return []helmrelease.Spec{spec}, p.identity, p.target.Cluster, err
}

// stated is the result of status.
type stated struct {
	Service   string                `json:"service"`
	Namespace string                `json:"namespace"`
	Cluster   string                `json:"cluster"`
	Last      *helmrelease.Revision `json:"last,omitempty"`
	Deployed  *helmrelease.Revision `json:"deployed,omitempty"`
	Objects   []rollout.State       `json:"objects,omitempty"`
	Findings  []rollout.Finding     `json:"findings,omitempty"`
}

func runStatus(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	service, err := serviceName(o)
	if err != nil {
		return err
	}
	s, err := session.Open(ctx, run, session.Options{Landscape: o.landscape})
	if err != nil {
		return err
	}
	t, err := resolve(s, o, service)
	if err != nil {
		return err
	}
	i, err := authorise(ctx, run, o, s, t.Role)
	if err != nil {
		return err
	}
	kc, err := connect(ctx, run, o, i, t.Cluster)
	if err != nil {
		return err
	}
	watcher := rollout.NewWatcher(kc)
	defer watcher.Close()
	client := helmrelease.New(kc, watcher, run.Log.Printf)
	state, err := client.Read(ctx, t.Namespace, service)
	if err != nil {
		return err
	}
	out := stated{Service: service, Namespace: t.Namespace, Cluster: t.Cluster, Last: state.Last, Deployed: state.Deployed}
	if state.Last == nil {
		return run.Result(out, service+" is not installed in "+t.Environment)
	}
	if out.Objects, out.Findings, err = client.Look(ctx, t.Namespace, *state.Last, 10*time.Second); err != nil {
		return err
	}
	return run.Result(out, out.text())
}

func (s stated) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: revision %d is %s since %s (%s)\n", s.Service, s.Last.Number, s.Last.Status, s.Last.Updated.UTC().Format(time.RFC3339), s.Last.Description)
	if s.Deployed != nil && s.Deployed.Number != s.Last.Number {
		fmt.Fprintf(&b, "the last that was ready is revision %d\n", s.Deployed.Number)
	}
	for _, o := range s.Objects {
		mark := "ready    "
		if !o.Ready {
			mark = "not ready"
		}
		fmt.Fprintf(&b, "%s %s: %s\n", mark, o.Object, o.Message)
	}
	for _, f := range s.Findings {
		fmt.Fprintf(&b, "%s\n", f.Sentence())
	}
	return b.String()
}
