package cmd

import (
	"testing"

	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/session"
)

func TestNoteOfAnotherBranch(t *testing.T) {
	s := &session.Session{CI: cienv.CI{InJob: true, MergeRequest: 3, MergeRequestSHA: "head"}, Identity: cienv.Identity{ProjectID: 77, Ref: "change", Commit: "merged"}}
	for name, c := range map[string]struct {
		project     int64
		branch, sha string
		ok          bool
	}{
		"its own":                   {77, "change", "merged", true},
		"of a merged result":        {77, "change", "head", true},
		"another branch":            {77, "other", "merged", false},
		"the same branch of a fork": {78, "change", "merged", false},
		"a newer commit came":       {77, "change", "newer", false},
	} {
		if err := ofBranch(s, c.project, c.branch, c.sha); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadingRole(t *testing.T) {
	roles := []landscape.Role{
		{Name: "catalog-review", Purpose: "review", Service: "catalog", Account: "nonprod", Clusters: []string{"nonprod"}},
		{Name: "orders-review", Purpose: "review", Service: "orders", Account: "nonprod", Clusters: []string{"nonprod"}},
	}
	deploy := landscape.Role{Name: "orders-dev", Purpose: "deploy", Service: "orders", Account: "nonprod"}
	for name, c := range map[string]struct {
		ci        cienv.CI
		protected bool
		role      landscape.Role
		cluster   string
		want      string
	}{
		"a protected branch":             {cienv.CI{InJob: true}, true, deploy, "nonprod", "orders-dev"},
		"a merge request":                {cienv.CI{InJob: true}, false, deploy, "nonprod", "orders-review"},
		"a merge request, elsewhere":     {cienv.CI{InJob: true}, false, deploy, "other", "orders-dev"},
		"a merge request, a gated place": {cienv.CI{InJob: true}, false, landscape.Role{Name: "environments-stage", Purpose: "environment", Account: "nonprod"}, "nonprod", "environments-stage"},
		"a person":                       {cienv.CI{}, false, deploy, "nonprod", "orders-dev"},
	} {
		s := &session.Session{CI: c.ci, Identity: cienv.Identity{RefProtected: c.protected}, Snapshot: &landscape.Snapshot{Roles: roles}}
		if got := readingRole(s, target{Service: "orders", Cluster: c.cluster, Role: c.role}); got.Name != c.want {
			t.Errorf("%s: %s, want %s", name, got.Name, c.want)
		}
	}
}
