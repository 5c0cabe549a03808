package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
)

// preparedSet is a set that may be released, with charts, values and needs.
type preparedSet struct {
	set      *config.ReleaseSet
	session  *session.Session
	identity *identity
	list     []*finding
	nodes    []apply.Node
}

// prepareSet reads and checks everything of a set before the cluster is
// touched: the files first, since they cost nothing, then the right to the
// cluster, then the charts.
func prepareSet(ctx context.Context, run *tool.Run, o options) (*preparedSet, error) {
	p := &preparedSet{}
	err := p.read(o)
	if err != nil {
		return nil, err
	}
	if p.session, p.identity, err = openSet(ctx, run, o); err != nil {
		return nil, err
	}
	if err := p.pinned(o); err != nil {
		return nil, err
	}
	if err := p.load(ctx, run, o); err != nil {
		return nil, err
	}
	secrets, err := fetchSecrets(ctx, run, p.identity, p.list)
	if err != nil {
		return nil, err
	}
	if err := checkValues(p.list, true); err != nil {
		return nil, err
	}
	return p, p.order(ctx, run, secrets)
}

// read reads the set and the layers of its releases, with every problem at once.
func (p *preparedSet) read(o options) error {
	raw, err := os.ReadFile(o.releases)
	if err != nil {
		return tool.Exit(tool.Usage, fmt.Errorf("reading set %q: %w", o.releases, err))
	}
	if p.set, err = config.ReadSet(o.releases, raw); err != nil {
		return err
	}
	var wrong tool.Problems
	for _, r := range p.set.Releases {
		values, err := config.Layers(dirSource{filepath.Dir(o.releases)}, r.Values, "")
		if err != nil {
			wrong.Add("release %q: %v", r.Name, err)
		}
		p.list = append(p.list, &finding{release: r.Name, values: values})
	}
	if err := wrong.Err(); err != nil {
		return err
	}
	return findReferences(p.list)
}

// pinned refuses charts that are not named for good where a gated environment is.
func (p *preparedSet) pinned(o options) error {
	gated := ""
	for _, name := range names(p.session.Snapshot.Environments) {
		if e := p.session.Snapshot.Environments[name]; e.Gated && slices.Contains(e.Clusters, o.cluster) {
			gated = name
		}
	}
	if gated == "" {
		return nil
	}
	var wrong []error
	for _, r := range p.set.Releases {
		if ok, right := r.Chart.Pinned(); !ok {
			wrong = append(wrong, fmt.Errorf("release %q: chart %q can be other bytes tomorrow; %s", r.Name, r.Chart, right))
		}
	}
	return tool.Exit(tool.Refused, errors.Join(wrong...), fmt.Sprintf("cluster %q has the gated environment %q: what runs beside it is named for good", o.cluster, gated))
}

// load loads the charts, each once.
func (p *preparedSet) load(ctx context.Context, run *tool.Run, o options) error {
	wanted := make([]config.Chart, len(p.set.Releases))
	for i, r := range p.set.Releases {
		wanted[i] = r.Chart
	}
	return run.Step(ctx, "load charts", func(ctx context.Context) error {
		charts, err := chartLoader(run, p.set.Credentials).All(ctx, filepath.Dir(o.releases), wanted)
		for i, c := range charts {
			p.list[i].chart = c
		}
		return err
	})
}

// order makes the graph of the releases.
func (p *preparedSet) order(ctx context.Context, run *tool.Run, secrets [][]string) error {
	for i, r := range p.set.Releases {
		timeout, stable := p.set.Rollout(r).Wait()
		p.nodes = append(p.nodes, apply.Node{Needs: apply.Declared(r.Needs), Request: apply.Request{
			Spec: p.list[i].spec(r.Namespace, secrets[i]), Timeout: timeout, Stable: stable, CreateNamespace: r.CreateNamespace, Restore: true,
		}})
	}
	if err := apply.Infer(ctx, p.nodes, run.Log.Printf); err != nil {
		return err
	}
	for _, n := range p.nodes {
		for _, need := range n.Needs {
			if need.Why != apply.InFile {
				run.Log.Printf("%s waits for %s: %s", n.Name, need.Name, need.Why)
			}
		}
	}
	return nil
}

// cameFrom notes in every release what the set was made from, and refuses to put
// an older one over a newer.
func (p *preparedSet) cameFrom(ctx context.Context, dir string) {
	from, commit := checkedOut(ctx, p.session, dir)
	for i := range p.nodes {
		from.note(p.nodes[i].Chart)
		if commit != "" {
			p.nodes[i].Chart.Annotate(commitAnnotation, commit)
		}
		p.nodes[i].Refuse = notOlder(ctx, from, dir)
	}
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
	p, err := prepareSet(ctx, run, o)
	if err != nil {
		return err
	}
	cluster, err := connect(ctx, run, o, p.identity, o.cluster)
	if err != nil {
		return err
	}
	p.cameFrom(ctx, filepath.Dir(o.releases))
	for i := range p.nodes {
		p.nodes[i].Lookup = lookup(p.session)
	}
	watcher := rollout.NewWatcher(cluster)
	defer watcher.Close()
	var results []apply.Result
	err = run.Step(ctx, fmt.Sprintf("apply %d releases", len(p.nodes)), func(ctx context.Context) (err error) {
		results, err = apply.Set(ctx, apply.Deps{Run: run, Cluster: cluster, Watcher: watcher, Owner: p.session.Owner,
			LockTimeout: o.lockTimeout, JobState: jobState(p.session)}, p.nodes)
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
	fmt.Fprintf(&b, "%-24s %-24s %-10s %8s %7s %7s\n", "RELEASE", "NAMESPACE", "STATUS", "REVISION", "READY", "TOOK")
	for _, r := range results {
		fmt.Fprintf(&b, "%-24s %-24s %-10s %8d %6.1fs %6.1fs  %s\n", r.Release, r.Namespace, r.Status, r.Revision, r.Ready, r.Seconds, r.Message)
	}
	return b.String()
}
