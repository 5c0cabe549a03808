// Package record is the verb record: after a deployment it keeps what was
// observed, and makes the deployment record in the service's project.
package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/envstate"
	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/gitrepo"
	"gitlab.com/slipway/slipway/tools/promote/internal/state"
)

// Options are what the verb needs.
type Options struct {
	Service, Bundle, Target string
	Observed                string // the file slipway-deploy wrote
	Gate                    string // the report of the gate's job
	Ref                     string // of the service's commit
	Identity                cienv.Identity
	Snapshot                *landscape.Snapshot
	GitLab                  Deployer
	Fetch                   func(context.Context, bundle.Reference) (*bundle.Bundle, error)
	Clone                   func(context.Context) (*gitrepo.Repo, error)
}

// Deployer makes deployment records.
type Deployer interface {
	Deploy(ctx context.Context, project any, d gitlabapi.Deployment) (gitlabapi.Deployment, error)
}

// Result is what was recorded.
type Result struct {
	Service     string `json:"service"`
	Environment string `json:"environment"`
	Status      string `json:"status"`
	Bundle      string `json:"bundle"`               // what runs
	Commit      string `json:"commit,omitempty"`     // of the observed state
	Deployment  int64  `json:"deployment,omitempty"` // in the service's project
}

// Check finds all that is wrong with the options.
func (o *Options) Check() error {
	want := o.Snapshot.GitLab.Environments
	if o.Identity.ProjectID == 0 || o.Identity.ProjectID != want.ID || !o.Identity.RefProtected || o.Identity.RefType != "branch" {
		return tool.Exit(tool.Denied, errors.New("records are made by jobs of the environments project on a protected branch"),
			fmt.Sprintf("that project is %s (%d); this job is %q", want.Path, want.ID, o.Identity.Subject))
	}
	var p tool.Problems
	_, ok := o.Snapshot.Services[o.Service]
	p.Check(ok, "--service: the landscape has no service %q", o.Service)
	env, ok := o.Snapshot.Environments[o.Target]
	p.Check(ok && env.Gated, "--target: the landscape has no gated environment %q", o.Target)
	_, err := bundle.Parse(o.Bundle)
	p.Check(err == nil, "--bundle: %v", err)
	p.Need(o.Observed, "observed")
	return p.Err()
}

// Run records the deployment.
func Run(ctx context.Context, run *tool.Run, o Options) (err error) {
	if err := o.Check(); err != nil {
		return err
	}
	var repo *gitrepo.Repo
	err = run.Step(ctx, "clone the environments project", func(ctx context.Context) error {
		repo, err = o.Clone(ctx)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repo.Close()) }()
	raw, err := os.ReadFile(o.Observed)
	if errors.Is(err, os.ErrNotExist) {
		return o.nothingObserved(run, repo)
	}
	if err != nil {
		return fmt.Errorf("reading what was observed: %w", err)
	}
	observed, err := o.read(raw)
	if err != nil {
		return err
	}
	result := Result{Service: o.Service, Environment: o.Target, Status: observed.Status, Bundle: observed.Bundle}
	if err := run.Step(ctx, "keep the observed state", func(ctx context.Context) error {
		result.Commit, err = o.keep(ctx, repo, observed, raw)
		return err
	}); err != nil {
		return err
	}
	if err := run.Step(ctx, "record the deployment", func(ctx context.Context) error {
		result.Deployment, err = o.deployment(ctx, observed)
		return err
	}); tool.CodeOf(err) == tool.Failed {
		// The observed state is committed: it cannot be said that nothing was changed.
		return tool.Exit(tool.Temporary, err, "the observed state is kept; run the job again to make the deployment record, which is made once")
	} else if err != nil {
		return err
	}
	kept := "observed state written as " + result.Commit
	if result.Commit == "" {
		kept = "the observed state stood there already"
	}
	return run.Result(result, fmt.Sprintf("%s in %s: %s; %s; deployment %d in %s", o.Service, o.Target, observed.Status, kept, result.Deployment, o.Snapshot.Services[o.Service].Project.Path))
}

