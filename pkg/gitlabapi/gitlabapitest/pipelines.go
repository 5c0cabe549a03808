package gitlabapitest

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func pipelineEndpoints() []endpoint {
	const pipelines, jobs = "/projects/:id/pipelines", "/projects/:id/jobs"
	return []endpoint{
		{"POST", "/projects/:id/pipeline", false, developer, (*call).createPipeline},
		{"POST", "/projects/:id/trigger/pipeline", true, 0, (*call).triggerPipeline},
		{"GET", pipelines, false, 0, locked((*call).listPipelines)},
		{"GET", pipelines + "/latest", false, 0, (*call).latestPipeline},
		{"GET", pipelines + "/:pipeline", false, 0, with((*call).pipeline, func(c *call, pl *pipeline) *failure { return c.answer(c.s.namedPipelineJSON(pl)) })},
		{"GET", pipelines + "/:pipeline/jobs", false, 0, with((*call).pipeline, (*call).listJobs)},
		{"POST", pipelines + "/:pipeline/cancel", false, developer, with((*call).pipeline, (*call).cancelPipeline)},
		{"POST", pipelines + "/:pipeline/retry", false, developer, with((*call).pipeline, (*call).retryPipeline)},
		{"PUT", pipelines + "/:pipeline/metadata", true, developer, with((*call).pipeline, (*call).namePipeline)},
		{"GET", jobs, false, 0, locked((*call).listProjectJobs)},
		{"GET", jobs + "/:job", false, 0, with((*call).job, (*call).getJob)},
		{"GET", jobs + "/:job/trace", false, 0, with((*call).job, (*call).getTrace)},
		{"GET", jobs + "/:job/artifacts/*", true, 0, with((*call).job, (*call).getArtifact)},
		{"POST", jobs + "/:job/play", false, developer, withRunnableJob((*call).playJob)},
		{"POST", jobs + "/:job/retry", false, developer, withRunnableJob((*call).retryJob)},
		{"POST", jobs + "/:job/cancel", false, developer, withRunnableJob((*call).cancelJob)},
	}
}

// inputs reads the inputs of a pipeline: a map, as the API has it.
func pipelineInputs(p map[string]any) (map[string]any, map[string]string, *failure) {
	inputs := mapOf(p["inputs"])
	if len(inputs) > 20 {
		return nil, nil, fail(http.StatusBadRequest, map[string]any{"base": []string{"Maximum number of inputs exceeded. Limit is 20"}})
	}
	variables := map[string]string{}
	switch v := p["variables"].(type) {
	case map[string]any: // trigger
		for k := range v {
			variables[k] = text(v, k)
		}
	case []any: // pipeline
		for _, one := range v {
			variables[text(mapOf(one), "key")] = text(mapOf(one), "value")
		}
	}
	for name := range variables {
		if !isVarName(name) {
			return nil, nil, failKey(http.StatusBadRequest, "error", "variables is invalid")
		}
	}
	return inputs, variables, nil
}

func (c *call) createPipeline() *failure {
	p, f := c.body("ref")
	if f != nil {
		return f
	}
	if c.s.limits.over(c.s.now(), "pipelines_create", c.project.Path+" "+text(p, "ref")+" "+id(c.caller.user.ID)) {
		return tooMany()
	}
	return c.makePipeline(p, "api", c.caller.user.ID)
}

// triggerPipeline takes a job token of an allow-listed project, or the project's own trigger token.
func (c *call) triggerPipeline() *failure {
	p, f := c.body("token", "ref")
	if f != nil {
		return f
	}
	token := text(p, "token")
	c.s.mu.Lock()
	j := c.s.jobOf(token)
	source, by, admitted := "trigger", c.s.admin().ID, same(token, c.project.TriggerToken)
	if j != nil {
		source, by = "pipeline", j.User
		f = c.s.enter(caller{job: j}, c.project)
		admitted = f == nil && c.s.in(c.project, c.s.user(j.User)).atLeast(developer)
	}
	c.s.mu.Unlock()
	if !admitted {
		return fail(http.StatusNotFound, "404 Not Found")
	}
	return c.makePipeline(p, source, by)
}

