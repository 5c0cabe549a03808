package gitlabapitest

import (
	"cmp"
	"net/http"
	"slices"
	"time"
)

func deploymentEndpoints() []endpoint {
	const one = "/projects/:id/deployments/:deployment"
	return []endpoint{
		{"GET", "/projects/:id/deployments", true, reporter, locked((*call).listDeployments)},
		{"POST", "/projects/:id/deployments", true, developer, (*call).createDeployment},
		{"GET", one, true, reporter, with((*call).deployment, func(c *call, d *deployment) *failure { return c.answer(c.s.deploymentJSON(d)) })},
		{"PUT", one, true, developer, with((*call).deployment, (*call).putDeployment)},
		{"DELETE", one, true, maintainer, with((*call).deployment, (*call).deleteDeployment)},
		{"POST", one + "/approval", true, developer, with((*call).deployment, (*call).approveDeployment)},
	}
}

func (c *call) deployment() (*deployment, *failure) {
	return found(c, c.s.st.Deployments, "deployment", "Deployment", func(d *deployment) int64 { return d.Project })
}

func (s *Server) deploymentJSON(d *deployment) map[string]any {
	body := map[string]any{"id": d.ID, "iid": d.IID, "ref": d.Ref, "sha": d.SHA, "status": d.Status, "created_at": d.CreatedAt, "updated_at": d.UpdatedAt,
		"finished_at": d.FinishedAt, "user": s.userJSON(s.user(d.User)), "deployable": nil}
	if e := s.st.Environments[d.Environment]; e != nil {
		body["environment"] = s.basicEnvironmentJSON(e)
	}
	if j := s.st.Jobs[d.Job]; j != nil {
		body["deployable"] = s.jobJSON(j)
	}
	if !s.cfg.Free {
		body["pending_approval_count"], body["approvals"], body["approval_summary"] = s.pendingApprovals(d), s.approvalsJSON(d, 0), s.approvalSummary(d)
	}
	return body
}

func (s *Server) approvalJSON(a approval) map[string]any {
	return map[string]any{"user": s.userJSON(s.user(a.User)), "status": a.Status, "created_at": a.CreatedAt, "comment": a.Comment}
}

// approvalsJSON are the approvals for one rule, or for all.
func (s *Server) approvalsJSON(d *deployment, rule int64) []map[string]any {
	out := []map[string]any{}
	for _, a := range d.Approvals {
		if rule == 0 || rule == a.Rule {
			out = append(out, s.approvalJSON(a))
		}
	}
	return out
}

func (s *Server) approvalSummary(d *deployment) map[string]any {
	rules := []map[string]any{}
	if guard := s.protection(d.Project, s.st.Environments[d.Environment].Name); guard != nil {
		for _, r := range guard.Approvals {
			body := s.ruleJSON(r)
			body["required_approvals"], body["deployment_approvals"] = r.Required, s.approvalsJSON(d, r.ID)
			rules = append(rules, body)
		}
	}
	return map[string]any{"rules": rules}
}

func (c *call) listDeployments() *failure {
	q := c.r.URL.Query()
	order := cmp.Or(q.Get("order_by"), "id")
	if (q.Get("finished_after") != "" || q.Get("finished_before") != "") && (order != "finished_at" || q.Get("status") != "success") {
		return fail(http.StatusBadRequest, "400 Bad request - `finished_at` filter requires `finished_at` sort and `success` status")
	}
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
	return list(c, all, c.s.deploymentJSON)
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
	p, f := c.body("environment", "sha", "ref", "tag", "status")
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
	if !c.s.mayDeploy(c.project, c.person(), &jobEnvironment{Name: text(p, "environment")}) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	env := c.s.environmentFor(c.project.ID, &jobEnvironment{Name: text(p, "environment")})
	d := &deployment{ID: c.s.st.next("deployment"), IID: c.s.st.next("deployment/" + id(c.project.ID)), Project: c.project.ID, Environment: env.ID,
		Ref: text(p, "ref"), Tag: truth(p, "tag"), SHA: sha, Status: text(p, "status"), User: c.person().ID, CreatedAt: c.s.now(), UpdatedAt: c.s.now()}
	if d.Status != "running" {
		d.FinishedAt = ptr(c.s.now())
	}
	c.s.st.Deployments[d.ID] = d
	return c.made(c.s.deploymentJSON(d))
}

