package gitlabapitest

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (s *Server) environmentNamed(p int64, name string) *environment {
	for _, e := range s.st.Environments {
		if e.Project == p && e.Name == name {
			return e
		}
	}
	return nil
}

// environmentFor finds or makes the environment a job names; the caller holds the lock.
func (s *Server) environmentFor(p int64, e *jobEnvironment) *environment {
	env := s.environmentNamed(p, e.Name)
	if env == nil {
		env = &environment{ID: s.st.next("environment"), Project: p, Name: e.Name, Tier: e.tier(), State: "available", CreatedAt: s.now(), UpdatedAt: s.now()}
		s.st.Environments[env.ID] = env
	}
	return env
}

func (s *Server) environmentJSON(e *environment, last bool) map[string]any {
	body := map[string]any{"id": e.ID, "name": e.Name, "slug": slug(e.Name), "external_url": e.ExternalURL, "description": e.Description,
		"tier": e.Tier, "state": e.State, "created_at": e.CreatedAt, "updated_at": e.UpdatedAt, "auto_stop_at": nil, "auto_stop_setting": "always"}
	if last {
		all := sorted(s.st.Deployments, func(d *deployment) bool { return d.Environment == e.ID && d.Status == "success" })
		if len(all) > 0 {
			body["last_deployment"] = s.deploymentJSON(all[len(all)-1])
		}
	}
	return body
}

func (c *call) listEnvironments() *failure {
	q := c.r.URL.Query()
	if s := q.Get("search"); s != "" && len(s) < 3 {
		return fail(http.StatusBadRequest, "400 Bad request - Search query is less than 3 characters")
	}
	c.s.mu.Lock()
	list := []map[string]any{}
	for _, e := range sorted(c.s.st.Environments, func(e *environment) bool {
		return e.Project == c.project.ID && is(q.Get("name"), e.Name) && strings.Contains(e.Name, q.Get("search")) && is(q.Get("states"), e.State)
	}) {
		list = append(list, c.s.environmentJSON(e, false))
	}
	c.s.mu.Unlock()
	reply(c.w, http.StatusOK, page(c.w, c.r, list))
	return nil
}

