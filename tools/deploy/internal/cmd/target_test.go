package cmd

import (
	"errors"
	"testing"

	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
)

func TestResolve(t *testing.T) {
	snapshot := &landscape.Snapshot{
		GitLab: landscape.GitLab{Environments: landscape.Project{ID: 43}},
		Environments: map[string]landscape.Environment{
			"review": {Clusters: []string{"nonprod"}, Namespace: "{service}-mr-{mr}"},
			"dev":    {Clusters: []string{"nonprod"}, Namespace: "{service}-dev"},
			"stage":  {Clusters: []string{"nonprod"}, Namespace: "{service}-stage", Gated: true},
			"prod":   {Clusters: []string{"a", "b"}, Namespace: "{service}", Gated: true},
		},
		Services: map[string]landscape.Service{"orders": {Environments: []string{"review", "dev", "stage", "prod"}}, "catalog": {Environments: []string{"dev"}}},
		Roles: []landscape.Role{
			{Name: "orders-review", Purpose: "review", Service: "orders", Environment: "review"},
			{Name: "orders-dev", Purpose: "deploy", Service: "orders", Environment: "dev"},
			{Name: "environments-stage", Purpose: "environment", Environment: "stage"},
			{Name: "environments-prod", Purpose: "environment", Environment: "prod"},
		},
	}
	for name, c := range map[string]struct {
		project         int64
		o               options
		service         string
		role, namespace string
		code            int
	}{
		"its own environment":          {77, options{environment: "dev"}, "orders", "orders-dev", "orders-dev", 0},
		"review":                       {77, options{environment: "review", mr: "12"}, "orders", "orders-review", "orders-mr-12", 0},
		"review of nothing":            {77, options{environment: "review"}, "orders", "", "", tool.Usage},
		"a service asks for stage":     {77, options{environment: "stage"}, "orders", "environments-stage", "orders-stage", 0}, // AWS then refuses it
		"environments project":         {43, options{environment: "stage"}, "orders", "environments-stage", "orders-stage", 0},
		"environments project for dev": {43, options{environment: "dev"}, "orders", "", "", tool.Denied},
		"one of two clusters":          {43, options{environment: "prod", cluster: "b"}, "orders", "environments-prod", "orders", 0},
		"which of two clusters":        {43, options{environment: "prod"}, "orders", "", "", tool.Usage},
		"another cluster":              {77, options{environment: "dev", cluster: "a"}, "orders", "", "", tool.Usage},
		"no such environment":          {77, options{environment: "qa"}, "orders", "", "", tool.Usage},
		"no such service":              {77, options{environment: "dev"}, "payments", "", "", tool.Usage},
		"not in that environment":      {78, options{environment: "stage"}, "catalog", "", "", tool.Usage},
		"a service without its role":   {78, options{environment: "dev"}, "catalog", "", "", tool.Denied},
	} {
		s := &session.Session{CI: cienv.CI{InJob: true}, Identity: cienv.Identity{ProjectID: c.project}, Snapshot: snapshot}
		got, err := resolve(s, c.o, c.service)
		if tool.CodeOf(err) != c.code {
			t.Errorf("%s: error %v, want code %d", name, err, c.code)
		}
		if err == nil && (got.Role.Name != c.role || got.Namespace != c.namespace) {
			t.Errorf("%s: role %q in %q, want %q in %q", name, got.Role.Name, got.Namespace, c.role, c.namespace)
		}
	}
	if err := errGated("stage"); tool.CodeOf(err) != tool.Refused || errors.Is(err, nil) {
		t.Errorf("gated: %v", err)
	}
}
