package gitlabapitest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// mergeRequest asks for a branch to be merged. What becomes of it (merge_status) is computed beside the calls.
type mergeRequest struct {
	ID            int64      `json:"id"`
	IID           int64      `json:"iid"`
	Project       int64      `json:"project"` // the target
	SourceProject int64      `json:"source_project"`
	Source        string     `json:"source"`
	Target        string     `json:"target"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Labels        []string   `json:"labels"`
	Author        int64      `json:"author"`
	State         string     `json:"state"`
	SHA           string     `json:"sha"`
	BaseSHA       string     `json:"base_sha"`
	Changes       int        `json:"changes"`      // how many files differ from the base
	Status        string     `json:"merge_status"` // unchecked | checking | can_be_merged | cannot_be_merged
	Squash        bool       `json:"squash"`
	RemoveSource  bool       `json:"remove_source"`
	Approvals     []approved `json:"approvals"`
	MergeSHA      string     `json:"merge_sha"`
	SquashSHA     string     `json:"squash_sha"`
	MergedBy      int64      `json:"merged_by"`
	AutoMergeBy   int64      `json:"auto_merge_by"`
	ClosedBy      int64      `json:"closed_by"`
	CreatedAt     time.Time  `json:"created_at"`
	UpdatedAt     time.Time  `json:"updated_at"`
	MergedAt      *time.Time `json:"merged_at"`
	ClosedAt      *time.Time `json:"closed_at"`
	PreparedAt    *time.Time `json:"prepared_at"`
	check         int        // the number of the last check, whose result alone counts
}

type approved struct {
	User int64     `json:"user"`
	At   time.Time `json:"at"`
}

func (mr *mergeRequest) fork() bool { return mr.SourceProject != mr.Project }

func (mr *mergeRequest) headRef() string { return "refs/merge-requests/" + id(mr.IID) + "/head" }

func (mr *mergeRequest) draft() bool {
	title := strings.ToLower(mr.Title)
	return strings.HasPrefix(title, "draft:") || strings.HasPrefix(title, "[draft]") || strings.HasPrefix(title, "(draft)")
}

func mergeRequestEndpoints() []endpoint {
	const all, one = "/projects/:id/merge_requests", "/projects/:id/merge_requests/:merge_request"
	return []endpoint{
		{"GET", all, true, 0, locked((*call).listMergeRequests)},
		{"POST", all, false, developer, (*call).createMergeRequest},
		{"GET", one, true, 0, with((*call).mergeRequest, (*call).getMergeRequest)},
		{"PUT", one, false, reporter, with((*call).mergeRequest, (*call).putMergeRequest)},
		{"PUT", one + "/merge", false, reporter, (*call).mergeNow},
		{"POST", one + "/cancel_merge_when_pipeline_succeeds", false, developer, with((*call).mergeRequest, (*call).cancelAutoMerge)},
		{"GET", one + "/pipelines", false, 0, with((*call).mergeRequest, (*call).listMergeRequestPipelines)},
		{"POST", one + "/pipelines", false, developer, (*call).createMergeRequestPipeline},
	}
}

// mergeRequest finds the one in the path; the caller holds the lock.
func (c *call) mergeRequest() (*mergeRequest, *failure) {
	n, f := c.idOf("merge_request")
	if f != nil {
		return nil, f
	}
	for _, mr := range c.s.st.MergeRequests {
		if mr.Project == c.project.ID && mr.IID == n {
			return mr, nil
		}
	}
	return nil, notFound("")
}

// headPipeline is the newest pipeline of the request's head.
func (s *Server) headPipeline(mr *mergeRequest) *pipeline {
	all := sorted(s.st.Pipelines, func(pl *pipeline) bool {
		return pl.SHA == mr.SHA && (pl.MergeRequest == mr.ID || pl.MergeRequest == 0 && !pl.Tag && pl.Project == mr.SourceProject && pl.Ref == mr.Source)
	})
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// detailedStatus says what is in the way of a merge, if something is.
func (s *Server) detailedStatus(mr *mergeRequest) string {
	p := s.st.Projects[mr.Project]
	ci := ""
	if p.GreenMerges {
		switch pl := s.headPipeline(mr); {
		case pl == nil, pl.Status == "failed", pl.Status == "canceled", pl.Status == "skipped":
			ci = "ci_must_pass"
		case pl.Status != "success":
			ci = "ci_still_running"
		}
	}
	switch {
	case mr.State != "opened":
		return "not_open"
	case mr.Status == "checking" || mr.Status == "unchecked":
		return mr.Status
	case mr.draft():
		return "draft_status"
	case s.approvalsLeft(mr) > 0:
		return "not_approved"
	case mr.Status == "cannot_be_merged":
		return "conflict"
	}
	return cmp.Or(ci, "mergeable")
}

func (s *Server) mergeRequestJSON(mr *mergeRequest) map[string]any {
	p := s.st.Projects[mr.Project]
	who := func(id int64) any {
		if id == 0 {
			return nil
		}
		return s.userJSON(s.user(id))
	}
	orNil := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	labels := append([]string{}, mr.Labels...)
	reference := "!" + id(mr.IID)
	return map[string]any{
		"id": mr.ID, "iid": mr.IID, "project_id": mr.Project, "title": mr.Title, "description": mr.Description, "state": mr.State, "imported": false, "imported_from": "none",
		"created_at": mr.CreatedAt, "updated_at": mr.UpdatedAt, "merged_by": who(mr.MergedBy), "merge_user": who(cmp.Or(mr.MergedBy, mr.AutoMergeBy)), "merged_at": mr.MergedAt,
		"closed_by": who(mr.ClosedBy), "closed_at": mr.ClosedAt, "target_branch": mr.Target, "source_branch": mr.Source, "user_notes_count": len(s.notesOf(mr)),
		"upvotes": 0, "downvotes": 0, "author": who(mr.Author), "assignees": []any{}, "assignee": nil, "reviewers": []any{}, "source_project_id": mr.SourceProject,
		"target_project_id": mr.Project, "labels": labels, "draft": mr.draft(), "work_in_progress": mr.draft(), "milestone": nil, "merge_when_pipeline_succeeds": mr.AutoMergeBy != 0,
		"merge_status": mr.Status, "detailed_merge_status": s.detailedStatus(mr), "merge_after": nil, "sha": mr.SHA, "merge_commit_sha": orNil(mr.MergeSHA),
		"squash_commit_sha": orNil(mr.SquashSHA), "discussion_locked": nil, "should_remove_source_branch": mr.RemoveSource, "force_remove_source_branch": mr.RemoveSource,
		"prepared_at": mr.PreparedAt, "reference": reference, "references": map[string]any{"short": reference, "relative": reference, "full": p.Path + reference},
		"web_url":    s.cfg.ExternalURL + "/" + p.Path + "/-/merge_requests/" + id(mr.IID),
		"time_stats": map[string]any{"time_estimate": 0, "total_time_spent": 0, "human_time_estimate": nil, "human_total_time_spent": nil}, "squash": mr.Squash,
		"squash_on_merge": mr.Squash, "task_completion_status": map[string]any{"count": 0, "completed_count": 0}, "has_conflicts": mr.Status == "cannot_be_merged",
		"blocking_discussions_resolved": true, "approvals_before_merge": nil,
	}
}

// mergeRequestDetails is what only the request itself shows.
func (s *Server) mergeRequestDetails(c *call, mr *mergeRequest) map[string]any {
	body := s.mergeRequestJSON(mr)
	u := c.person()
	body["subscribed"], body["merge_error"], body["first_contribution"] = mr.Author == u.ID, nil, false
	body["user"] = map[string]any{"can_merge": s.st.Projects[mr.Project].mayMerge(u, mr.Target)}
	body["pipeline"], body["head_pipeline"], body["diff_refs"], body["changes_count"] = nil, nil, nil, nil
	// Which deployment brought a request to production, nobody here follows.
	body["latest_build_started_at"], body["latest_build_finished_at"], body["first_deployed_to_production_at"] = nil, nil, nil
	if pl := s.headPipeline(mr); pl != nil {
		body["pipeline"], body["head_pipeline"] = s.basicPipelineJSON(pl), s.pipelineJSON(pl)
		body["latest_build_started_at"], body["latest_build_finished_at"] = pl.StartedAt, pl.FinishedAt
	}
	if mr.BaseSHA != "" {
		body["changes_count"] = fmt.Sprint(mr.Changes)
		body["diff_refs"] = map[string]any{"base_sha": mr.BaseSHA, "head_sha": mr.SHA, "start_sha": mr.BaseSHA}
	}
	return body
}

func (c *call) listMergeRequests() *failure {
	q := c.r.URL.Query()
	state := cmp.Or(q.Get("state"), "all")
	if !slices.Contains([]string{"opened", "closed", "merged", "locked", "all"}, state) {
		return failKey(http.StatusBadRequest, "error", "state does not have a valid value")
	}
	author := q.Get("author_username")
	all := sorted(c.s.st.MergeRequests, func(mr *mergeRequest) bool {
		iids := q["iids[]"]
		return mr.Project == c.project.ID && (state == "all" || state == mr.State) && is(q.Get("source_branch"), mr.Source) && is(q.Get("target_branch"), mr.Target) &&
			is(author, c.s.user(mr.Author).Login) && is(q.Get("author_id"), id(mr.Author)) && (len(iids) == 0 || slices.Contains(iids, id(mr.IID))) &&
			(q.Get("labels") == "" || !slices.ContainsFunc(strings.Split(q.Get("labels"), ","), func(l string) bool { return !slices.Contains(mr.Labels, l) })) &&
			strings.Contains(strings.ToLower(mr.Title+" "+mr.Description), strings.ToLower(q.Get("search")))
	})
	if q.Get("with_merge_status_recheck") == "true" {
		for _, mr := range all {
			c.s.recheck(mr)
		}
	}
	return list(c, newestFirst(c, all), c.s.mergeRequestJSON)
}

// getMergeRequest sets the check going where the status is out of date: the answer still has the old one.
func (c *call) getMergeRequest(mr *mergeRequest) *failure {
	c.s.recheck(mr)
	return c.answer(c.s.mergeRequestDetails(c, mr))
}

// target is the project that a new request goes to: another one only if the source is its fork.
func (c *call) target(p map[string]any) (*project, *failure) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	n := number(p, "target_project_id")
	if n == 0 || n == c.project.ID {
		return c.project, nil
	}
	to := c.s.st.Projects[n]
	switch {
	case to == nil || c.s.enter(c.caller, to) != nil:
		return nil, notFound("Project")
	case c.project.ForkedFrom != to.ID:
		return nil, fail(http.StatusUnprocessableEntity, []string{"Source project is not a fork of the target project"})
	}
	return to, nil
}

func (c *call) createMergeRequest() *failure {
	p, f := c.body("source_branch", "target_branch", "title")
	if f != nil {
		return f
	}
	to, f := c.target(p)
	if f != nil {
		return f
	}
	ctx := c.r.Context()
	mr := &mergeRequest{Project: to.ID, SourceProject: c.project.ID, Source: text(p, "source_branch"), Target: text(p, "target_branch"), State: "opened", Status: "unchecked"}
	sha, _, err := c.s.resolve(ctx, c.project, "refs/heads/"+mr.Source)
	target, _, terr := c.s.resolve(ctx, to, "refs/heads/"+mr.Target)
	switch {
	case err != nil || terr != nil:
		return failInternal(cmp.Or(err, terr))
	case sha == "":
		return fail(http.StatusBadRequest, map[string][]string{"source_branch": {"does not exist"}})
	case target == "":
		return fail(http.StatusBadRequest, map[string][]string{"target_branch": {"does not exist"}})
	case !mr.fork() && mr.Source == mr.Target:
		return fail(http.StatusUnprocessableEntity, []string{"You can't use same project/branch for source and target"})
	}
	c.s.mu.Lock()
	for _, other := range c.s.st.MergeRequests {
		if other.Project == mr.Project && other.SourceProject == mr.SourceProject && other.Source == mr.Source && other.Target == mr.Target && other.State == "opened" {
			c.s.mu.Unlock()
			return fail(http.StatusConflict, []string{"Another open merge request already exists for this source branch: !" + id(other.IID)})
		}
	}
	mr.Author, mr.CreatedAt = c.person().ID, c.s.now()
	if f := mr.assign(p, c.s.now()); f != nil {
		c.s.mu.Unlock()
		return f
	}
	mr.ID, mr.IID = c.s.st.next("merge_request"), c.s.st.next("merge_request/"+id(to.ID))
	mr.SHA = sha
	c.s.st.MergeRequests[mr.ID] = mr
	c.s.recheck(mr)
	body := c.s.mergeRequestDetails(c, mr)
	c.s.save()
	c.s.mu.Unlock()
	if err := c.s.keepHead(mr.headRef(), to, c.project, sha); err != nil {
		return failInternal(err)
	}
	_, _ = c.s.mergeRequestPipeline(mr, c.project, mr.Author) // a project without such pipelines has none
	reply(c.w, http.StatusCreated, body)
	return nil
}

// assign takes what a request says of a merge request; nothing is taken where something is wrong.
func (mr *mergeRequest) assign(p map[string]any, now time.Time) *failure {
	next := *mr
	for key, field := range map[string]*string{"title": &next.Title, "description": &next.Description} {
		if _, ok := p[key]; ok {
			*field = text(p, key)
		}
	}
	for key, field := range map[string]*bool{"squash": &next.Squash, "remove_source_branch": &next.RemoveSource} {
		if _, ok := p[key]; ok {
			*field = truth(p, key)
		}
	}
	if raw, ok := p["labels"]; ok {
		next.Labels = nil
		for _, l := range strings.Split(strings.Join(texts(raw), ","), ",") {
			if l != "" {
				next.Labels = append(next.Labels, l)
			}
		}
	}
	problems := map[string][]string{}
	if next.Title == "" {
		problems["title"] = []string{"can't be blank"}
	} else if len(next.Title) > 255 {
		problems["title"] = []string{"is too long (maximum is 255 characters)"}
	}
	if len(next.Description) > 1_000_000 {
		problems["description"] = []string{"is too long (maximum is 1000000 characters)"}
	}
	if len(problems) > 0 {
		return fail(http.StatusBadRequest, problems)
	}
	next.UpdatedAt = now
	*mr = next
	return nil
}

func (c *call) putMergeRequest(mr *mergeRequest) *failure {
	u := c.person()
	if mr.Author != u.ID && !u.atLeast(developer) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	event := text(c.read, "state_event")
	switch {
	case event != "" && event != "close" && event != "reopen":
		return failKey(http.StatusBadRequest, "error", "state_event does not have a valid value")
	case mr.State == "merged" && event != "":
		return fail(http.StatusUnprocessableEntity, []string{"State cannot transition via \"" + event + "\""})
	}
	if f := mr.assign(c.read, c.s.now()); f != nil {
		return f
	}
	if target := text(c.read, "target_branch"); target != "" && target != mr.Target {
		mr.Target, mr.Status, mr.AutoMergeBy = target, "unchecked", 0 // the wish was for the other target
	}
	switch event {
	case "close":
		mr.State, mr.ClosedBy, mr.ClosedAt, mr.AutoMergeBy = "closed", u.ID, ptr(c.s.now()), 0
		c.s.stopReviews(mr, u.ID)
	case "reopen":
		mr.State, mr.ClosedBy, mr.ClosedAt, mr.Status = "opened", 0, nil, "unchecked"
	}
	return c.changed(c.s.mergeRequestDetails(c, mr))
}

func (c *call) listMergeRequestPipelines(mr *mergeRequest) *failure {
	all := sorted(c.s.st.Pipelines, func(pl *pipeline) bool {
		return pl.MergeRequest == mr.ID || pl.MergeRequest == 0 && !pl.Tag && pl.Project == mr.SourceProject && pl.Ref == mr.Source && pl.SHA == mr.SHA
	})
	slices.Reverse(all)
	return list(c, all, c.s.basicPipelineJSON)
}

// createMergeRequestPipeline runs a fork's commits in the parent where the caller may, as a person decides to.
func (c *call) createMergeRequestPipeline() *failure {
	c.s.mu.Lock()
	mr, f := c.mergeRequest()
	c.s.mu.Unlock()
	if f != nil {
		return f
	}
	pl, err := c.s.mergeRequestPipeline(mr, c.project, c.person().ID)
	if err != nil {
		return fail(http.StatusBadRequest, map[string][]string{"base": {err.Error()}})
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.made(c.s.pipelineJSON(pl))
}

// mergeRequestPipeline makes a pipeline of a request's head in a project: the target, or a fork.
func (s *Server) mergeRequestPipeline(mr *mergeRequest, p *project, by int64) (*pipeline, error) {
	s.mu.Lock()
	copied := *mr
	s.mu.Unlock()
	pl, err := s.newPipeline(s.ctx, request{project: p, ref: copied.Source, sha: copied.SHA, source: "merge_request_event", user: by, merge: &copied})
	if err != nil {
		return nil, fmt.Errorf("making a pipeline of !%d: %w", copied.IID, err)
	}
	return pl, nil
}

// mergeRequestVariables are what only the pipeline of a merge request has. The caller does not hold the lock.
func (s *Server) mergeRequestVariables(pl *pipeline, v map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mr := s.st.MergeRequests[pl.MergeRequest]
	target, source := s.st.Projects[mr.Project], s.st.Projects[mr.SourceProject]
	for key, value := range map[string]string{
		"ID": id(mr.ID), "IID": id(mr.IID), "TITLE": mr.Title, "REF_PATH": mr.headRef(), "EVENT_TYPE": "detached", "DRAFT": fmt.Sprint(mr.draft()),
		"PROJECT_ID": id(target.ID), "PROJECT_PATH": target.Path, "PROJECT_URL": s.cfg.ExternalURL + "/" + target.Path, "TARGET_BRANCH_NAME": mr.Target,
		"TARGET_BRANCH_PROTECTED": fmt.Sprint(target.protects(mr.Target, false)), "DIFF_BASE_SHA": mr.BaseSHA, "SOURCE_BRANCH_NAME": mr.Source,
		"SOURCE_PROJECT_ID": id(source.ID), "SOURCE_PROJECT_PATH": source.Path, "SOURCE_PROJECT_URL": s.cfg.ExternalURL + "/" + source.Path,
		"SOURCE_BRANCH_PROTECTED": fmt.Sprint(source.protects(mr.Source, false)), "LABELS": strings.Join(mr.Labels, ","),
	} {
		v["CI_MERGE_REQUEST_"+key] = value
	}
	v["CI_OPEN_MERGE_REQUESTS"] = target.Path + "!" + id(mr.IID)
}
