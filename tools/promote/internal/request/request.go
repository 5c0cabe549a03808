// Package request is the verb request: the button of a service's pipeline. It
// hands the bundle of that pipeline to the environments project, which alone
// may touch gated environments.
package request

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Options are what the verb needs.
type Options struct {
	Service, Bundle, To string
	ProjectID           int64 // of this job, from its verified ID token
	JobToken            string
	Snapshot            *landscape.Snapshot
	GitLab              Trigger
}

// Trigger starts pipelines.
type Trigger interface {
	Trigger(ctx context.Context, project any, token, ref string, inputs map[string]string) (gitlabapi.Pipeline, error)
}

// Result is the pipeline that was started.
type Result struct {
	Service  string `json:"service"`
	Bundle   string `json:"bundle"`
	To       string `json:"to"`
	Pipeline int64  `json:"pipeline"`
	URL      string `json:"url"`
}

// Check finds all that is wrong with the options, before anything is started.
func (o *Options) Check() error {
	var p tool.Problems
	switch own := o.Snapshot.ServicesOf(o.ProjectID); {
	case len(own) == 0 && o.Service == "":
		p.Add("missing --service: the landscape knows no service of this project (%d)", o.ProjectID)
	case len(own) == 0:
		p.Add("--service %q is not of this project (%d): the landscape knows no service of it", o.Service, o.ProjectID)
	case len(own) > 1 && o.Service == "":
		p.Add("missing --service: this project (%d) holds the services %s", o.ProjectID, strings.Join(own, ", "))
	case o.Service == "":
		o.Service = own[0]
	case !slices.Contains(own, o.Service):
		p.Add("--service %q is not of this project (%d), which holds %s", o.Service, o.ProjectID, strings.Join(own, ", "))
	}
	ref, err := bundle.Parse(o.Bundle)
	p.Check(err == nil, "--bundle: %v", err)
	service, ok := o.Snapshot.Services[o.Service]
	if ok && err == nil && !strings.HasSuffix(ref.Repository, "/"+service.Project.Path+"/bundle") {
		p.Add("--bundle %q is not of the registry of %q, where the bundles of %q are", o.Bundle, service.Project.Path, o.Service)
	}
	env, ok := o.Snapshot.Environments[o.To]
	switch {
	case !ok:
		p.Add("--to: the landscape has no environment %q", o.To)
	case !env.Gated:
		p.Add("--to: environment %q is not gated: this project's own pipeline deploys there", o.To)
	case service.Project.ID != 0 && !slices.Contains(service.Environments, o.To):
		p.Add("--to: service %q is not for environment %q, but for %s", o.Service, o.To, strings.Join(service.Environments, ", "))
	}
	return p.Err()
}

// explain says what to do about a pipeline that was not started, or may have
// been. GitLab says that a project is not there to a job that is not let in.
func (o *Options) explain(err error) error {
	target := o.Snapshot.GitLab.Environments
	if tool.CodeOf(err) == tool.Broken {
		return tool.Hint(err, "look at "+o.Snapshot.GitLab.URL+"/"+target.Path+"/-/pipelines before the button is pressed again")
	}
	if gitlabapi.NotFound(err) {
		err = tool.Exit(tool.Denied, err)
	}
	return tool.Hint(err, "the job token allow-list of "+target.Path+" must name this project, whoever pressed the button must be allowed to run pipelines on its "+target.Trunk()+
		", and its .gitlab-ci.yml must have the inputs service, bundle and target (ci-templates/promotion.yml)")
}

// Run starts the pipeline.
func Run(ctx context.Context, run *tool.Run, o Options) error {
	if err := o.Check(); err != nil {
		return err
	}
	target := o.Snapshot.GitLab.Environments
	var started gitlabapi.Pipeline
	err := run.Step(ctx, "start the promotion in "+target.Path, func(ctx context.Context) error {
		var err error
		started, err = o.GitLab.Trigger(ctx, target.ID, o.JobToken, target.Trunk(), map[string]string{"service": o.Service, "bundle": o.Bundle, "target": o.To})
		return o.explain(err)
	})
	if err != nil {
		return err
	}
	run.Report.Links = append(run.Report.Links, report.Link{Label: "promotion to " + o.To, URL: started.URL})
	return run.Result(Result{o.Service, o.Bundle, o.To, started.ID, started.URL},
		fmt.Sprintf("promotion of %s to %s started: %s", o.Service, o.To, started.URL))
}
