package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// reached are releases that are there already, and the cluster they are in.
type reached struct {
	session  *session.Session
	target   target // of a service; zero for those of a set
	cluster  *kube.Cluster
	watcher  *rollout.Watcher
	releases []apply.Request

	clusterName string
}

// existing are the flags that say which of the releases that are there.
func existing() []cli.Flag {
	return append(folder(),
		&cli.StringFlag{Name: "environment", Usage: "`ENVIRONMENT` of the landscape"},
		&cli.StringFlag{Name: "service", Usage: "`SERVICE` of the landscape, instead of the one whose slipway.yaml is in --dir"},
		&cli.StringFlag{Name: "releases", Usage: "`FILE` of a ReleaseSet, instead of a service"},
		&cli.StringFlag{Name: "release", Usage: "`RELEASE` of the set"})
}

func locking() []cli.Flag {
	return []cli.Flag{lockTimeout()}
}

// reach finds the releases that the flags name, and opens their cluster. A
// gated environment is refused where refuse says why.
func reach(ctx context.Context, run *tool.Run, o options, refuse func(target) error) (*reached, error) {
	r := &reached{}
	var i *identity
	var err error
	r.clusterName = o.cluster
	if o.releases != "" {
		if r.releases, err = releasesOf(o); err != nil {
			return nil, err
		}
		r.session, i, err = openSet(ctx, run, o)
	} else {
		i, err = r.service(ctx, run, o, refuse)
		r.clusterName = r.target.Cluster
	}
	if err != nil {
		return nil, err
	}
	if r.cluster, err = connect(ctx, run, o, i, r.clusterName); err != nil {
		return nil, err
	}
	r.watcher = rollout.NewWatcher(r.cluster)
	return r, nil
}

// service finds the release of a service, and obtains its environment's role.
func (r *reached) service(ctx context.Context, run *tool.Run, o options, refuse func(target) error) (*identity, error) {
	request := apply.Request{Spec: helmrelease.Spec{Name: o.service}, Timeout: config.DefaultTimeout, Stable: rollout.ByWorkload}
	if o.service == "" {
		raw, err := dirSource{o.dir}.ReadFile(config.ServiceFile)
		if err != nil {
			return nil, tool.Exit(tool.Usage, fmt.Errorf("reading %s of %q: %w", config.ServiceFile, o.dir, err), "--dir names the folder of a service; --service names one without its files")
		}
		s, err := config.ReadService(config.ServiceFile, raw)
		if err != nil {
			return nil, err
		}
		request.Name = s.Name
		request.Timeout, request.Stable = s.Rollout.Wait()
	}
	err := run.Step(ctx, "read the landscape", func(ctx context.Context) (err error) {
		r.session, err = session.Open(ctx, run, session.Options{Landscape: o.landscape})
		return err
	})
	if err != nil {
		return nil, err
	}
	if r.target, err = resolve(r.session, o, request.Name); err != nil {
		return nil, err
	}
	if r.target.Gated && refuse != nil {
		return nil, refuse(r.target)
	}
	request.Namespace = r.target.Namespace
	r.releases = []apply.Request{request}
	return authorise(ctx, run, o, r.session, r.target.Role)
}

// releasesOf returns the releases of a set, or the one that is named. Their
// charts are not needed.
func releasesOf(o options) ([]apply.Request, error) {
	raw, err := os.ReadFile(o.releases)
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading set %q: %w", o.releases, err))
	}
	set, err := config.ReadSet(o.releases, raw)
	if err != nil {
		return nil, err
	}
	var out []apply.Request
	known := map[string]bool{}
	for _, one := range set.Releases {
		known[one.Name] = true
		if o.release != "" && one.Name != o.release {
			continue
		}
		request := apply.Request{Spec: helmrelease.Spec{Name: one.Name, Namespace: one.Namespace}}
		request.Timeout, request.Stable = set.Rollout(one).Wait()
		out = append(out, request)
	}
	if len(out) == 0 {
		return nil, tool.Exitf(tool.Usage, "set %q has no release %q; it has %s", o.releases, o.release, strings.Join(names(known), ", "))
	}
	return out, nil
}

func (r *reached) deps(run *tool.Run, o options) apply.Deps {
	return apply.Deps{Run: run, Cluster: r.cluster, Watcher: r.watcher, Owner: r.session.Owner, LockTimeout: o.lockTimeout, JobState: jobState(r.session)}
}

func (r *reached) helm(run *tool.Run) *helmrelease.Client {
	return helmrelease.New(r.cluster, r.watcher, run.Log.Printf)
}

// byPromote refuses what in a gated environment is promote's to do.
func byPromote(what, instead string) func(target) error {
	return func(t target) error {
		return tool.Exit(tool.Refused, errors.New("environment "+t.Environment+" is gated: "+what), instead)
	}
}
