package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/artifact"
)

// target is where a service goes, and as whom.
type target struct {
	Service     string         `json:"service"`
	Environment string         `json:"environment"`
	Tier        string         `json:"tier"`
	Gated       bool           `json:"gated"`
	Cluster     string         `json:"cluster"`
	Namespace   string         `json:"namespace"`
	Role        landscape.Role `json:"role"`
}

// resolve finds out from the landscape where a service goes.
func resolve(s *session.Session, o options, service string) (target, error) {
	env, ok := s.Snapshot.Environments[o.environment]
	if !ok {
		return target{}, tool.Exitf(tool.Usage, "the landscape has no environment %q; it has %s", o.environment, strings.Join(names(s.Snapshot.Environments), ", "))
	}
	svc, ok := s.Snapshot.Services[service]
	if !ok {
		return target{}, tool.Exitf(tool.Usage, "the landscape has no service %q; it has %s", service, strings.Join(names(s.Snapshot.Services), ", "))
	}
	if !slices.Contains(svc.Environments, o.environment) {
		return target{}, tool.Exit(tool.Usage, fmt.Errorf("service %q is not in environment %q, only in %s", service, o.environment, strings.Join(svc.Environments, ", ")),
			"a merge request to landscape/services adds it")
	}
	ns, err := s.Snapshot.Namespace(o.environment, service, o.mr)
	if err != nil {
		return target{}, tool.Exit(tool.Usage, err, "a namespace with {mr} needs --mr")
	}
	t := target{Service: service, Environment: o.environment, Tier: env.Tier, Gated: env.Gated, Namespace: ns, Cluster: o.cluster}
	if t.Cluster == "" && len(env.Clusters) == 1 {
		t.Cluster = env.Clusters[0]
	}
	if !slices.Contains(env.Clusters, t.Cluster) {
		return target{}, tool.Exitf(tool.Usage, "environment %q is in the clusters %s: name one with --cluster", o.environment, strings.Join(env.Clusters, ", "))
	}
	t.Role, err = roleOf(s, t, strings.Contains(env.Namespace, "{mr}"))
	return t, tool.Exit(tool.Denied, err, "slipway-bootstrap makes the roles that the landscape asks for")
}

// roleOf returns the role for a target. A service project that aims at a gated
// environment asks for that environment's role like anybody: AWS refuses it.
func roleOf(s *session.Session, t target, review bool) (landscape.Role, error) {
	environments := s.CI.InJob && s.Identity.ProjectID == s.Snapshot.GitLab.Environments.ID
	switch {
	case t.Gated || environments:
		return s.Snapshot.RoleFor("environment", "", t.Environment)
	case review:
		if r, err := s.Snapshot.RoleFor("review", t.Service, t.Environment); err == nil {
			return r, nil
		}
		return s.Snapshot.RoleFor("review", t.Service, "")
	}
	return s.Snapshot.RoleFor("deploy", t.Service, t.Environment)
}

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// identity is the role's configuration; a person with a kubeconfig has none
// until something else than the cluster is asked.
type identity struct {
	session *session.Session
	role    landscape.Role
	cfg     *aws.Config
}

// aws obtains the role's credentials once.
func (i *identity) aws(ctx context.Context) (aws.Config, error) {
	if i.cfg == nil {
		cfg, err := i.session.AWS(ctx, i.role)
		if err != nil {
			return aws.Config{}, err
		}
		i.cfg = &cfg
	}
	return *i.cfg, nil
}

// authorise obtains the role, before anything else is looked at: who has no
// right learns nothing more.
func authorise(ctx context.Context, run *tool.Run, o options, s *session.Session, role landscape.Role) (*identity, error) {
	i := &identity{session: s, role: role}
	if o.kubeconfig != "" {
		return i, nil
	}
	err := run.Step(ctx, "assume role "+role.Name, func(ctx context.Context) error {
		_, err := i.aws(ctx)
		return err
	})
	return i, err
}

// connect reaches the cluster: by kubeconfig, or as the role.
func connect(ctx context.Context, run *tool.Run, o options, i *identity, cluster string) (*kube.Cluster, error) {
	agent := "slipway-deploy"
	warn := func(text string) { run.Log.Printf("the cluster warns: %s", text) }
	if o.kubeconfig != "" {
		c, err := kube.New(kube.Config{Kubeconfig: o.kubeconfig, Context: o.context, UserAgent: agent, Warn: warn})
		return c, tool.Exit(tool.Usage, err)
	}
	found, ok := i.session.Snapshot.Clusters[cluster]
	if !ok {
		return nil, tool.Exitf(tool.Usage, "the landscape has no cluster %q; it has %s", cluster, strings.Join(names(i.session.Snapshot.Clusters), ", "))
	}
	var out *kube.Cluster
	err := run.Step(ctx, "reach cluster "+cluster, func(ctx context.Context) error {
		cfg, err := i.aws(ctx)
		if err != nil {
			return err
		}
		cfg = cfg.Copy()
		if found.Region != "" {
			cfg.Region = found.Region
		}
		eks, err := awsauth.DescribeCluster(ctx, cfg, found.EKSName)
		if err != nil {
			return err
		}
		out, err = kube.New(kube.Config{Endpoint: eks.Endpoint, CA: eks.CA, UserAgent: agent, Warn: warn,
			Token: func(ctx context.Context) (string, time.Time, error) {
				return awsauth.ClusterToken(ctx, cfg, found.EKSName)
			}})
		if err != nil {
			return err
		}
		if _, err = out.Mapper(); kube.Denied(err) {
			return tool.Exit(tool.Denied, err, "the cluster does not know the role "+i.role.Name+": bootstrap makes its access entry")
		}
		return err
	})
	return out, err
}

// registryOf is the registry of the job's instance, with the job's token.
func registryOf(s *session.Session) artifact.Registry {
	host, _, _ := strings.Cut(s.CI.RegistryImage, "/")
	return artifact.Registry{Access: bundle.Access{Host: host, User: "gitlab-ci-token", Password: s.CI.JobToken}}
}

// jobState asks GitLab for the state of an owner's job, where there is a token
// that may ask and the owner is of this instance.
func jobState(s *session.Session) func(context.Context, owner.Owner) string {
	return func(ctx context.Context, o owner.Owner) string {
		if o.Instance != s.Snapshot.GitLab.URL {
			return "of another instance"
		}
		if s.GitLab == nil || s.GitLab.AsJob() {
			return ""
		}
		state, err := s.GitLab.JobState(ctx, o.Project, o.Job)
		if err != nil {
			return "unknown"
		}
		return state
	}
}

// errGated refuses files where only bundles may go.
func errGated(environment string) error {
	return tool.Exit(tool.Refused, errors.New("environment "+environment+" is gated: it takes release bundles only"),
		"press the promotion button of a pipeline; it hands its bundle to the environments project")
}
