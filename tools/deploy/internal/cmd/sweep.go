package cmd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/review"
)

// runSweep removes the review apps that their stop jobs have not: of merge
// requests that have ended, and those that have outlived their time. It is the
// platform's: a service's role on a protected branch has no review rights.
func runSweep(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	s, err := session.Open(ctx, run, session.Options{Landscape: o.landscape})
	if err != nil {
		return err
	}
	env, ok := s.Snapshot.Environments[o.environment]
	if !ok || !strings.Contains(env.Namespace, "{mr}") {
		return tool.Exit(tool.Usage, fmt.Errorf("environment %q of the landscape is not one of review apps", o.environment), "its namespace has {mr}")
	}
	clusters := env.Clusters
	if o.cluster != "" {
		clusters = []string{o.cluster}
	}
	if o.kubeconfig != "" && len(clusters) > 1 {
		return tool.Exitf(tool.Usage, "environment %q is in the clusters %s, and --kubeconfig reaches one: name it with --cluster", o.environment, strings.Join(clusters, ", "))
	}
	all := []review.Forgotten{}
	var errs []error
	for _, cluster := range clusters {
		found, err := sweepCluster(ctx, run, c, s, o, cluster)
		all = append(all, found...)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, run.Result(all, swept(all, c.Bool("dry-run"))))...)
}

func sweepCluster(ctx context.Context, run *tool.Run, c *cli.Context, s *session.Session, o options, cluster string) ([]review.Forgotten, error) {
	i, err := authorisePlatform(ctx, run, o, s, cluster)
	if err != nil {
		return nil, err
	}
	kc, err := connect(ctx, run, o, i, cluster)
	if err != nil {
		return nil, err
	}
	remover, done := removerOf(run, c, s, o, kc)
	defer done()
	var found []review.Forgotten
	err = run.Step(ctx, "sweep cluster "+cluster, func(ctx context.Context) (err error) {
		found, err = review.Sweep{Remover: remover, Environment: o.environment, State: mergeRequestState(run, s), Now: time.Now(), DryRun: c.Bool("dry-run"),
			Namespace: func(service, mr string) string {
				if _, ok := s.Snapshot.Services[service]; !ok || !number.MatchString(mr) {
					return ""
				}
				ns, err := s.Snapshot.Namespace(o.environment, service, mr)
				if err != nil {
					return ""
				}
				return ns
			}}.Run(ctx)
		return err
	})
	return found, err
}

// mergeRequestState asks GitLab, once for each merge request. The project is
// the landscape's, not one that a namespace names.
func mergeRequestState(run *tool.Run, s *session.Session) func(ctx context.Context, service, mr string) string {
	return func(ctx context.Context, service, mr string) string {
		iid, err := strconv.ParseInt(mr, 10, 64)
		if err != nil || s.GitLab == nil {
			return ""
		}
		got, err := s.GitLab.MergeRequest(ctx, s.Snapshot.Services[service].Project.ID, iid)
		if err != nil {
			run.Log.Printf("%s: %v; its age alone decides", service, err)
			return ""
		}
		return got.State
	}
}

func swept(all []review.Forgotten, dry bool) string {
	if len(all) == 0 {
		return "there are no review apps"
	}
	lines := make([]string, 0, len(all))
	for _, f := range all {
		what := f.Reason
		switch {
		case f.Error != "":
			what = "could not be removed: " + f.Error
		case f.Removed:
			what = "removed: " + f.Reason
		case dry && !strings.HasPrefix(f.Reason, "kept"):
			what = "would be removed: " + f.Reason
		}
		lines = append(lines, f.Namespace+" "+what)
	}
	return strings.Join(lines, "\n")
}
