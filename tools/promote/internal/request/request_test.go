package request_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/request"
)

// call is the one call the verb makes, and the answer to it.
type call struct {
	project any
	token   string
	ref     string
	inputs  map[string]string
	err     error
}

func (c *call) Trigger(_ context.Context, project any, token, ref string, inputs map[string]string) (gitlabapi.Pipeline, error) {
	c.project, c.token, c.ref, c.inputs = project, token, ref, inputs
	return gitlabapi.Pipeline{ID: 12, URL: "https://gitlab.example.com/nsflow/environments/-/pipelines/12"}, c.err
}

func options(c *call) request.Options {
	return request.Options{Bundle: "127.0.0.1:5000/nsflow/orders/bundle@sha256:" + strings.Repeat("a", 64), To: "stage", ProjectID: 77, JobToken: "job-token", GitLab: c,
		Snapshot: &landscape.Snapshot{
			GitLab:       landscape.GitLab{URL: "https://gitlab.example.com", Environments: landscape.Project{Path: "nsflow/environments", ID: 43}},
			Environments: map[string]landscape.Environment{"dev": {}, "stage": {Gated: true}, "prod": {Gated: true}},
			Services: map[string]landscape.Service{"orders": {Project: landscape.Project{Path: "nsflow/orders", ID: 77}, Environments: []string{"dev", "stage"}},
				"catalog": {Project: landscape.Project{Path: "nsflow/catalog", ID: 78}}}}}
}

func TestRun(t *testing.T) {
	c := &call{}
	o := options(c)
	var out bytes.Buffer
	r := &tool.Run{Streams: tool.Streams{Out: &out}, Log: joblog.New(&bytes.Buffer{}, false), Report: report.New("slipway-promote", "request", "test")}
	if err := request.Run(t.Context(), r, o); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"service": "orders", "bundle": o.Bundle, "target": "stage"}
	if c.project != int64(43) || c.ref != "main" || c.token != "job-token" || !maps.Equal(c.inputs, want) {
		t.Errorf("started %+v, want inputs %v", c, want)
	}
	if !strings.Contains(out.String(), "/pipelines/12") || len(r.Report.Links) != 1 {
		t.Errorf("the result is %q, with the links %v", out.String(), r.Report.Links)
	}
	o.Snapshot.GitLab.Environments.Branch = "trunk"
	if err := request.Run(t.Context(), r, o); err != nil || c.ref != "trunk" {
		t.Errorf("started on %q, %v; the project's branch is trunk", c.ref, err)
	}
	for _, e := range []struct {
		err  error
		code int
		hint string
	}{
		{fmt.Errorf("starting a pipeline: %w", gitlab.ErrNotFound), tool.Denied, "allow-list of nsflow/environments"},
		{tool.Exitf(tool.Broken, "unexpected EOF"), tool.Broken, "look at https://gitlab.example.com/nsflow/environments/-/pipelines"},
		{errors.New("400 Bad Request"), tool.Failed, "must have the inputs"},
	} {
		c.err = e.err
		if err := request.Run(t.Context(), r, o); tool.CodeOf(err) != e.code || !strings.Contains(strings.Join(tool.HintsOf(err), "\n"), e.hint) {
			t.Errorf("%v gives %v (code %d, hints %q), want code %d and %q", e.err, err, tool.CodeOf(err), tool.HintsOf(err), e.code, e.hint)
		}
	}
}

// monorepo gives the project of orders two more services.
func monorepo(o *request.Options) {
	for _, name := range []string{"refunds", "invoices"} {
		o.Snapshot.Services[name] = o.Snapshot.Services["orders"]
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*request.Options)
		want   []string
	}{
		"good":                  {func(*request.Options) {}, nil},
		"good by name":          {func(o *request.Options) { o.Service = "orders" }, nil},
		"another's service":     {func(o *request.Options) { o.Service = "catalog" }, []string{`--service "catalog" is not of this project (77), which holds orders`, "is not of the registry of"}},
		"unknown project":       {func(o *request.Options) { o.ProjectID = 99 }, []string{"missing --service: the landscape knows no service of this project (99)"}},
		"of an unknown project": {func(o *request.Options) { o.ProjectID, o.Service = 99, "orders" }, []string{`--service "orders" is not of this project (99): the landscape knows no service of it`}},
		"one of several":        {func(o *request.Options) { monorepo(o); o.Service = "invoices" }, nil},
		"none of several":       {monorepo, []string{"missing --service: this project (77) holds the services invoices, orders, refunds"}},
		"not one of several":    {func(o *request.Options) { monorepo(o); o.Service = "catalog" }, []string{`--service "catalog" is not of this project (77), which holds invoices, orders, refunds`}},
		"by tag":                {func(o *request.Options) { o.Bundle = "127.0.0.1:5000/nsflow/orders/bundle:main" }, []string{"it must be <repository>@sha256:"}},
		"another's bundle":      {func(o *request.Options) { o.Bundle = strings.Replace(o.Bundle, "orders", "catalog", 1) }, []string{"is not of the registry of"}},
		"not gated":             {func(o *request.Options) { o.To = "dev" }, []string{`environment "dev" is not gated`}},
		"not for the service":   {func(o *request.Options) { o.To = "prod" }, []string{`not for environment "prod", but for dev, stage`}},
		"all at once":           {func(o *request.Options) { o.Bundle, o.To = "x", "y" }, []string{"2 problems", "reading bundle", `no environment "y"`}},
	} {
		o := options(&call{})
		c.change(&o)
		err := o.Check()
		if (err == nil) != (c.want == nil) || err != nil && tool.CodeOf(err) != tool.Usage {
			t.Errorf("%s: %v (code %d)", name, err, tool.CodeOf(err))
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q", name, err, w)
			}
		}
	}
}
