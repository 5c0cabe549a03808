package cmd

import (
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/tools/deploy/internal/diff"
)

func TestMarkdown(t *testing.T) {
	got := markdown("orders", "dev", strings.Repeat("a", 40), []diff.Change{
		{Object: "ConfigMap <img src=x> @everybody", Action: "update", Diff: "-a\n+b\n```\n</details> @everybody\n"},
		{Object: "ConfigMap long", Action: "create", Diff: strings.Repeat("x", noteLimit)},
		{Object: "ConfigMap never shown", Action: "create", Diff: "+"},
	})
	for _, want := range []string{"### orders: what would change in dev", "update ConfigMap &lt;img src=x&gt; &#64;everybody", "\n````diff\n-a\n+b\n```\n", "\n````\n", "3 objects in all; the rest is in the job's report", "At commit aaaaaaaaaaaa."} {
		if !strings.Contains(got, want) {
			t.Errorf("the note lacks %q:\n%.2000s", want, got)
		}
	}
	if strings.Contains(got, "never shown") || len(got) > noteLimit+500 {
		t.Errorf("the note has %d characters", len(got))
	}
	if got := markdown("orders", "dev", strings.Repeat("a", 40), nil); !strings.Contains(got, "Nothing.") {
		t.Errorf("without changes: %q", got)
	}
}

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
