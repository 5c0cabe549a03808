// Package run is the verb run: it verifies a bundle, asks the gates before its
// target, and writes the desired state. It deploys nothing.
package run

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/envstate"
	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/gate"
	"gitlab.com/slipway/slipway/tools/promote/internal/gitrepo"
	"gitlab.com/slipway/slipway/tools/promote/internal/promotion"
	"gitlab.com/slipway/slipway/tools/promote/internal/state"
)

// Options are what the verb needs.
type Options struct {
	Service, Bundle, Target string
	File                    string // promotion.yaml, in the repository
	RegistryHost            string // of the instance
	Identity                cienv.Identity
	Email                   string // user_email of the verified ID token
	Snapshot                *landscape.Snapshot
	Now                     func() time.Time
	GitLab                  Records
	Fetch                   func(context.Context, bundle.Reference) (*bundle.Bundle, error)
	Verify                  func(ctx context.Context, envelope []byte) (payload []byte, err error)
	Clone                   func(context.Context) (*gitrepo.Repo, error)
}

// Records are the records of GitLab that gates look at.
type Records interface {
	Deployments(ctx context.Context, project any, environment string) ([]gitlabapi.Deployment, error)
	Commit(ctx context.Context, project any, sha string) (gitlabapi.Commit, error)
}

// Result is what was promoted.
type Result struct {
	Service       string          `json:"service"`
	Environment   string          `json:"environment"`
	Bundle        string          `json:"bundle"`
	Configuration string          `json:"configuration"`
	Gates         []envstate.Gate `json:"gates"`
	Commit        string          `json:"commit,omitempty"` // of the desired state; empty where it stood there already
}

// Check finds all that is wrong with the options, and refuses every job but
// one of the environments project on a protected branch.
func (o *Options) Check() error {
	want := o.Snapshot.GitLab.Environments
	if o.Identity.ProjectID == 0 || o.Identity.ProjectID != want.ID || !o.Identity.RefProtected || o.Identity.RefType != "branch" {
		return tool.Exit(tool.Denied, errors.New("promotions are run by jobs of the environments project on a protected branch"),
			fmt.Sprintf("that project is %s (%d); this job is %q", want.Path, want.ID, o.Identity.Subject))
	}
	var p tool.Problems
	service, ok := o.Snapshot.Services[o.Service]
	p.Check(ok, "--service: the landscape has no service %q", o.Service)
	env, known := o.Snapshot.Environments[o.Target]
	p.Check(known, "--target: the landscape has no environment %q", o.Target)
	if known {
		p.Check(env.Gated, "--target: environment %q is not gated", o.Target)
	}
	if ok && known {
		p.Check(slices.Contains(service.Environments, o.Target), "--target: service %q is not for environment %q, but for %s", o.Service, o.Target, strings.Join(service.Environments, ", "))
	}
	ref, err := bundle.Parse(o.Bundle)
	p.Check(err == nil, "--bundle: %v", err)
	if ok && err == nil {
		// Only the service's own project may write there, so that no other
		// service's job can pass its bundle off as this one's.
		repository := o.RegistryHost + "/" + service.Project.Path + "/bundle"
		p.Check(ref.Repository == repository, "--bundle: bundles of %q are in %q, not in %q", o.Service, repository, ref.Repository)
	}
	p.Check(o.File != "" && !path.IsAbs(o.File) && path.Clean(o.File) == o.File && !strings.HasPrefix(o.File, ".."), "--file %q is not a path in the repository", o.File)
	return p.Err()
}

// Run promotes the bundle.
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
	rules, err := o.rules(repo)
	if err != nil {
		return err
	}
	var candidate *bundle.Bundle
	if err := run.Step(ctx, "verify the bundle", func(ctx context.Context) error {
		candidate, err = o.verified(ctx)
		return err
	}); err != nil {
		return err
	}
	var results []gate.Result
	if err := run.Step(ctx, "ask the gates", func(ctx context.Context) error {
		results, err = o.gates(ctx, run, repo, rules, candidate)
		return err
	}); err != nil {
		return err
	}
	return run.Step(ctx, "write the desired state", func(ctx context.Context) error {
		return o.write(ctx, run, repo, candidate, results)
	})
}

// rules reads promotion.yaml at the branch's tip: a pipeline that is run again
// must not bring older rules back.
func (o *Options) rules(repo *gitrepo.Repo) (*promotion.Promotion, error) {
	raw, err := repo.Read(o.File)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("the environments project has no %q", o.File), "it holds the order and the gates: kind Promotion")
	}
	return promotion.Read(o.File, raw, o.Snapshot)
}

