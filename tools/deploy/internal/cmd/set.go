package cmd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// loadSet reads a set with its charts and values, all of it before anything
// is touched.
func loadSet(o options) ([]apply.Node, error) {
	raw, err := os.ReadFile(o.set)
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading set %q: %w", o.set, err))
	}
	set, err := config.ReadSet(o.set, raw)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(o.set)
	var nodes []apply.Node
	for _, r := range set.Releases {
		chart, err := helmrelease.LoadDir(filepath.Join(dir, filepath.FromSlash(r.Chart.Path)))
		if err != nil {
			return nil, err
		}
		values, _, err := config.Layers(dirSource{dir}, r.Values, "")
		if err != nil {
			return nil, fmt.Errorf("release %q: %w", r.Name, err)
		}
		timeout, stable := set.Rollout(r).Wait()
		nodes = append(nodes, apply.Node{Needs: r.Needs, Request: apply.Request{
			Spec:    helmrelease.Spec{Name: r.Name, Namespace: r.Namespace, Chart: chart, Values: values},
			Timeout: timeout, Stable: stable, CreateNamespace: r.CreateNamespace, Restore: true,
		}})
	}
	return nodes, nil
}

// openSet opens the session for a set: the platform role of the cluster.
func openSet(ctx context.Context, run *tool.Run, o options) (*session.Session, *identity, error) {
	var s *session.Session
	err := run.Step(ctx, "read the landscape", func(ctx context.Context) (err error) {
		s, err = session.Open(ctx, run, session.Options{Landscape: o.landscape})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	i, err := authorisePlatform(ctx, run, o, s, o.cluster)
	return s, i, err
}

// authorisePlatform obtains the platform's role in a cluster.
func authorisePlatform(ctx context.Context, run *tool.Run, o options, s *session.Session, name string) (*identity, error) {
	cluster, ok := s.Snapshot.Clusters[name]
	if !ok {
		return nil, tool.Exitf(tool.Usage, "the landscape has no cluster %q; it has %s", name, strings.Join(names(s.Snapshot.Clusters), ", "))
	}
	role, err := s.Snapshot.RoleIn("platform", cluster.Account)
	if err != nil {
		return nil, tool.Exit(tool.Denied, err, "slipway-bootstrap makes the roles that the landscape asks for")
	}
	return authorise(ctx, run, o, s, role)
}

func applySet(ctx context.Context, run *tool.Run, o options) error {
	nodes, err := loadSet(o)
	if err != nil {
		return err
	}
	s, i, err := openSet(ctx, run, o)
	if err != nil {
		return err
	}
	cluster, err := connect(ctx, run, o, i, o.cluster)
	if err != nil {
		return err
	}
	for i := range nodes {
		nodes[i].Lookup = lookup(s)
	}
	watcher := rollout.NewWatcher(cluster)
	defer watcher.Close()
	var results []apply.Result
	err = run.Step(ctx, fmt.Sprintf("apply %d releases", len(nodes)), func(ctx context.Context) (err error) {
		results, err = apply.Set(ctx, apply.Deps{Run: run, Cluster: cluster, Watcher: watcher, Owner: s.Owner,
			LockTimeout: o.lockTimeout, JobState: jobState(s)}, nodes)
		return err
	})
	run.Report.Result = results
	if err != nil {
		run.Log.Printf("%s", table(results))
		return err
	}
	return run.Result(results, table(results))
}

func table(results []apply.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-24s %-24s %-10s %8s %7s\n", "RELEASE", "NAMESPACE", "STATUS", "REVISION", "READY")
	for _, r := range results {
		fmt.Fprintf(&b, "%-24s %-24s %-10s %8d %6.1fs  %s\n", r.Release, r.Namespace, r.Status, r.Revision, r.Ready, r.Message)
	}
	return b.String()
}