func (c *call) makePipeline(p map[string]any, source string, by int64) *failure {
	inputs, variables, f := pipelineInputs(p)
	if f != nil {
		return f
	}
	c.s.mu.Lock()
	role := cmp.Or(c.project.VariablesRole, "developer")
	u := c.s.in(c.project, c.s.user(by))
	mayVary := len(variables) == 0 || role != "no_one_allowed" && u.atLeast(variableRoles()[role])
	c.s.mu.Unlock()
	if !mayVary {
		return fail(http.StatusBadRequest, map[string]any{"base": []string{"Insufficient permissions to set pipeline variables"}})
	}
	ref, sha, tag, problem, err := c.s.pipelineRef(c.r.Context(), c.project, text(p, "ref"))
	if err != nil {
		return failInternal(err)
	}
	c.s.mu.Lock()
	may := c.project.mayUpdate(u, ref, tag)
	c.s.mu.Unlock()
	if problem == "" && !may {
		problem = "You do not have sufficient permission to run a pipeline on '" + ref + "'. Please select a different branch or contact your administrator for assistance."
	}
	if problem != "" {
		return fail(http.StatusBadRequest, map[string]any{"base": []string{problem}})
	}
	pl, err := c.s.newPipeline(c.s.ctx, request{project: c.project, ref: ref, tag: tag, sha: sha, source: source, user: by, variables: variables, inputs: inputs})
	var bad invalid
	if errors.As(err, &bad) {
		return fail(http.StatusBadRequest, map[string]any{"base": []string(bad)})
	} else if err != nil {
		return failInternal(err)
	}
	c.s.mu.Lock()
	body := c.s.pipelineJSON(pl)
	c.s.mu.Unlock()
	reply(c.w, http.StatusCreated, body)
	return nil
}

// listPipelines takes all of the documented parameters, and refuses values that they do not have.
func (c *call) listPipelines() *failure {
	q := c.r.URL.Query()
	for key, values := range map[string]string{"scope": "running pending finished branches tags", "order_by": "id status ref updated_at user_id", "sort": "asc desc", "yaml_errors": "true false"} {
		if q.Get(key) != "" && !slices.Contains(strings.Fields(values), q.Get(key)) {
			return failKey(http.StatusBadRequest, "error", key+" does not have a valid value")
		}
	}
	for _, key := range []string{"updated_after", "updated_before", "created_after", "created_before"} {
		if _, err := time.Parse(time.RFC3339, q.Get(key)); q.Get(key) != "" && err != nil {
			return failKey(http.StatusBadRequest, "error", key+" is invalid")
		}
	}
	newest := map[string]int64{} // of each ref
	for _, pl := range c.s.st.Pipelines {
		if pl.Project == c.project.ID {
			newest[pl.gitRef()] = max(newest[pl.gitRef()], pl.ID)
		}
	}
	all := sorted(c.s.st.Pipelines, func(pl *pipeline) bool {
		return pl.Project == c.project.ID && is(q.Get("ref"), pl.gitRef()) && is(q.Get("sha"), pl.SHA) && is(q.Get("status"), pl.Status) && is(q.Get("source"), pl.Source) &&
			is(q.Get("name"), pl.Name) && is(q.Get("username"), c.s.user(pl.User).Login) && is(q.Get("yaml_errors"), strconv.FormatBool(pl.YAMLErrors != "")) &&
			within(&pl.UpdatedAt, q.Get("updated_after"), q.Get("updated_before")) && within(&pl.CreatedAt, q.Get("created_after"), q.Get("created_before")) &&
			pl.inScope(q.Get("scope"), newest)
	})
	slices.SortStableFunc(all, func(a, b *pipeline) int {
		switch q.Get("order_by") {
		case "status":
			return cmp.Compare(a.Status, b.Status)
		case "ref":
			return cmp.Compare(a.gitRef(), b.gitRef())
		case "updated_at":
			return a.UpdatedAt.Compare(b.UpdatedAt)
		case "user_id":
			return cmp.Compare(a.User, b.User)
		}
		return 0
	})
	return list(c, newestFirst(c, all), c.s.listedPipelineJSON)
}

// inScope says whether a list of that scope has the pipeline: branches and tags have the newest one of each.
func (pl *pipeline) inScope(scope string, newest map[string]int64) bool {
	switch scope {
	case "":
		return true
	case "finished":
		return slices.Contains([]string{"success", "failed", "canceled"}, pl.Status)
	case "branches", "tags":
		return pl.MergeRequest == 0 && pl.Tag == (scope == "tags") && newest[pl.gitRef()] == pl.ID
	}
	return pl.Status == scope
}

