package gitlabapitest

import (
	"cmp"
	"net/http"
	"slices"
	"time"
)

// schedule makes pipelines by the clock, in the name of its owner.
type schedule struct {
	ID          int64              `json:"id"`
	Project     int64              `json:"project"`
	Description string             `json:"description"`
	Ref         string             `json:"ref"`
	Cron        string             `json:"cron"`
	Zone        string             `json:"zone"`
	Active      bool               `json:"active"`
	Owner       int64              `json:"owner"`
	NextRunAt   *time.Time         `json:"next_run_at"`
	Variables   []scheduleVariable `json:"variables"`
	Inputs      []scheduleInput    `json:"inputs"`
	CreatedAt   time.Time          `json:"created_at"`
	UpdatedAt   time.Time          `json:"updated_at"`
}

type scheduleVariable struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Type  string `json:"variable_type"`
	Raw   bool   `json:"raw"`
}

type scheduleInput struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

func scheduleEndpoints() []endpoint {
	const one = "/projects/:id/pipeline_schedules/:pipeline_schedule"
	return []endpoint{
		{"GET", "/projects/:id/pipeline_schedules", false, guest, locked((*call).listSchedules)},
		{"POST", "/projects/:id/pipeline_schedules", false, developer, locked((*call).createSchedule)},
		{"GET", one, false, guest, with((*call).schedule, func(c *call, sc *schedule) *failure { return c.answer(c.s.scheduleJSON(sc, c.sees(sc))) })},
		{"PUT", one, false, developer, withOwnSchedule((*call).putSchedule)},
		{"DELETE", one, false, developer, with((*call).schedule, (*call).deleteSchedule)},
		{"POST", one + "/take_ownership", false, maintainer, with((*call).schedule, (*call).ownSchedule)},
		{"POST", one + "/play", false, developer, (*call).playSchedule},
		{"GET", one + "/pipelines", false, guest, with((*call).schedule, (*call).listScheduled)},
		{"POST", one + "/variables", false, developer, withOwnSchedule((*call).createScheduleVariable)},
		{"PUT", one + "/variables/:key", false, developer, withOwnSchedule((*call).putScheduleVariable)},
		{"DELETE", one + "/variables/:key", false, developer, withOwnSchedule((*call).deleteScheduleVariable)},
	}
}

func (c *call) schedule() (*schedule, *failure) {
	return found(c, c.s.st.Schedules, "pipeline_schedule", "Pipeline Schedule", func(sc *schedule) int64 { return sc.Project })
}

// withOwnSchedule lets only the owner change a schedule: everyone else takes it over first.
func withOwnSchedule(h func(*call, *schedule) *failure) handler {
	return with((*call).schedule, func(c *call, sc *schedule) *failure {
		if u := c.person(); sc.Owner != u.ID && !u.Admin {
			return fail(http.StatusForbidden, "403 Forbidden")
		}
		return h(c, sc)
	})
}

// sees says whether the caller is shown a schedule's variables: its owner, and who could take it over.
func (c *call) sees(sc *schedule) bool {
	return sc.Owner == c.person().ID || c.person().atLeast(maintainer)
}

func (s *Server) scheduleJSON(sc *schedule, details bool) map[string]any {
	body := map[string]any{"id": sc.ID, "description": sc.Description, "ref": sc.Ref, "cron": sc.Cron, "cron_timezone": sc.Zone, "next_run_at": sc.NextRunAt,
		"active": sc.Active, "created_at": sc.CreatedAt, "updated_at": sc.UpdatedAt, "owner": s.userJSON(s.user(sc.Owner)), "inputs": sc.Inputs}
	if sc.Inputs == nil {
		body["inputs"] = []any{}
	}
	body["last_pipeline"] = nil
	if all := s.scheduled(sc); len(all) > 0 {
		last := all[len(all)-1]
		body["last_pipeline"] = map[string]any{"id": last.ID, "sha": last.SHA, "ref": last.Ref, "status": last.Status, "web_url": s.pipelineJSON(last)["web_url"]}
	}
	if details {
		body["variables"] = append([]scheduleVariable{}, sc.Variables...)
	}
	return body
}

func (s *Server) scheduled(sc *schedule) []*pipeline {
	return sorted(s.st.Pipelines, func(pl *pipeline) bool { return pl.Schedule == sc.ID })
}

func (c *call) listSchedules() *failure {
	scope := c.r.URL.Query().Get("scope")
	return list(c, sorted(c.s.st.Schedules, func(sc *schedule) bool {
		return sc.Project == c.project.ID && (scope == "" || sc.Active == (scope == "active"))
	}), func(sc *schedule) map[string]any { return c.s.scheduleJSON(sc, false) })
}

