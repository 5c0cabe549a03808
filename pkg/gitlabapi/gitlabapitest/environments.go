package gitlabapitest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// protectedEnv says who may deploy to an environment, and whose approvals that takes.
type protectedEnv struct {
	ID        int64        `json:"id"`
	Project   int64        `json:"project"`
	Name      string       `json:"name"`
	Deploy    []accessRule `json:"deploy"`
	Approvals []accessRule `json:"approvals"`
}

// approval is one person's word on a deployment, for one rule.
type approval struct {
	User      int64     `json:"user"`
	Rule      int64     `json:"rule"`
	Status    string    `json:"status"`
	Comment   string    `json:"comment"`
	CreatedAt time.Time `json:"created_at"`
}

func environmentEndpoints() []endpoint {
	const protected = "/projects/:id/protected_environments"
	return []endpoint{
		{"GET", "/projects/:id/environments", true, reporter, locked((*call).listEnvironments)},
		{"POST", "/projects/:id/environments", true, developer, locked((*call).createEnvironment)},
		{"GET", "/projects/:id/environments/:environment", true, reporter, with((*call).environment, func(c *call, e *environment) *failure { return c.answer(c.s.environmentJSON(e, true)) })},
		{"PUT", "/projects/:id/environments/:environment", true, developer, with((*call).environment, (*call).putEnvironment)},
		{"POST", "/projects/:id/environments/:environment/stop", true, developer, with((*call).environment, (*call).stopEnvironment)},
		{"DELETE", "/projects/:id/environments/:environment", true, developer, with((*call).environment, (*call).deleteEnvironment)},
		{"GET", protected, false, developer, locked((*call).listProtectedEnvs)},
		{"POST", protected, false, maintainer, locked((*call).protectEnv)},
		{"GET", protected + "/:name", false, developer, with((*call).protectedEnv, func(c *call, e *protectedEnv) *failure { return c.answer(c.s.protectedEnvJSON(e)) })},
		{"PUT", protected + "/:name", false, maintainer, with((*call).protectedEnv, (*call).putProtectedEnv)},
		{"DELETE", protected + "/:name", false, maintainer, with((*call).protectedEnv, (*call).unprotectEnv)},
	}
}

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

// basicEnvironmentJSON is an environment as part of a deployment.
func (s *Server) basicEnvironmentJSON(e *environment) map[string]any {
	return map[string]any{"id": e.ID, "name": e.Name, "slug": slug(e.Name), "external_url": e.ExternalURL, "created_at": e.CreatedAt, "updated_at": e.UpdatedAt}
}

func (s *Server) environmentJSON(e *environment, last bool) map[string]any {
	body := s.basicEnvironmentJSON(e)
	body["description"], body["tier"], body["state"], body["auto_stop_at"], body["auto_stop_setting"] = e.Description, e.Tier, e.State, e.AutoStopAt, "always"
	body["cluster_agent"], body["kubernetes_namespace"], body["flux_resource_path"] = nil, nil, nil // there are no agents here
	if last {
		all := sorted(s.st.Deployments, func(d *deployment) bool { return d.Environment == e.ID && d.Status == "success" })
		if len(all) > 0 {
			body["last_deployment"] = s.deploymentJSON(all[len(all)-1])
		}
	}
	return body
}

func (c *call) environment() (*environment, *failure) {
	return found(c, c.s.st.Environments, "environment", "Environment", func(e *environment) int64 { return e.Project })
}

func environmentTiers() []string {
	return []string{"production", "staging", "testing", "development", "other"}
}

func (c *call) listEnvironments() *failure {
	q := c.r.URL.Query()
	if s := q.Get("search"); s != "" && len(s) < 3 {
		return fail(http.StatusBadRequest, "400 Bad request - Search query is less than 3 characters")
	}
	return list(c, sorted(c.s.st.Environments, func(e *environment) bool {
		return e.Project == c.project.ID && is(q.Get("name"), e.Name) && strings.Contains(e.Name, q.Get("search")) && is(q.Get("states"), e.State)
	}), func(e *environment) map[string]any { return c.s.environmentJSON(e, false) })
}

