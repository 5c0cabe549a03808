package gitlabapitest

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"
)

func (s *Server) pipelineJSON(pl *pipeline) map[string]any {
	p := s.st.Projects[pl.Project]
	body := map[string]any{
		"id": pl.ID, "iid": pl.IID, "project_id": pl.Project, "status": pl.Status, "source": pl.Source, "ref": pl.Ref, "tag": pl.Tag, "sha": pl.SHA,
		"before_sha": pl.BeforeSHA, "web_url": s.cfg.ExternalURL + "/" + p.Path + "/-/pipelines/" + id(pl.ID), "user": s.userJSON(s.user(pl.User)),
		"created_at": pl.CreatedAt, "updated_at": pl.UpdatedAt, "started_at": pl.StartedAt, "finished_at": pl.FinishedAt, "yaml_errors": nil, "name": nil,
		"duration": nil, "queued_duration": nil, "coverage": nil, "committed_at": nil,
	}
	if pl.YAMLErrors != "" {
		body["yaml_errors"] = pl.YAMLErrors
	}
	if pl.StartedAt != nil && pl.FinishedAt != nil {
		body["duration"] = int64(pl.FinishedAt.Sub(*pl.StartedAt).Seconds())
	}
	return body
}

func (s *Server) jobJSON(j *job) map[string]any {
	p, pl := s.st.Projects[j.Project], s.st.Pipelines[j.Pipeline]
	body := map[string]any{
		"id": j.ID, "name": j.Definition.Name, "stage": j.Definition.Stage, "status": j.Status, "ref": pl.Ref, "tag": pl.Tag, "allow_failure": j.Definition.AllowFailure || j.Tolerated,
		"created_at": j.CreatedAt, "started_at": j.StartedAt, "finished_at": j.FinishedAt, "erased_at": nil, "duration": nil, "queued_duration": nil, "coverage": nil,
		"user": s.userJSON(s.user(j.User)), "web_url": s.cfg.ExternalURL + "/" + p.Path + "/-/jobs/" + id(j.ID), "archived": false, "source": pl.Source,
		"pipeline": map[string]any{"id": pl.ID, "iid": pl.IID, "project_id": pl.Project, "status": pl.Status, "ref": pl.Ref, "sha": pl.SHA, "source": pl.Source},
		"project":  map[string]any{"ci_job_token_scope_enabled": false}, "artifacts": []any{}, "tag_list": []string{}, "runner": nil, "runner_manager": nil,
	}
	if j.FailureReason != "" {
		body["failure_reason"] = j.FailureReason
	}
	if j.StartedAt != nil {
		until := s.now()
		if j.FinishedAt != nil {
			until = *j.FinishedAt
		}
		body["duration"] = until.Sub(*j.StartedAt).Seconds()
		if j.QueuedAt != nil {
			body["queued_duration"] = j.StartedAt.Sub(*j.QueuedAt).Seconds()
		}
	}
	return body
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
	p, f := c.params()
	if f == nil {
		f = missing(p, "ref")
	}
	if f != nil {
		return f
	}
	return c.makePipeline(p, "api", c.caller.user.ID)
}

// triggerPipeline takes a job token of an allow-listed project, or the project's own trigger token.
func (c *call) triggerPipeline() *failure {
	p, f := c.params()
	if f == nil {
		f = missing(p, "token", "ref")
	}
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
		admitted = f == nil && c.s.user(j.User).atLeast(developer)
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
	mayVary := len(variables) == 0 || role != "no_one_allowed" && c.s.user(by).atLeast(variableRoles()[role])
	c.s.mu.Unlock()
	if !mayVary {
		return fail(http.StatusBadRequest, map[string]any{"base": []string{"Insufficient permissions to set pipeline variables"}})
	}
	sha, tag, err := c.s.resolve(c.r.Context(), c.project, text(p, "ref"))
	if err != nil {
		return failInternal(err)
	}
	if sha == "" {
		return fail(http.StatusBadRequest, map[string]any{"base": []string{"Reference not found"}})
	}
	if c.project.protects(text(p, "ref"), tag) && !c.s.user(by).atLeast(maintainer) {
		return fail(http.StatusBadRequest, map[string]any{"base": []string{"You do not have sufficient permission to run a pipeline on '" + text(p, "ref") + "'. Please select a different branch or contact your administrator for assistance."}})
	}
	pl, err := c.s.newPipeline(c.s.ctx, request{project: c.project, ref: text(p, "ref"), tag: tag, sha: sha, source: source, user: by, variables: variables, inputs: inputs})
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

func (c *call) listPipelines() *failure {
	q := c.r.URL.Query()
	c.s.mu.Lock()
	list := []map[string]any{}
	for _, pl := range sorted(c.s.st.Pipelines, func(pl *pipeline) bool {
		return pl.Project == c.project.ID && is(q.Get("ref"), pl.Ref) && is(q.Get("sha"), pl.SHA) && is(q.Get("status"), pl.Status) && is(q.Get("source"), pl.Source)
	}) {
		list = append(list, c.s.pipelineJSON(pl))
	}
	c.s.mu.Unlock()
	if q.Get("sort") != "asc" {
		slices.Reverse(list)
	}
	reply(c.w, http.StatusOK, page(c.w, c.r, list))
	return nil
}

func is(wanted, value string) bool { return wanted == "" || wanted == value }

// pipeline finds the pipeline in the path; the caller holds the lock.
func (c *call) pipeline() (*pipeline, *failure) {
	n, f := c.idOf("pipeline")
	if f != nil {
		return nil, f
	}
	pl := c.s.st.Pipelines[n]
	if pl == nil || pl.Project != c.project.ID {
		return nil, fail(http.StatusNotFound, "404 Not found")
	}
	return pl, nil
}

func (c *call) getPipeline() *failure {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	pl, f := c.pipeline()
	if f == nil {
		reply(c.w, http.StatusOK, c.s.pipelineJSON(pl))
	}
	return f
}

func (c *call) listJobs() *failure {
	q := c.r.URL.Query()
	c.s.mu.Lock()
	pl, f := c.pipeline()
	list := []map[string]any{}
	if f == nil {
		scope := append(q["scope[]"], q["scope"]...)
		for _, j := range sorted(c.s.st.Jobs, func(j *job) bool {
			return j.Pipeline == pl.ID && (!j.Retried || q.Get("include_retried") == "true") && (len(scope) == 0 || slices.Contains(scope, j.Status))
		}) {
			list = append(list, c.s.jobJSON(j))
		}
	}
	c.s.mu.Unlock()
	if f != nil {
		return f
	}
	slices.Reverse(list)
	reply(c.w, http.StatusOK, page(c.w, c.r, list))
	return nil
}

// cancelPipeline always answers 200, as GitLab does.
func (c *call) cancelPipeline() *failure {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	pl, f := c.pipeline()
	if f != nil {
		return f
	}
	for _, j := range c.s.st.pipelineJobs(pl.ID) {
		c.s.cancel(j)
	}
	c.s.advance(pl)
	reply(c.w, http.StatusOK, c.s.pipelineJSON(pl))
	return nil
}

// cancel ends a job that has not ended; the caller holds the lock.
func (s *Server) cancel(j *job) {
	switch j.Status {
	case "created", "pending", "manual", "waiting_for_resource":
		j.Status, j.FinishedAt = "canceled", ptr(s.now())
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
	who, f := s.caller(r, false)
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