// latestPipeline is the newest one of the commit that the ref is at. Where there is none, GitLab checks the right to
// read it all the same, and so refuses.
func (c *call) latestPipeline() *failure {
	ref := cmp.Or(c.r.URL.Query().Get("ref"), c.project.DefaultBranch)
	sha, err := c.s.commitish(c.r.Context(), c.project, ref)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	all := sorted(c.s.st.Pipelines, func(pl *pipeline) bool { return pl.Project == c.project.ID && pl.gitRef() == ref && pl.SHA == sha })
	if err != nil || len(all) == 0 {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	return c.answer(c.s.namedPipelineJSON(all[len(all)-1]))
}

func is(wanted, value string) bool { return wanted == "" || wanted == value }

func (c *call) pipeline() (*pipeline, *failure) {
	return found(c, c.s.st.Pipelines, "pipeline", "", func(pl *pipeline) int64 { return pl.Project })
}

func (c *call) namePipeline(pl *pipeline) *failure {
	p, f := c.body("name")
	if f != nil {
		return f
	}
	if len(text(p, "name")) > 255 {
		return fail(http.StatusBadRequest, map[string][]string{"name": {"is too long (maximum is 255 characters)"}})
	}
	pl.Name = text(p, "name")
	return c.changed(c.s.namedPipelineJSON(pl))
}

// inScope says whether the request wants jobs of that state.
func (c *call) inScope(j *job) bool {
	q := c.r.URL.Query()
	scope := append(q["scope[]"], q["scope"]...)
	return (!j.Retried || q.Get("include_retried") == "true") && (len(scope) == 0 || slices.Contains(scope, j.Status))
}

func (c *call) listJobs(pl *pipeline) *failure {
	all := sorted(c.s.st.Jobs, func(j *job) bool { return j.Pipeline == pl.ID && c.inScope(j) })
	slices.Reverse(all)
	return list(c, all, c.s.jobJSON)
}

func (c *call) listProjectJobs() *failure {
	all := sorted(c.s.st.Jobs, func(j *job) bool { return j.Project == c.project.ID && c.inScope(j) })
	slices.Reverse(all)
	out := []map[string]any{}
	for _, j := range keyset(c.w, c.r, all, func(j *job) string { return id(j.ID) }) {
		out = append(out, c.s.jobJSON(j))
	}
	return c.answer(out)
}

// cancelPipeline always answers 200, as GitLab does.
func (c *call) cancelPipeline(pl *pipeline) *failure {
	if f := c.mayRun(pl); f != nil {
		return f
	}
	for _, j := range c.s.st.pipelineJobs(pl.ID) {
		c.s.cancel(j)
	}
	c.s.advance(pl)
	return c.answer(c.s.pipelineJSON(pl))
}

func (c *call) retryPipeline(pl *pipeline) *failure {
	if f := c.mayRun(pl); f != nil {
		return f
	}
	for _, j := range c.s.st.pipelineJobs(pl.ID) {
		if j.retryable() && j.Status != "success" {
			c.s.again(j, c.person().ID)
		}
	}
	c.s.advance(pl)
	return c.made(c.s.pipelineJSON(pl))
}

// cancel ends a job that has not ended; the caller holds the lock.
func (s *Server) cancel(j *job) {
	switch j.Status {
	case "created", "pending", "manual", "waiting_for_resource":
		j.Status, j.FinishedAt = "canceled", ptr(s.now())
		if d := s.st.Deployments[j.Deployment]; d != nil {
			d.Status, d.UpdatedAt, d.FinishedAt = "canceled", s.now(), ptr(s.now())
		}
	case "running":
		if r := s.running[j.ID]; r != nil {
			j.Status = "canceling"
			r.end("canceled")
		}
	}
}

// events streams one line per change of a pipeline or its jobs, until it can change no more by itself.
func (s *Server) events(w http.ResponseWriter, r *http.Request, pipelineID string) {
	s.mu.Lock()
	who, f := s.caller(r, false, false)
	n, err := strconv.ParseInt(pipelineID, 10, 64)
	known := err == nil && s.st.Pipelines[n] != nil
	s.mu.Unlock()
	switch {
	case f != nil:
		reply(w, f.code, f.body)
		return
	case who.user == nil:
		reply(w, http.StatusUnauthorized, map[string]string{"message": "401 Unauthorized"})
		return
	case !known:
		reply(w, http.StatusNotFound, map[string]string{"message": "404 Not found"})
		return
	}
	changes, stop := s.subscribe()
	defer stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	seen := map[int64]string{}
	for {
		s.mu.Lock()
		pl := s.st.Pipelines[n]
		var lines []map[string]any
		at := time.Now().UTC()
		for _, j := range s.st.pipelineJobs(n) {
			if seen[j.ID] != j.Status {
				seen[j.ID] = j.Status
				lines = append(lines, map[string]any{"time": at, "pipeline": n, "job": j.ID, "name": j.Definition.Name, "stage": j.Definition.Stage,
					"status": j.Status, "exit_code": j.ExitCode, "failure_reason": j.FailureReason, "allow_failure": j.Definition.AllowFailure || j.Tolerated})
			}
		}
		if seen[0] != pl.Status {
			seen[0] = pl.Status
			lines = append(lines, map[string]any{"time": at, "pipeline": n, "status": pl.Status})
		}
		over := ended(pl.Status) || pl.Status == "manual"
		s.mu.Unlock()
		for _, line := range lines {
			if out.Encode(line) != nil {
				return
			}
		}
		_ = flush.Flush()
		if over {
			return
		}
		select {
		case <-changes:
		case <-r.Context().Done():
			return
		case <-s.ctx.Done():
			return
		}
	}
}