func (c *call) createEnvironment() *failure {
	p, f := c.body("name")
	if f != nil {
		return f
	}
	if tier := text(p, "tier"); tier != "" && !slices.Contains(environmentTiers(), tier) {
		return failKey(http.StatusBadRequest, "error", "tier does not have a valid value")
	}
	if c.s.environmentNamed(c.project.ID, text(p, "name")) != nil {
		return fail(http.StatusBadRequest, map[string]any{"name": []string{"has already been taken"}})
	}
	e := c.s.environmentFor(c.project.ID, &jobEnvironment{Name: text(p, "name"), Tier: text(p, "tier")})
	e.ExternalURL, e.Description = text(p, "external_url"), text(p, "description")
	return c.made(c.s.environmentJSON(e, true))
}

func (c *call) putEnvironment(e *environment) *failure {
	if tier, ok := c.read["tier"]; ok && tier != nil && !slices.Contains(environmentTiers(), text(c.read, "tier")) {
		return failKey(http.StatusBadRequest, "error", "tier does not have a valid value")
	}
	for key, field := range map[string]*string{"external_url": &e.ExternalURL, "description": &e.Description, "tier": &e.Tier} {
		if _, ok := c.read[key]; ok {
			*field = text(c.read, key)
		}
	}
	e.UpdatedAt = c.s.now()
	return c.changed(c.s.environmentJSON(e, true))
}

func (c *call) stopEnvironment(e *environment) *failure {
	if !c.s.mayDeploy(c.project, c.person(), &jobEnvironment{Name: e.Name}) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	if truth(c.read, "force") {
		e.State, e.UpdatedAt, e.AutoStopAt = "stopped", c.s.now(), nil
	} else {
		c.s.stopOne(e, c.person().ID)
	}
	return c.changed(c.s.environmentJSON(e, false))
}

func (c *call) deleteEnvironment(e *environment) *failure {
	if e.State != "stopped" || !c.s.mayDeploy(c.project, c.person(), &jobEnvironment{Name: e.Name}) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	for n, d := range c.s.st.Deployments {
		if d.Environment == e.ID {
			delete(c.s.st.Deployments, n)
		}
	}
	delete(c.s.st.Environments, e.ID)
	return c.gone()
}

func (s *Server) protection(project int64, name string) *protectedEnv {
	for _, e := range s.st.ProtectedEnvs {
		if e.Project == project && e.Name == name && !s.cfg.Free {
			return e
		}
	}
	return nil
}

// mayDeploy says whether a member may run jobs of an environment, if there is one.
func (s *Server) mayDeploy(p *project, u user, e *jobEnvironment) bool {
	if e == nil {
		return true
	}
	guard := s.protection(p.ID, e.Name)
	return guard == nil || p.allowed(u, guard.Deploy)
}

func (s *Server) protectedEnvJSON(e *protectedEnv) map[string]any {
	rules := []map[string]any{}
	for _, r := range e.Approvals {
		body := s.ruleJSON(r)
		body["required_approvals"] = r.Required
		if r.User != 0 || r.Group != 0 {
			body["access_level"] = nil
		}
		rules = append(rules, body)
	}
	return map[string]any{"name": e.Name, "deploy_access_levels": s.rulesJSON(e.Deploy), "required_approval_count": 0, "approval_rules": rules}
}

func (c *call) protectedEnv() (*protectedEnv, *failure) {
	return orGone(c.s.protection(c.project.ID, c.r.PathValue("name")))
}

func (c *call) listProtectedEnvs() *failure {
	return list(c, sorted(c.s.st.ProtectedEnvs, func(e *protectedEnv) bool { return e.Project == c.project.ID }), c.s.protectedEnvJSON)
}