func (c *call) listScheduled(sc *schedule) *failure {
	all := c.s.scheduled(sc)
	if c.r.URL.Query().Get("sort") == "desc" {
		slices.Reverse(all)
	}
	return list(c, all, c.s.pipelineJSON)
}

// assign takes what a request says of a schedule, and checks the whole.
func (c *call) assign(sc *schedule) *failure {
	p := c.read
	for key, field := range map[string]*string{"description": &sc.Description, "ref": &sc.Ref, "cron": &sc.Cron, "cron_timezone": &sc.Zone} {
		if _, ok := p[key]; ok {
			*field = text(p, key)
		}
	}
	if _, ok := p["active"]; ok {
		sc.Active = truth(p, "active")
	}
	if given, ok := p["inputs"].([]any); ok {
		if f := sc.assignInputs(given); f != nil {
			return f
		}
	}
	at, problems := cronTime(sc.Cron, sc.Zone)
	if problems == nil {
		problems = map[string][]string{}
	}
	if sc.Description == "" {
		problems["description"] = []string{"can't be blank"}
	}
	name, _, tag, problem, err := c.s.pipelineRef(c.r.Context(), c.project, sc.Ref)
	switch {
	case err != nil:
		return failInternal(err)
	case sc.Ref == "":
		problems["ref"] = []string{"can't be blank"}
	case problem != "":
		problems["ref"] = []string{"is ambiguous"} // whichever it is
	case !c.project.mayUpdate(c.person(), name, tag):
		// Only who could start the pipeline by hand may have the clock start it.
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	if len(problems) > 0 {
		return fail(http.StatusBadRequest, problems)
	}
	sc.NextRunAt, sc.UpdatedAt = nil, c.s.now()
	if sc.Active {
		sc.NextRunAt = ptr(at.Next(c.s.now()))
	}
	return nil
}

func (sc *schedule) assignInputs(given []any) *failure {
	inputs := slices.Clone(sc.Inputs)
	for _, raw := range given {
		m := mapOf(raw)
		name := text(m, "name")
		at := slices.IndexFunc(inputs, func(in scheduleInput) bool { return in.Name == name })
		switch {
		case name == "":
			return failKey(http.StatusBadRequest, "error", "inputs[name] is missing")
		case truth(m, "destroy") && at >= 0:
			inputs = slices.Delete(inputs, at, at+1)
		case truth(m, "destroy"):
		case m["value"] == nil:
			return failKey(http.StatusBadRequest, "error", "inputs[value] is missing")
		case at >= 0:
			inputs[at].Value = m["value"]
		default:
			inputs = append(inputs, scheduleInput{name, m["value"]})
		}
	}
	if len(inputs) > 20 {
		return fail(http.StatusBadRequest, map[string][]string{"inputs": {"exceed the limit of 20."}})
	}
	sc.Inputs = inputs
	return nil
}

func (c *call) createSchedule() *failure {
	if _, f := c.body("description", "ref", "cron"); f != nil {
		return f
	}
	if len(sorted(c.s.st.Schedules, func(sc *schedule) bool { return sc.Project == c.project.ID })) >= 10 {
		return fail(http.StatusBadRequest, map[string][]string{"base": {"Maximum number of pipeline schedules (10) exceeded"}})
	}
	sc := &schedule{Project: c.project.ID, Zone: cmp.Or(text(c.read, "cron_timezone"), "UTC"), Active: true, Owner: c.person().ID, CreatedAt: c.s.now()}
	if f := c.assign(sc); f != nil {
		return f
	}
	sc.ID = c.s.st.next("schedule")
	c.s.st.Schedules[sc.ID] = sc
	c.s.changed()
	return c.made(c.s.scheduleJSON(sc, true))
}

func (c *call) putSchedule(sc *schedule) *failure {
	next := *sc
	if f := c.assign(&next); f != nil {
		return f
	}
	*sc = next
	c.s.changed()
	return c.changed(c.s.scheduleJSON(sc, true))
}

func (c *call) deleteSchedule(sc *schedule) *failure {
	if u := c.person(); sc.Owner != u.ID && !u.atLeast(maintainer) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	delete(c.s.st.Schedules, sc.ID)
	return c.gone()
}

func (c *call) ownSchedule(sc *schedule) *failure {
	if sc.Owner == c.person().ID {
		return c.answer(c.s.scheduleJSON(sc, true))
	}
	sc.Owner, sc.UpdatedAt = c.person().ID, c.s.now()
	return c.made(c.s.scheduleJSON(sc, true))
}

// playSchedule makes the pipeline in the name of who asks, where that person might start it by hand. The answer
// comes before the pipeline, as on GitLab.
func (c *call) playSchedule() *failure {
	c.s.mu.Lock()
	sc, f := c.schedule()
	var copied schedule
	var by user
	if f == nil {
		copied, by = *sc, c.person()
	}
	c.s.mu.Unlock()
	if f != nil {
		return f
	}
	name, _, tag, _, err := c.s.pipelineRef(c.r.Context(), c.project, copied.Ref)
	if err != nil {
		return failInternal(err)
	}
	c.s.mu.Lock()
	may := c.project.mayUpdate(by, name, tag)
	c.s.mu.Unlock()
	if !may {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	c.s.beside(func() { c.s.runSchedule(copied, by.ID) })
	reply(c.w, http.StatusCreated, map[string]string{"message": "201 Created"})
	return nil
}

func (c *call) scheduleVariable(sc *schedule) (int, *failure) {
	at := slices.IndexFunc(sc.Variables, func(v scheduleVariable) bool { return v.Key == c.r.PathValue("key") })
	if at < 0 {
		return 0, notFound("Pipeline Schedule Variable")
	}
	return at, nil
}

func (c *call) createScheduleVariable(sc *schedule) *failure {
	p, f := c.body("key", "value")
	if f != nil {
		return f
	}
	v := scheduleVariable{Key: text(p, "key"), Value: text(p, "value"), Type: cmp.Or(text(p, "variable_type"), "env_var")}
	switch {
	case !isVarName(v.Key):
		return fail(http.StatusBadRequest, map[string][]string{"key": {"can contain only letters, digits and '_'."}})
	case slices.ContainsFunc(sc.Variables, func(o scheduleVariable) bool { return o.Key == v.Key }):
		return fail(http.StatusBadRequest, map[string][]string{"key": {"has already been taken"}})
	}
	sc.Variables = append(sc.Variables, v)
	return c.made(v)
}

func (c *call) putScheduleVariable(sc *schedule) *failure {
	at, f := c.scheduleVariable(sc)
	if f != nil {
		return f
	}
	for key, field := range map[string]*string{"value": &sc.Variables[at].Value, "variable_type": &sc.Variables[at].Type} {
		if _, ok := c.read[key]; ok {
			*field = text(c.read, key)
		}
	}
	return c.changed(sc.Variables[at])
}

func (c *call) deleteScheduleVariable(sc *schedule) *failure {
	at, f := c.scheduleVariable(sc)
	if f != nil {
		return f
	}
	gone := sc.Variables[at]
	sc.Variables = slices.Delete(sc.Variables, at, at+1)
	c.s.save()
	reply(c.w, http.StatusAccepted, gone)
	return nil
}

// runSchedule makes a schedule's pipeline, if whose name it is in may still make it.
func (s *Server) runSchedule(sc schedule, by int64) {
	s.mu.Lock()
	p := s.st.Projects[sc.Project]
	s.mu.Unlock()
	name, sha, tag, problem, err := s.pipelineRef(s.ctx, p, sc.Ref)
	s.mu.Lock()
	may := p.mayUpdate(s.in(p, s.user(by)), name, tag)
	variables, inputs := map[string]string{}, map[string]any{}
	for _, v := range sc.Variables {
		variables[v.Key] = v.Value
	}
	for _, in := range sc.Inputs {
		inputs[in.Name] = in.Value
	}
	s.mu.Unlock()
	if err != nil || problem != "" || !may {
		return // GitLab shows no pipeline either
	}
	_, _ = s.newPipeline(s.ctx, request{project: p, ref: name, tag: tag, sha: sha, source: "schedule", user: by, variables: variables, inputs: inputs, schedule: sc.ID})
}

// runSchedules starts what is due, until the server is closed. It wakes when the next one is due, and whenever some
// state has changed: a schedule, or the clock.
func (s *Server) runSchedules() {
	defer s.work.Done()
	changes, stop := s.subscribe()
	defer stop()
	for {
		s.mu.Lock()
		now := s.now()
		next := now.Add(time.Hour)
		var due []schedule
		for _, sc := range sorted(s.st.Schedules, func(sc *schedule) bool { return sc.Active && sc.NextRunAt != nil && !s.closed }) {
			if !sc.NextRunAt.After(now) {
				due = append(due, *sc)
				at, _ := cronTime(sc.Cron, sc.Zone)
				sc.NextRunAt = ptr(at.Next(now))
			}
			if sc.NextRunAt.Before(next) {
				next = *sc.NextRunAt
			}
		}
		if len(due) > 0 {
			s.save()
		}
		if !s.closed {
			next = s.stopForgotten(now, next)
		}
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return
		}
		for _, sc := range due {
			s.runSchedule(sc, sc.Owner)
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-timer.C:
		case <-changes:
		case <-s.ctx.Done():
		}
		timer.Stop()
	}
}
