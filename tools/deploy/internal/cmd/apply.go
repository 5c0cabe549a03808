package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"sigs.k8s.io/yaml"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
)

// applied is the result of apply for one service.
type applied struct {
	apply.Result
	Service     string            `json:"service"`
	Environment string            `json:"environment"`
	Cluster     string            `json:"cluster"`
	Images      map[string]string `json:"images,omitempty"`
	Bundle      string            `json:"bundle,omitempty"`
	Commit      string            `json:"commit,omitempty"`
}

func runApply(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	if o.releases != "" {
		return applySet(ctx, run, o)
	}
	p, err := prepare(ctx, run, o)
	if err != nil {
		return err
	}
	if err := p.leave(run, o); err != nil {
		return err
	}
	if p.target.Gated && p.session.CI.InJob {
		if err := run.Step(ctx, "compare with the desired state", func(ctx context.Context) error {
			return wanted(ctx, p.session, o, p.target)
		}); err != nil {
			return err
		}
	}
	if err := images(ctx, run, p); err != nil {
		return err
	}
	cluster, err := connect(ctx, run, o, p.identity, p.target.Cluster)
	if err != nil {
		return err
	}
	p.loaded.backup = c.String("backup")
	spec, err := p.loaded.spec(p.target.Namespace)
	if err != nil {
		return err
	}
	made, err := p.home(ctx, run, o, cluster, spec)
	if err != nil {
		return err
	}
	watcher := rollout.NewWatcher(cluster)
	defer watcher.Close()
	timeout, stable := p.loaded.service.Rollout.Wait()
	restore, why := p.loaded.service.Restores()
	request := apply.Request{Spec: spec, Lookup: lookup(p.session), Timeout: timeout, Stable: stable, Restore: restore, WhyNot: why, RemoveFirst: !p.target.Gated, MadeNamespace: made}
	if !p.target.Gated { // there the desired state is the judge
		request.Refuse = notOlder(ctx, p.loaded.from, o.dir)
	}
	result, err := apply.Release(ctx, apply.Deps{Run: run, Cluster: cluster, Watcher: watcher, Owner: p.session.Owner,
		LockTimeout: o.lockTimeout, JobState: jobState(p.session)},
		request, run.Step)
	out := applied{Result: result, Service: p.loaded.service.Name, Environment: o.environment, Cluster: p.target.Cluster,
		Images: p.loaded.images, Bundle: p.loaded.bundle, Commit: p.loaded.commit}
	run.Report.Result = out
	// Without a status nothing was looked at (the lock was held, the cluster was
	// out of reach), and nothing is claimed: record then says that it is unknown.
	if o.observed != "" && (err == nil || out.Status != "") {
		if werr := writeObserved(o.observed, out); werr != nil && err == nil {
			err = tool.Exit(tool.Broken, werr, "the release is ready, but nobody is told what runs")
		}
	}
	if err != nil {
		return err
	}
	if out.Status == apply.Unchanged {
		return run.Result(out, fmt.Sprintf("%s: %s in namespace %s of cluster %s; nothing was changed", out.Release, out.Message, out.Namespace, out.Cluster))
	}
	return run.Result(out, fmt.Sprintf("%s: revision %d is deployed in namespace %s of cluster %s, ready after %.1f s",
		out.Release, out.Revision, out.Namespace, out.Cluster, out.Ready))
}

// prepared is a service that may be released: who, what and where.
type prepared struct {
	session  *session.Session
	identity *identity
	target   target
	loaded   *loaded
}

