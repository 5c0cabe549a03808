package gitlabapitest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// request is a wish for a pipeline.
type request struct {
	project   *project
	ref       string
	tag       bool
	sha       string
	before    string
	source    string
	user      int64
	variables map[string]string
	inputs    map[string]any
	schedule  int64
	merge     *mergeRequest // of a merge request's pipeline; ref is its source branch then
}

// gitRef is what a pipeline ran on, as GitLab shows it.
func (pl *pipeline) gitRef() string {
	if pl.MergeRequest != 0 {
		return pl.HeadRef
	}
	return pl.Ref
}

func skipsCI(message string) bool {
	return regexp.MustCompile(`(?i)\[(skip ci|ci skip)\]`).MatchString(message)
}

// newPipeline resolves the configuration and starts what can be started. A configuration that does not resolve makes
// a failed pipeline on push, and an error (invalid) otherwise, as on GitLab.
func (s *Server) newPipeline(ctx context.Context, q request) (*pipeline, error) {
	made, err := s.commit(ctx, q.project, q.sha)
	if err != nil {
		return nil, err
	}
	if q.before == "" {
		q.before = zeroSHA
	}
	s.mu.Lock()
	pl := &pipeline{
		ID: s.st.next("pipeline"), IID: s.st.next("pipeline/" + id(q.project.ID)), Project: q.project.ID, Ref: q.ref, Tag: q.tag, SHA: q.sha, Commit: made,
		BeforeSHA: q.before, Source: q.source, User: q.user, Variables: q.variables, Schedule: q.schedule, Status: "created", CreatedAt: s.now(), UpdatedAt: s.now(),
	}
	if q.merge != nil {
		pl.MergeRequest, pl.SourceProject, pl.TargetRef = q.merge.ID, q.merge.SourceProject, q.merge.Target
		pl.HeadRef, pl.Fork = q.merge.headRef(), q.merge.fork()
	}
	u := s.user(q.user)
	set := s.settings(q.project, pl, "")
	s.mu.Unlock()
	if q.source == "push" && skipsCI(made.Message) {
		pl.Status = "skipped"
		s.keep(pl, nil)
		return pl, nil
	}
	dir := s.configDir(pl, q.project)
	open := s.pipelineVariables(q.project, pl, u, made, set)
	res, err := s.resolveConfig(ctx, q, dir, open, values(unless(set, pl.Variables), dir, open))
	var bad invalid
	switch {
	case errors.As(err, &bad) && (q.source == "push" || q.merge != nil):
		_ = os.RemoveAll(s.buildDir(pl.ID))
		first := bad[0]
		if first == "Missing CI config file" || strings.HasPrefix(first, "Pipeline filtered out") || strings.HasPrefix(first, "Pipeline will not run") {
			return nil, err // a push to such a project simply has no pipeline
		}
		pl.Status, pl.YAMLErrors = "failed", bad.Error()
		s.keep(pl, nil)
		return pl, nil
	case err != nil:
		_ = os.RemoveAll(s.buildDir(pl.ID))
		return nil, err
	}
	pl.Stages = res.stages
	s.keep(pl, res.jobs)
	return pl, nil
}

func (s *Server) buildDir(pipeline int64) string { return s.path("builds", id(pipeline)) }

func (s *Server) configDir(pl *pipeline, p *project) string {
	return filepath.Join(s.buildDir(pl.ID), "config", filepath.FromSlash(p.Path))
}

// keep puts a pipeline and its jobs into the state, and sets it going.
func (s *Server) keep(pl *pipeline, defs []definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.Pipelines[pl.ID] = pl
	// Jobs are numbered stage by stage, as GitLab does, whatever their order in the file.
	for _, stage := range append(slices.Clone(pl.Stages), "") {
		for _, d := range defs {
			if d.Stage != stage && (stage != "" || slices.Contains(pl.Stages, d.Stage)) {
				continue
			}
			j := &job{ID: s.st.next("job"), Pipeline: pl.ID, Project: pl.Project, User: pl.User, Definition: d, Status: "created", CreatedAt: s.now()}
			s.st.Jobs[j.ID] = j
			s.useResourceGroup(pl.Project, d.ResourceGroup)
			if d.Environment != nil && d.Environment.Action == "start" {
				s.environmentFor(pl.Project, d.Environment)
			}
		}
	}
	s.advance(pl)
}

// advance moves a pipeline as far as it goes by itself: jobs whose turn it is become pending, manual or skipped,
// and pending ones are started. The caller holds the lock.
func (s *Server) advance(pl *pipeline) {
	jobs := s.st.pipelineJobs(pl.ID)
	for moved := true; moved; {
		moved = false
		for _, j := range jobs {
			if j.Status != "created" {
				continue
			}
			if next := turn(j, jobs, pl.Stages); next != "" {
				j.Status = next
				if next == "pending" {
					j.QueuedAt = ptr(s.now())
				}
				moved = true
			}
		}
	}
	s.settle(pl)
	s.dispatch()
	s.mergeWhatMay(pl)
	s.save()
	s.changed()
}