// verified returns the bundle if it says what it should, signed under the
// landscape's key.
func (o *Options) verified(ctx context.Context) (*bundle.Bundle, error) {
	ref, err := bundle.Parse(o.Bundle)
	if err != nil {
		return nil, tool.Exit(tool.Usage, err)
	}
	b, err := o.Fetch(ctx, ref)
	if err != nil {
		return nil, err
	}
	if project := o.Snapshot.Services[o.Service].Project; b.Config.Service != o.Service || b.Config.Project.ID != project.ID {
		return nil, tool.Exit(tool.Refused, fmt.Errorf("the bundle is of service %q of project %d, not of %q of project %d", b.Config.Service, b.Config.Project.ID, o.Service, project.ID))
	}
	envelopes, err := b.Envelopes()
	if err != nil {
		return nil, err
	}
	if len(envelopes) == 0 {
		return nil, tool.Exit(tool.Refused, errors.New("the bundle is not signed"), "slipway-deploy bundle signs it on a protected branch")
	}
	var why []error
	for _, e := range envelopes {
		payload, err := o.Verify(ctx, e)
		if err == nil {
			err = b.Check(payload)
		}
		if err == nil {
			return b, nil
		}
		if code := tool.CodeOf(err); code == tool.Denied || code == tool.Cancelled || code == tool.Temporary {
			return nil, err
		}
		why = append(why, err)
	}
	return nil, tool.Exit(tool.Refused, fmt.Errorf("no signature of the bundle holds: %w", errors.Join(why...)))
}

// gates asks every gate, and notes what each said.
func (o *Options) gates(ctx context.Context, run *tool.Run, repo *gitrepo.Repo, rules *promotion.Promotion, b *bundle.Bundle) ([]gate.Result, error) {
	before, found := rules.Before(o.Target, o.Snapshot.Services[o.Service].Environments)
	if !found {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("%s: environment %q is not in the order", o.File, o.Target))
	}
	s := gate.Subject{Now: o.Now(), Target: o.Target, Gate: rules.Gates[o.Target], Before: before, Healthy: map[string][]gate.Interval{},
		Actor: gate.Person{Login: o.Identity.User, Email: o.Email}, NeedsSafe: o.Snapshot.Environments[o.Target].BackupBefore}
	for _, env := range before {
		events, err := o.evidence(ctx, repo, env, b)
		if err != nil {
			return nil, err
		}
		s.Healthy[env] = state.Intervals(events)
	}
	if s.Gate.Actor.NotAuthor {
		c, err := o.GitLab.Commit(ctx, o.Snapshot.Services[o.Service].Project.ID, b.Config.Commit)
		if err != nil {
			run.Log.Printf("the author of commit %s cannot be read: %v", b.Config.Commit, err) // the gate then fails
		}
		s.Author = gate.Person{Name: c.AuthorName, Email: c.AuthorEmail}
	}
	results := gate.Evaluate(s)
	for _, r := range results {
		level, word := "info", "passed"
		if !r.Passed {
			level, word = "error", "FAILED"
		}
		run.Log.Printf("%s  %s: %s", word, r.Gate, r.Reason)
		run.Report.Find(report.Finding{Level: level, Class: "gate", Object: r.Gate, Message: r.Reason})
	}
	if failed := gate.Failed(results); len(failed) > 0 {
		run.Report.Result = Result{Service: o.Service, Environment: o.Target, Bundle: o.Bundle, Gates: state.Gates(results)}
		return nil, tool.Exit(tool.Refused, fmt.Errorf("%d of %d gates did not pass:\n  %s", len(failed), len(results), strings.Join(failed, "\n  ")),
			"nothing was changed; press the button again when they pass")
	}
	return results, nil
}

// evidence returns what is on record of the bundle in an environment: for a
// gated one our own observed state, which knows bundles; for others GitLab's
// deployments, which know commits.
func (o *Options) evidence(ctx context.Context, repo *gitrepo.Repo, env string, b *bundle.Bundle) ([]state.Event, error) {
	if o.Snapshot.Environments[env].Gated {
		file := state.ObservedFile(env, o.Service)
		history, err := repo.History(ctx, file)
		if err != nil {
			return nil, err
		}
		newest := make([]state.Observed, 0, len(history))
		for _, raw := range history {
			ob, err := state.ReadObserved(file, raw)
			if err != nil {
				return nil, err
			}
			newest = append(newest, ob)
		}
		return state.Events(newest, o.Bundle), nil
	}
	name := o.Snapshot.GitLabEnvironment(o.Service, env)
	list, err := o.GitLab.Deployments(ctx, o.Snapshot.Services[o.Service].Project.ID, name)
	if err != nil {
		return nil, err
	}
	var events []state.Event
	for _, d := range slices.Backward(list) {
		// Anyone who may write to the project can make a record; the pipeline is
		// named only by GitLab, for the deployment of a job.
		ours := d.SHA == b.Config.Commit && d.Pipeline == b.Config.Pipeline
		events = append(events, state.Event{At: d.Finished, Ours: ours, Ends: !ours, Source: fmt.Sprintf("deployment %d to %s", d.ID, name)})
	}
	return events, nil
}