// assignEnv takes the rules of a request; approvals are one where the request does not say how many.
func (c *call) assignEnv(e *protectedEnv) *failure {
	if f := c.editRules("deploy_access_levels", &e.Deploy, developer, maintainer, adminOnly); f != nil {
		return f
	}
	if f := c.editRules("approval_rules", &e.Approvals, developer, maintainer, adminOnly); f != nil {
		return f
	}
	for n := range e.Approvals {
		e.Approvals[n].Required = max(e.Approvals[n].Required, 1)
	}
	return nil
}

func (c *call) protectEnv() *failure {
	p, f := c.body("name", "deploy_access_levels")
	if f != nil {
		return f
	}
	if c.s.protection(c.project.ID, text(p, "name")) != nil {
		return fail(http.StatusConflict, "Protected environment '"+text(p, "name")+"' already exists")
	}
	e := &protectedEnv{Project: c.project.ID, Name: text(p, "name")}
	if f = c.assignEnv(e); f != nil {
		return f
	}
	if len(e.Deploy) == 0 {
		return fail(http.StatusUnprocessableEntity, []string{"Deploy access levels can't be blank"})
	}
	e.ID = c.s.st.next("protected_environment")
	c.s.st.ProtectedEnvs[e.ID] = e
	return c.made(c.s.protectedEnvJSON(e))
}

func (c *call) putProtectedEnv(e *protectedEnv) *failure {
	next := *e
	if f := c.assignEnv(&next); f != nil {
		return f
	}
	*e = next
	return c.changed(c.s.protectedEnvJSON(e))
}

func (c *call) unprotectEnv(e *protectedEnv) *failure {
	delete(c.s.st.ProtectedEnvs, e.ID)
	return c.gone()
}

// guard is asked before a job starts. It says why the job fails ("" if it may go on), or blocks it until its
// deployment has been approved; the caller holds the lock.
func (s *Server) guard(j *job) (reason string, blocked bool) {
	p := s.st.Projects[j.Project]
	if !s.mayDeploy(p, s.in(p, s.user(j.User)), j.Definition.Environment) {
		return "protected_environment_failure", false
	}
	e := j.Definition.Environment
	if e == nil || e.Action != "start" {
		return "", false
	}
	rules := s.protection(p.ID, e.Name)
	if rules == nil || len(rules.Approvals) == 0 {
		return "", false
	}
	d := s.st.Deployments[j.Deployment]
	if d == nil {
		d = s.deploymentOf(j)
		d.Status = "blocked"
	}
	if s.pendingApprovals(d) == 0 {
		return "", false
	}
	j.Status = "manual"
	return "", true
}

// deploymentOf makes the record of what a job is about to deploy.
func (s *Server) deploymentOf(j *job) *deployment {
	pl := s.st.Pipelines[j.Pipeline]
	env := s.environmentFor(j.Project, j.Definition.Environment)
	d := &deployment{
		ID: s.st.next("deployment"), IID: s.st.next("deployment/" + id(j.Project)), Project: j.Project, Environment: env.ID, Ref: pl.Ref, Tag: pl.Tag,
		SHA: pl.SHA, Status: "created", User: j.User, Job: j.ID, CreatedAt: s.now(), UpdatedAt: s.now(),
	}
	s.st.Deployments[d.ID], j.Deployment = d, d.ID
	return d
}

// pendingApprovals counts what a deployment still lacks.
func (s *Server) pendingApprovals(d *deployment) int {
	rules := s.protection(d.Project, s.st.Environments[d.Environment].Name)
	if rules == nil {
		return 0
	}
	pending := 0
	for _, r := range rules.Approvals {
		pending += max(0, r.Required-d.approved(r.ID))
	}
	return pending
}

func (d *deployment) approved(rule int64) int {
	n := 0
	for _, a := range d.Approvals {
		if a.Rule == rule && a.Status == "approved" {
			n++
		}
	}
	return n
}