func (c *call) createEnvironment() *failure {
	p, f := c.params()
	if f == nil {
		f = missing(p, "name")
	}
	if f != nil {
		return f
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.environmentNamed(c.project.ID, text(p, "name")) != nil {
		return fail(http.StatusBadRequest, map[string]any{"name": []string{"has already been taken"}})
	}
	e := c.s.environmentFor(c.project.ID, &jobEnvironment{Name: text(p, "name"), Tier: text(p, "tier")})
	e.ExternalURL, e.Description = text(p, "external_url"), text(p, "description")
	c.s.save()
	reply(c.w, http.StatusCreated, c.s.environmentJSON(e, true))
	return nil
}

// environment finds the environment in the path; the caller holds the lock.
func (c *call) environment() (*environment, *failure) {
	n, f := c.idOf("environment")
	if f != nil {
		return nil, f
	}
	e := c.s.st.Environments[n]
	if e == nil || e.Project != c.project.ID {
		return nil, notFound("Environment")
	}
	return e, nil
}

func (c *call) getEnvironment() *failure {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	e, f := c.environment()
	if f == nil {
		reply(c.w, http.StatusOK, c.s.environmentJSON(e, true))
	}
	return f
}

func (c *call) putEnvironment() *failure {
	p, f := c.params()
	if f != nil {
		return f
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	e, f := c.environment()
	if f != nil {
		return f
	}
	for key, field := range map[string]*string{"external_url": &e.ExternalURL, "description": &e.Description, "tier": &e.Tier} {
		if _, ok := p[key]; ok {
			*field = text(p, key)
		}
	}
	e.UpdatedAt = c.s.now()
	c.s.save()
	reply(c.w, http.StatusOK, c.s.environmentJSON(e, true))
	return nil
}

func (s *Server) deploymentJSON(d *deployment) map[string]any {
	body := map[string]any{"id": d.ID, "iid": d.IID, "ref": d.Ref, "sha": d.SHA, "status": d.Status, "created_at": d.CreatedAt, "updated_at": d.UpdatedAt,
		"finished_at": d.FinishedAt, "user": s.userJSON(s.user(d.User)), "deployable": nil}
	if e := s.st.Environments[d.Environment]; e != nil {
		body["environment"] = s.environmentJSON(e, false)
	}
	if j := s.st.Jobs[d.Job]; j != nil {
		body["deployable"] = s.jobJSON(j)
	}
	return body
}

func (c *call) listDeployments() *failure {
	q := c.r.URL.Query()
	order := cmp.Or(q.Get("order_by"), "id")
	if (q.Get("finished_after") != "" || q.Get("finished_before") != "") && (order != "finished_at" || q.Get("status") != "success") {
		return fail(http.StatusBadRequest, "400 Bad request - `finished_at` filter requires `finished_at` sort and `success` status")
	}
	c.s.mu.Lock()
	all := sorted(c.s.st.Deployments, func(d *deployment) bool {
		env := c.s.st.Environments[d.Environment]
		return d.Project == c.project.ID && is(q.Get("environment"), env.Name) && is(q.Get("status"), d.Status) &&
			within(&d.UpdatedAt, q.Get("updated_after"), q.Get("updated_before")) && within(d.FinishedAt, q.Get("finished_after"), q.Get("finished_before"))
	})
	key := func(d *deployment) time.Time {
		switch {
		case order == "created_at":
			return d.CreatedAt
		case order == "updated_at":
			return d.UpdatedAt
		case order == "finished_at" && d.FinishedAt != nil:
			return *d.FinishedAt
		}
		return time.Time{}
	}
	slices.SortStableFunc(all, func(a, b *deployment) int { return key(a).Compare(key(b)) })
	if q.Get("sort") == "desc" {
		slices.Reverse(all)
	}
	list := []map[string]any{}
	for _, d := range all {
		list = append(list, c.s.deploymentJSON(d))
	}
	c.s.mu.Unlock()
	reply(c.w, http.StatusOK, page(c.w, c.r, list))
	return nil
}

func within(t *time.Time, after, before string) bool {
	if after == "" && before == "" {
		return true
	}
	if t == nil {
		return false
	}
	from, err := time.Parse(time.RFC3339, after)
	if err == nil && t.Before(from) {
		return false
	}
	to, err := time.Parse(time.RFC3339, before)
	return err != nil || !t.After(to)
}

func deploymentStates() []string {
	return []string{"created", "running", "success", "failed", "canceled"}
}

func (c *call) createDeployment() *failure {
	p, f := c.params()
	if f == nil {
		f = missing(p, "environment", "sha", "ref", "tag", "status")
	}
	if f != nil {
		return f
	}
	if !slices.Contains(deploymentStates()[1:], text(p, "status")) {
		return failKey(http.StatusBadRequest, "error", "status does not have a valid value")
	}
	sha, err := c.s.commitish(c.r.Context(), c.project, text(p, "sha"))
	if err != nil {
		return fail(http.StatusBadRequest, map[string]any{"sha": []string{"The commit does not exist"}})
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	env := c.s.environmentFor(c.project.ID, &jobEnvironment{Name: text(p, "environment")})
	d := &deployment{ID: c.s.st.next("deployment"), IID: c.s.st.next("deployment/" + id(c.project.ID)), Project: c.project.ID, Environment: env.ID,
		Ref: text(p, "ref"), Tag: truth(p, "tag"), SHA: sha, Status: text(p, "status"), User: c.s.person(c.caller).ID, CreatedAt: c.s.now(), UpdatedAt: c.s.now()}
	if d.Status != "running" {
		d.FinishedAt = ptr(c.s.now())
	}
	c.s.st.Deployments[d.ID] = d
	c.s.save()
	reply(c.w, http.StatusCreated, c.s.deploymentJSON(d))
	return nil
}

// deployment finds the deployment in the path; the caller holds the lock.
func (c *call) deployment() (*deployment, *failure) {
	n, f := c.idOf("deployment")
	if f != nil {
		return nil, f
	}
	d := c.s.st.Deployments[n]
	if d == nil || d.Project != c.project.ID {
		return nil, notFound("Deployment")
	}
	return d, nil
}

func (c *call) getDeployment() *failure {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	d, f := c.deployment()
	if f == nil {
		reply(c.w, http.StatusOK, c.s.deploymentJSON(d))
	}
	return f
}

// putDeployment changes the state of a deployment that was made over the API; a job's own follows its job.
func (c *call) putDeployment() *failure {
	p, f := c.params()
	if f == nil {
		f = missing(p, "status")
	}
	if f != nil {
		return f
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	d, f := c.deployment()
	if f != nil {
		return f
	}
	switch {
	case d.Job != 0:
		return fail(http.StatusForbidden, "403 Forbidden")
	case !slices.Contains(deploymentStates(), text(p, "status")):
		return failKey(http.StatusBadRequest, "error", "status does not have a valid value")
	case d.FinishedAt != nil && d.Status != text(p, "status"):
		return fail(http.StatusBadRequest, map[string]any{"status": []string{"cannot transition via \"" + text(p, "status") + "\""}})
	}
	d.Status, d.UpdatedAt = text(p, "status"), c.s.now()
	if d.Status != "running" && d.Status != "created" {
		d.FinishedAt = ptr(c.s.now())
	}
	c.s.save()
	reply(c.w, http.StatusOK, c.s.deploymentJSON(d))
	return nil
}