// putDeployment changes the state of a deployment that was made over the API; a job's own follows its job.
func (c *call) putDeployment(d *deployment) *failure {
	p, f := c.body("status")
	if f != nil {
		return f
	}
	switch {
	case d.Job != 0, !c.s.mayDeploy(c.project, c.person(), &jobEnvironment{Name: c.s.st.Environments[d.Environment].Name}):
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
	return c.changed(c.s.deploymentJSON(d))
}

func (c *call) deleteDeployment(d *deployment) *failure {
	last := sorted(c.s.st.Deployments, func(o *deployment) bool { return o.Environment == d.Environment && o.Status == "success" })
	switch {
	case d.Status == "running":
		return fail(http.StatusBadRequest, "Cannot destroy running deployment")
	case len(last) > 0 && last[len(last)-1] == d:
		return fail(http.StatusBadRequest, "Deployment currently deployed to environment")
	}
	delete(c.s.st.Deployments, d.ID)
	return c.gone()
}

// approveDeployment gives a person's word for the first rule that is the person's, or for the one that is named.
// Who started the job may not approve it. The job does not start by itself afterwards.
func (c *call) approveDeployment(d *deployment) *failure {
	p, f := c.body("status")
	if f != nil {
		return f
	}
	status, u := text(p, "status"), c.person()
	guard := c.s.protection(d.Project, c.s.st.Environments[d.Environment].Name)
	var rules []accessRule
	if guard != nil {
		rules = slices.DeleteFunc(slices.Clone(guard.Approvals), func(r accessRule) bool {
			named := text(p, "represented_as")
			return !c.project.allowed(u, []accessRule{r}) || named != "" && named != c.s.ruleJSON(r)["access_level_description"]
		})
	}
	switch {
	case status != "approved" && status != "rejected":
		return failKey(http.StatusBadRequest, "error", "status does not have a valid value")
	case guard == nil || len(guard.Approvals) == 0:
		return fail(http.StatusBadRequest, "This environment is not protected.")
	case d.Status != "blocked":
		return fail(http.StatusBadRequest, "This deployment is not waiting for approvals.")
	case len(rules) == 0:
		return fail(http.StatusBadRequest, "You do not have permission to approve or reject this deployment.")
	case d.User == u.ID && !u.Admin:
		return fail(http.StatusBadRequest, "You cannot approve your own deployment.")
	}
	// A second word of the same person takes the place of the first.
	d.Approvals = slices.DeleteFunc(d.Approvals, func(a approval) bool { return a.User == u.ID })
	word := approval{User: u.ID, Rule: rules[0].ID, Status: status, Comment: text(p, "comment"), CreatedAt: c.s.now()}
	d.Approvals = append(d.Approvals, word)
	c.s.decide(d)
	return c.made(c.s.approvalJSON(word))
}

// decide ends a deployment that was rejected, and unblocks one that lacks no more approvals.
func (s *Server) decide(d *deployment) {
	d.UpdatedAt = s.now()
	j := s.st.Jobs[d.Job]
	switch {
	case slices.ContainsFunc(d.Approvals, func(a approval) bool { return a.Status == "rejected" }):
		d.Status, d.FinishedAt = "failed", ptr(s.now())
		if j != nil {
			j.Status, j.FailureReason, j.FinishedAt = "failed", "deployment_rejected", ptr(s.now())
			s.advance(s.st.Pipelines[j.Pipeline])
		}
	case s.pendingApprovals(d) == 0:
		d.Status = "created"
	}
}