// nothingObserved tells a gate that refused, after which there is nothing to
// record, from a deployment that ended without a word.
func (o *Options) nothingObserved(run *tool.Run, repo *gitrepo.Repo) error {
	none := Result{Service: o.Service, Environment: o.Target, Status: "none"}
	if o.refused() {
		return run.Result(none, "the bundle was refused by the gate, so that nothing was deployed: nothing to record")
	}
	file := envstate.DesiredFile(o.Target, o.Service)
	raw, err := repo.Read(file)
	if err != nil {
		return err
	}
	if raw != nil {
		desired, err := envstate.ReadDesired(file, raw)
		if err != nil {
			return err
		}
		if desired.Bundle == o.Bundle {
			return tool.Exit(tool.Unproven, fmt.Errorf("the bundle is desired in %q, but the deployment left no %q: what runs there is not known", o.Target, o.Observed),
				"run the deployment again: it takes up where the last one ended")
		}
	}
	return run.Result(none, "the bundle was not promoted, so that nothing was deployed: nothing to record")
}

// refused reports whether the gate of this pipeline refused the bundle, which
// may be desired all the same: an earlier pipeline promoted it. Without a report
// that can be read it is not known, and nothing is taken for granted.
func (o *Options) refused() bool {
	raw, err := os.ReadFile(o.Gate)
	if err != nil {
		return false
	}
	var gate struct {
		Tool     string `json:"tool"`
		ExitCode int    `json:"exitCode"`
	}
	return json.Unmarshal(raw, &gate) == nil && gate.Tool == "slipway-promote" && gate.ExitCode == tool.Refused
}

// read checks that the file is about this deployment.
func (o *Options) read(raw []byte) (state.Observed, error) {
	ob, err := state.ReadObserved(o.Observed, raw)
	if err != nil {
		return ob, tool.Exit(tool.Usage, err, "slipway-deploy apply --observed writes it")
	}
	var p tool.Problems
	p.Check(ob.Service == o.Service, "%s is about service %q, not %q", o.Observed, ob.Service, o.Service)
	p.Check(ob.Environment == o.Target, "%s is about environment %q, not %q", o.Observed, ob.Environment, o.Target)
	p.Check(ob.Status == state.Deployed || ob.Status == state.Restored || ob.Status == state.Failed, "%s: status %q is not deployed, restored or failed", o.Observed, ob.Status)
	p.Check(ob.Status != state.Deployed || ob.Bundle == o.Bundle, "%s says that %q was deployed, not %q", o.Observed, ob.Bundle, o.Bundle)
	p.Check(!ob.Since.IsZero(), "%s: since is missing", o.Observed)
	return ob, p.Err()
}

// keep commits the observed state. An old job that is run again must not bring
// an older state back over a newer one.
func (o *Options) keep(ctx context.Context, repo *gitrepo.Repo, ob state.Observed, raw []byte) (string, error) {
	file := state.ObservedFile(o.Target, o.Service)
	message := fmt.Sprintf("%s in %s: %s\n\nBundle: %s\nPipeline: %d\n", o.Service, o.Target, ob.Status, o.Bundle, o.Identity.PipelineID)
	return repo.Commit(ctx, message, func(context.Context) (map[string][]byte, error) {
		before, err := repo.Read(file)
		if err != nil {
			return nil, err
		}
		if before != nil {
			standing, err := state.ReadObserved(file, before)
			if err != nil {
				return nil, tool.Exit(tool.Usage, err, "the file belongs to slipway-promote: restore its last version")
			}
			if standing.Since.After(ob.Since) {
				return nil, tool.Exit(tool.Refused, fmt.Errorf("%q holds a newer state, since %s; this deployment's is since %s",
					file, standing.Since.UTC().Format(time.RFC3339), ob.Since.UTC().Format(time.RFC3339)),
					"this job is of an older deployment: nothing was recorded")
			}
		}
		return map[string][]byte{file: raw}, nil
	})
}

// deployment makes the record of the bundle that was to be deployed, with the
// service's commit: a restored deployment is a failed one of it.
func (o *Options) deployment(ctx context.Context, ob state.Observed) (int64, error) {
	ref, err := bundle.Parse(o.Bundle)
	if err != nil {
		return 0, tool.Exit(tool.Usage, err)
	}
	b, err := o.Fetch(ctx, ref)
	if err != nil {
		return 0, err
	}
	status := "failed"
	if ob.Status == state.Deployed {
		status = "success"
	}
	d, err := o.GitLab.Deploy(ctx, o.Snapshot.Services[o.Service].Project.ID, gitlabapi.Deployment{Environment: o.Snapshot.GitLabEnvironment(o.Service, o.Target), SHA: b.Config.Commit, Ref: o.Ref, Status: status, Finished: ob.Since})
	return d.ID, tool.Hint(err, "the job token allow-list of the service's project must name the environments project, and the user must be a developer there")
}