// prepare reads and checks everything before the cluster is touched. The
// order matters: files, variables and what the landscape says of the service
// first, all that is wrong with them at once; then the right to the
// environment, before anything else is said of it.
func prepare(ctx context.Context, run *tool.Run, o options) (*prepared, error) {
	p := &prepared{}
	service := ""
	var wrong error // with the files and variables
	if o.bundle.Digest == "" {
		if p.loaded, wrong = readValues(run, o); p.loaded == nil {
			return nil, wrong
		}
		service = p.loaded.service.Name
	}
	err := run.Step(ctx, "read the landscape", func(ctx context.Context) (err error) {
		p.session, err = session.Open(ctx, run, session.Options{Landscape: o.landscape})
		return err
	})
	if tool.CodeOf(err) == tool.Cancelled {
		return nil, err
	}
	if err != nil {
		return nil, config.Join(wrong, err)
	}
	if p.loaded == nil {
		err = run.Step(ctx, "look at bundle", func(ctx context.Context) error {
			service, err = serviceOf(ctx, p.session, o)
			return err
		})
		if err != nil {
			return nil, err
		}
	} else {
		p.loaded.from, p.loaded.commit = checkedOut(ctx, p.session, o.dir)
		wrong = config.Join(wrong, p.loaded.known(p.session.Snapshot))
	}
	p.target, err = resolve(p.session, o, service)
	if err := config.Join(wrong, err); err != nil {
		return nil, err
	}
	if p.loaded != nil {
		if err := p.loaded.fetchChart(ctx, run, o); err != nil {
			return nil, err
		}
	}
	if o.looks {
		p.target.Role = readingRole(p.session, p.target)
	}
	if p.identity, err = authorise(ctx, run, o, p.session, p.target.Role); err != nil {
		return nil, err
	}
	if p.loaded != nil {
		if p.target.Gated {
			return nil, errGated(o.environment)
		}
		return p, p.loaded.settle(ctx, run, p.identity)
	}
	err = run.Step(ctx, "verify bundle", func(ctx context.Context) (err error) {
		if p.loaded, err = loadBundle(ctx, run, o, p.identity, registryOf(p.session)); err != nil {
			return err
		}
		// The target was chosen from what the bundle said before its signature was looked at.
		if got := p.loaded.service.Name; got != p.target.Service {
			return tool.Exitf(tool.Refused, "bundle %q is of service %q, and %q was to be deployed", o.bundle, got, p.target.Service)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, p.loaded.settle(ctx, run, p.identity)
}

// images checks that every image is in its registry.
func images(ctx context.Context, run *tool.Run, p *prepared) error {
	if len(p.loaded.images) == 0 {
		return nil
	}
	registry := registryOf(p.session)
	return run.Step(ctx, "find images", func(ctx context.Context) error {
		for _, name := range names(p.loaded.images) {
			if err := registry.Exists(ctx, p.loaded.images[name]); err != nil {
				return err
			}
			run.Log.Printf("%s: %s", name, p.loaded.images[name])
		}
		return nil
	})
}

// observed is what runs, for slipway-promote record.
type observed struct {
	APIVersion  string            `json:"apiVersion"`
	Kind        string            `json:"kind"`
	Service     string            `json:"service"`
	Environment string            `json:"environment"`
	Bundle      string            `json:"bundle"`
	Revision    int               `json:"revision"`
	Status      string            `json:"status"`
	Images      map[string]string `json:"images,omitempty"`
	Since       time.Time         `json:"since"`
}

// writeObserved writes what is in place now, which after a failure is not what
// was asked for.
func writeObserved(file string, a applied) error {
	o := observed{APIVersion: "slipway/v1", Kind: "Observed", Service: a.Service, Environment: a.Environment,
		Revision: a.Revision, Status: a.Status, Since: time.Now().UTC().Truncate(time.Second)}
	if o.Status == apply.Unchanged {
		o.Status = apply.Deployed
	}
	if r := a.Running; r != nil {
		o.Bundle, o.Revision, o.Since = r.Annotations[bundleAnnotation], r.Number, r.Updated.UTC().Truncate(time.Second)
		if text := r.Annotations[imagesAnnotation]; text != "" {
			if err := json.Unmarshal([]byte(text), &o.Images); err != nil {
				return fmt.Errorf("reading the images of revision %d: %w", r.Number, err)
			}
		}
	}
	raw, err := yaml.Marshal(o)
	if err == nil {
		err = os.WriteFile(file, raw, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the observed state to %q: %w", file, err)
	}
	return nil
}