// turn decides what becomes of a job that has not begun; "" means that it waits.
func turn(j *job, jobs []*job, stages []string) string {
	failed, skipped, wait := false, false, false
	for _, before := range predecessors(j, jobs, stages) {
		switch {
		case before.Status == "success", before.Status == "failed" && before.Tolerated:
		case before.Status == "failed", before.Status == "canceled":
			failed = true
		case before.Status == "skipped":
			skipped = skipped || j.Definition.HasNeeds
		case before.Status == "manual" && before.Definition.AllowFailure && !j.Definition.HasNeeds:
		default:
			wait = true
		}
	}
	switch when := j.Definition.When; {
	case wait:
		return ""
	case when == "always":
		return "pending"
	case when == "on_failure" && failed:
		return "pending"
	case when == "on_failure", failed, skipped:
		return "skipped"
	case when == "manual":
		return "manual"
	}
	return "pending"
}

// predecessors are the jobs that a job needs, or all of the earlier stages where it has no needs.
func predecessors(j *job, jobs []*job, stages []string) []*job {
	var list []*job
	own := slices.Index(stages, j.Definition.Stage)
	for _, other := range jobs {
		if j.Definition.HasNeeds {
			if slices.ContainsFunc(j.Definition.Needs, func(n need) bool { return n.is(other) }) {
				list = append(list, other)
			}
		} else if slices.Index(stages, other.Definition.Stage) < own {
			list = append(list, other)
		}
	}
	return list
}

func (n need) is(j *job) bool {
	return n.Job == j.Definition.Name || strings.HasPrefix(j.Definition.Name, n.Job+": [")
}

// settle computes the state of a pipeline from its jobs.
func (s *Server) settle(pl *pipeline) {
	jobs := s.st.pipelineJobs(pl.ID)
	if len(jobs) == 0 {
		return
	}
	count := map[string]int{}
	blocked, failed := false, false
	for _, j := range jobs {
		count[j.Status]++
		blocked = blocked || j.Status == "manual" && !j.Definition.AllowFailure
		failed = failed || j.Status == "failed" && !j.Tolerated
	}
	begun := count["success"]+count["failed"]+count["canceled"] > 0
	status := "success"
	switch {
	case count["running"]+count["canceling"] > 0, begun && count["pending"]+count["waiting_for_resource"] > 0:
		status = "running"
	case count["pending"] > 0:
		status = "pending"
	case count["waiting_for_resource"] > 0:
		status = "waiting_for_resource"
	case blocked:
		status = "manual"
	case failed:
		status = "failed"
	case count["canceled"] > 0:
		status = "canceled"
	case !begun:
		status = "skipped"
	}
	if status == pl.Status {
		return
	}
	pl.Status, pl.UpdatedAt = status, s.now()
	if status == "running" && pl.StartedAt == nil {
		pl.StartedAt = ptr(s.now())
	}
	pl.FinishedAt = nil
	if ended(status) {
		pl.FinishedAt = ptr(s.now())
	}
}

func ended(status string) bool {
	return slices.Contains([]string{"success", "failed", "canceled", "skipped"}, status)
}

// dispatch starts pending jobs, oldest first, as slots and resource groups allow. The caller holds the lock.
func (s *Server) dispatch() {
	held := map[string]bool{}
	var stopped []*pipeline
	for _, r := range s.running {
		if key := s.st.Jobs[r.job].group(); key != "" {
			held[key] = true
		}
	}
	for _, j := range sorted(s.st.Jobs, func(j *job) bool { return j.Status == "pending" || j.Status == "waiting_for_resource" }) {
		key := j.group()
		pl := s.st.Pipelines[j.Pipeline]
		switch {
		case s.closed:
			return
		case key != "" && (held[key] || s.yields(j)):
			j.Status = "waiting_for_resource"
		case len(s.running) >= s.cfg.Runner.Concurrency:
			j.Status = "pending"
		default:
			reason, blocked := s.guard(j)
			switch {
			case reason != "":
				j.Status, j.FailureReason, j.FinishedAt = "failed", reason, ptr(s.now())
				j.Tolerated = j.Definition.AllowFailure
				stopped = append(stopped, pl)
			case !blocked:
				if key != "" {
					held[key] = true
				}
				s.start(j)
			}
		}
		s.settle(pl)
	}
	for _, pl := range stopped {
		s.advance(pl) // what came after a job that never began has its turn now
	}
}

// group is the lock that jobs of one resource group share, within a project.
func (j *job) group() string {
	if j.Definition.ResourceGroup == "" {
		return ""
	}
	return id(j.Project) + "/" + j.Definition.ResourceGroup
}
