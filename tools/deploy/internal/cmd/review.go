package cmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
	"gitlab.com/slipway/slipway/tools/deploy/internal/review"
)

// appOf returns the review app that a target is, where its environment has a
// namespace for each merge request.
func appOf(s *session.Session, t target, mr string) (app review.App, isReview bool, err error) {
	env := s.Snapshot.Environments[t.Environment]
	if !strings.Contains(env.Namespace, "{mr}") {
		return app, false, nil
	}
	app = review.App{Service: t.Service, Environment: t.Environment, MR: mr, Namespace: t.Namespace, Group: "slipway:" + t.Role.Name}
	if env.StopAfter != "" {
		if app.StopAfter, err = time.ParseDuration(env.StopAfter); err != nil {
			return app, true, tool.Exit(tool.Usage, fmt.Errorf("reading stopAfter of environment %q: %w", t.Environment, err))
		}
	}
	return app, true, nil
}

// home makes the namespace of a review app; every other namespace is the
// tenancy release's to make. What a service may not bring is refused first.
func (p *prepared) home(ctx context.Context, run *tool.Run, o options, cluster *kube.Cluster, spec helmrelease.Spec) (made bool, err error) {
	app, isReview, err := appOf(p.session, p.target, o.mr)
	if err != nil || !isReview {
		return false, err
	}
	err = run.Step(ctx, "look at what the release brings", func(ctx context.Context) error {
		return helmrelease.New(cluster, nil, run.Log.Printf).Bounds(ctx, spec)
	})
	if err != nil {
		return false, tool.Hint(err, "nothing was changed")
	}
	err = run.Step(ctx, "make namespace "+app.Namespace, func(ctx context.Context) (err error) {
		ctx, cancel := tool.Deadline(ctx, 5*time.Minute, "making namespace "+app.Namespace)
		defer cancel()
		made, err = review.Ensure(ctx, cluster, app, time.Now())
		return err
	})
	if made && err != nil {
		err = apply.MadeFor(app.Namespace, err)
	}
	return made, err
}

// stopped is the result of stop.
type stopped struct {
	review.App
	Cluster string `json:"cluster"`
	Removed bool   `json:"removed"`
}

// runStop removes the review app of a merge request. It reads no file of the
// repository: GitLab runs it after the branch is gone.
func runStop(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	s, err := session.Open(ctx, run, session.Options{Landscape: o.landscape})
	if err != nil {
		return err
	}
	service, err := ownService(s, o.service)
	if err != nil {
		return err
	}
	t, err := resolve(s, o, service)
	if err != nil {
		return err
	}
	app, isReview, err := appOf(s, t, o.mr)
	if err != nil {
		return err
	}
	if !isReview {
		return tool.Exit(tool.Refused, fmt.Errorf("environment %q is not one of review apps: its namespace is %q for every merge request", o.environment, t.Namespace))
	}
	i, err := authorise(ctx, run, o, s, t.Role)
	if err != nil {
		return err
	}
	cluster, err := connect(ctx, run, o, i, t.Cluster)
	if err != nil {
		return err
	}
	out := stopped{App: app, Cluster: t.Cluster}
	remover, done := removerOf(run, c, s, o, cluster)
	defer done()
	err = run.Step(ctx, "remove review app "+app.Namespace, func(ctx context.Context) (err error) {
		out.Removed, err = remover.Stop(ctx, app)
		return err
	})
	if err != nil {
		return err
	}
	text := "namespace " + app.Namespace + " is gone, with all that was in it"
	if !out.Removed {
		text = "there is no namespace " + app.Namespace + ": nothing to remove"
	}
	return run.Result(out, text)
}

func removerOf(run *tool.Run, c *cli.Context, s *session.Session, o options, cluster *kube.Cluster) (review.Remover, func()) {
	watcher := rollout.NewWatcher(cluster)
	return review.Remover{Timeout: c.Duration("timeout"), Deps: apply.Deps{Run: run, Cluster: cluster, Watcher: watcher, Owner: s.Owner,
		LockTimeout: o.lockTimeout, JobState: jobState(s)}}, watcher.Close
}

// ownService is the service named, or the only one of the job's project.
func ownService(s *session.Session, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	all := s.Snapshot.ServicesOf(s.Identity.ProjectID)
	if !s.CI.InJob || len(all) != 1 {
		return "", tool.Exit(tool.Usage, fmt.Errorf("missing --service: the project has %d services in the landscape", len(all)), "the template's input service names it")
	}
	return all[0], nil
}
