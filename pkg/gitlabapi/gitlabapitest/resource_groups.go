package gitlabapitest

import (
	"cmp"
	"net/http"
	"slices"
	"time"
)

// resourceGroup lets one job of its key run at a time, and says who comes next.
type resourceGroup struct {
	ID        int64     `json:"id"`
	Project   int64     `json:"project"`
	Key       string    `json:"key"`
	Mode      string    `json:"mode"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func processModes() []string {
	return []string{"unordered", "oldest_first", "newest_first", "newest_ready_first"}
}

func resourceGroupEndpoints() []endpoint {
	return []endpoint{
		{"GET", "/projects/:id/resource_groups", false, developer, locked((*call).listResourceGroups)},
		{"GET", "/projects/:id/resource_groups/:key", false, developer, with((*call).resourceGroup, func(c *call, g *resourceGroup) *failure { return c.answer(resourceGroupJSON(g)) })},
		{"PUT", "/projects/:id/resource_groups/:key", false, maintainer, with((*call).resourceGroup, (*call).putResourceGroup)},
		{"GET", "/projects/:id/resource_groups/:key/upcoming_jobs", false, developer, with((*call).resourceGroup, (*call).listUpcoming)},
	}
}

func (c *call) resourceGroup() (*resourceGroup, *failure) {
	return orGone(c.s.resourceGroup(c.project.ID, c.r.PathValue("key")))
}

func resourceGroupJSON(g *resourceGroup) map[string]any {
	return map[string]any{"id": g.ID, "key": g.Key, "process_mode": g.Mode, "created_at": g.CreatedAt, "updated_at": g.UpdatedAt}
}

func (s *Server) resourceGroup(project int64, key string) *resourceGroup {
	for _, g := range s.st.ResourceGroups {
		if g.Project == project && g.Key == key {
			return g
		}
	}
	return nil
}

// useResourceGroup makes a group when the first job names it: until then there is none to change.
func (s *Server) useResourceGroup(project int64, key string) {
	if key == "" || s.resourceGroup(project, key) != nil {
		return
	}
	mode := cmp.Or(s.st.Projects[project].GroupMode, "unordered")
	g := &resourceGroup{ID: s.st.next("resource_group"), Project: project, Key: key, Mode: mode, CreatedAt: s.now(), UpdatedAt: s.now()}
	s.st.ResourceGroups[g.ID] = g
}

// upcoming are the jobs that a group may let run, in turn. In order, a job that cannot begin yet keeps the others
// of its group waiting.
func (s *Server) upcoming(g *resourceGroup) []*job {
	waits := []string{"pending", "waiting_for_resource"}
	if g.Mode == "oldest_first" || g.Mode == "newest_first" {
		waits = append(waits, "created")
	}
	all := sorted(s.st.Jobs, func(j *job) bool {
		return j.Project == g.Project && j.Definition.ResourceGroup == g.Key && !j.Retried && slices.Contains(waits, j.Status)
	})
	order := map[string]int{"oldest_first": 1, "newest_first": -1, "newest_ready_first": -1}[g.Mode]
	slices.SortStableFunc(all, func(a, b *job) int {
		if by := order * cmp.Compare(a.Pipeline, b.Pipeline); by != 0 {
			return by
		}
		return cmp.Compare(b.Status, a.Status) // who waits already, before who is only created
	})
	return all
}

// yields says whether a job has to let another of its group go first.
func (s *Server) yields(j *job) bool {
	g := s.resourceGroup(j.Project, j.Definition.ResourceGroup)
	if g == nil {
		return false
	}
	next := s.upcoming(g)
	return len(next) > 0 && next[0].ID != j.ID
}

func (c *call) listResourceGroups() *failure {
	return list(c, sorted(c.s.st.ResourceGroups, func(g *resourceGroup) bool { return g.Project == c.project.ID }), resourceGroupJSON)
}

func (c *call) putResourceGroup(g *resourceGroup) *failure {
	if _, ok := c.read["process_mode"]; ok {
		mode := text(c.read, "process_mode")
		if !slices.Contains(processModes(), mode) {
			return failKey(http.StatusBadRequest, "error", "process_mode does not have a valid value")
		}
		g.Mode, g.UpdatedAt = mode, c.s.now()
		c.s.dispatch()
	}
	return c.changed(resourceGroupJSON(g))
}

func (c *call) listUpcoming(g *resourceGroup) *failure {
	all := slices.DeleteFunc(c.s.upcoming(g), func(j *job) bool { return j.Status == "pending" && c.s.running[j.ID] != nil })
	return list(c, all, c.s.jobJSON)
}
