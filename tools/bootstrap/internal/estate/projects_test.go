package estate

import (
	"slices"
	"testing"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

// TestProjectsOfAMonorepo: a project that holds several services is let in
// once; GitLab refuses the second time.
func TestProjectsOfAMonorepo(t *testing.T) {
	mono, own := landscape.Project{Path: "nsflow/mono", ID: 80}, landscape.Project{Path: "nsflow/orders", ID: 77}
	made := projects(nil, &landscape.Snapshot{GitLab: landscape.GitLab{Platform: landscape.Project{ID: 42}, Environments: landscape.Project{ID: 43}},
		Services: map[string]landscape.Service{"invoices": {Project: mono}, "orders": {Project: own}, "refunds": {Project: mono}}})
	allows := map[int64][]int64{}
	for _, r := range made {
		p := r.(*project)
		if _, twice := allows[p.project.ID]; twice {
			t.Errorf("project %d is set up twice", p.project.ID)
		}
		allows[p.project.ID] = p.allows
	}
	for id, want := range map[int64][]int64{42: {43, 80, 77}, 43: {80, 77}, 80: {43, 42}, 77: {43, 42}} {
		if !slices.Equal(allows[id], want) {
			t.Errorf("project %d lets in %v, want %v", id, allows[id], want)
		}
	}
}
