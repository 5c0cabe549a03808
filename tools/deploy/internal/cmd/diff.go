package cmd

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/diff"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

func runDiff(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	o.looks = true
	s, nodes, i, cluster, err := targets(ctx, run, o)
	if err != nil {
		return err
	}
	kc, err := connect(ctx, run, o, i, cluster)
	if err != nil {
		return err
	}
	watcher := rollout.NewWatcher(kc)
	defer watcher.Close()
	all, failed, err := planAll(ctx, helmrelease.New(kc, watcher, run.Log.Printf), nodes, lookup(s))
	if err != nil {
		return err
	}
	if err := run.Result(all, diff.Text(all, coloured(run))); err != nil {
		return err
	}
	if c.Bool("note") {
		note(ctx, run, s, o.environment, all)
	}
	if failed != nil {
		return failed
	}
	if n := diff.Pending(all); n > 0 && c.Bool("detailed-exitcode") {
		return tool.Exitf(tool.Pending, "%d of %d releases would change", n, len(all))
	}
	return nil
}

// planAll plans every release. What stands against one is shown with the rest,
// and returned once all were looked at.
func planAll(ctx context.Context, client *helmrelease.Client, nodes []apply.Node, lookup bool) (all []diff.Release, failed, err error) {
	kinds := map[schema.GroupKind]bool{}
	var errs []error
	index := helmrelease.NewIndex()
	for _, n := range nodes {
		p, err := client.Plan(ctx, n.Spec, helmrelease.Look{Lookup: lookup, Lenient: true, Kinds: kinds, NewNamespace: n.CreateNamespace, Index: index})
		if err != nil {
			return nil, nil, fmt.Errorf("release %q: %w", n.Name, err)
		}
		maps.Copy(kinds, p.Kinds())
		one, err := diff.Of(p)
		if err != nil {
			return nil, nil, fmt.Errorf("release %q: %w", n.Name, err)
		}
		all = append(all, one)
		errs = append(errs, p.Err())
	}
	return all, apply.Worst(errs), nil
}

// lookup reports whether templates may read the cluster: not where anybody
// who can push a branch writes them.
func lookup(s *session.Session) bool { return !s.CI.InJob || s.Identity.RefProtected }

// coloured reports whether the result is read as it is printed: in a job's
// log, or on a terminal.
func coloured(run *tool.Run) bool {
	if run.Env("NO_COLOR") != "" || run.JSON {
		return false
	}
	if run.Env("GITLAB_CI") != "" {
		return true
	}
	f, ok := run.Out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// targets returns the releases that the flags name, each after those it needs,
// and as whom, in which cluster.
func targets(ctx context.Context, run *tool.Run, o options) (*session.Session, []apply.Node, *identity, string, error) {
	if o.releases != "" {
		p, err := prepareSet(ctx, run, o)
		if err != nil {
			return nil, nil, nil, "", err
		}
		return p.session, ordered(p.nodes), p.identity, o.cluster, nil
	}
	p, err := prepare(ctx, run, o)
	if err != nil {
		return nil, nil, nil, "", err
	}
	spec, err := p.loaded.spec(p.target.Namespace)
	return p.session, []apply.Node{{Request: apply.Request{Spec: spec}}}, p.identity, p.target.Cluster, err
}

// ordered returns the releases of a set, each after those it needs.
func ordered(nodes []apply.Node) []apply.Node {
	var out []apply.Node
	done := map[string]bool{}
	for len(out) < len(nodes) {
		for _, n := range nodes {
			if !done[n.Name] && !slices.ContainsFunc(n.Needs, func(need apply.Need) bool { return !done[need.Name] }) {
				done[n.Name] = true
				out = append(out, n)
			}
		}
	}
	return out
}
