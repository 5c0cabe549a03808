package gitlabapitest

import (
	"net/http"
	"slices"
)

// approvalRule says how many approvals a project's merge requests take, and whose: anyone's where no user is named.
type approvalRule struct {
	ID       int64   `json:"id"`
	Project  int64   `json:"project"`
	Name     string  `json:"name"`
	Required int     `json:"required"`
	Users    []int64 `json:"users"`
}

func approvalEndpoints() []endpoint {
	const one = "/projects/:id/merge_requests/:merge_request"
	return []endpoint{
		{"POST", one + "/approve", false, reporter, with((*call).mergeRequest, (*call).approve)},
		{"POST", one + "/unapprove", false, reporter, with((*call).mergeRequest, (*call).unapprove)},
		{"GET", one + "/approvals", false, reporter, with((*call).mergeRequest, func(c *call, mr *mergeRequest) *failure { return c.answer(c.approvalsOf(mr)) })},
		{"GET", "/projects/:id/approval_rules", false, reporter, locked((*call).listApprovalRules)},
		{"POST", "/projects/:id/approval_rules", false, maintainer, locked((*call).createApprovalRule)},
		{"DELETE", "/projects/:id/approval_rules/:approval_rule", false, maintainer, locked((*call).deleteApprovalRule)},
	}
}

func (s *Server) approvalRules(project int64) []*approvalRule {
	if s.cfg.Free {
		return nil
	}
	return sorted(s.st.ApprovalRules, func(r *approvalRule) bool { return r.Project == project })
}

// approvalsLeft counts the approvals that a request still lacks.
func (s *Server) approvalsLeft(mr *mergeRequest) int {
	left := 0
	for _, r := range s.approvalRules(mr.Project) {
		given := 0
		for _, a := range mr.Approvals {
			if len(r.Users) == 0 || slices.Contains(r.Users, a.User) {
				given++
			}
		}
		left += max(0, r.Required-given)
	}
	return left
}

func (mr *mergeRequest) approvedBy(user int64) int {
	return slices.IndexFunc(mr.Approvals, func(a approved) bool { return a.User == user })
}

// mayApprove: a developer who has not written the request, and not approved it yet.
func (c *call) mayApprove(mr *mergeRequest) bool {
	u := c.person()
	return mr.State == "opened" && u.atLeast(developer) && u.ID != mr.Author && mr.approvedBy(u.ID) < 0
}

func (c *call) approvalsOf(mr *mergeRequest) map[string]any {
	required := 0
	for _, r := range c.s.approvalRules(mr.Project) {
		required += r.Required
	}
	by := []map[string]any{}
	for _, a := range mr.Approvals {
		by = append(by, map[string]any{"user": c.s.userJSON(c.s.user(a.User)), "approved_at": a.At})
	}
	left := c.s.approvalsLeft(mr)
	return map[string]any{"id": mr.ID, "iid": mr.IID, "project_id": mr.Project, "title": mr.Title, "description": mr.Description, "state": mr.State, "created_at": mr.CreatedAt,
		"updated_at": mr.UpdatedAt, "merge_status": mr.Status, "approved": left == 0 && (required > 0 || len(by) > 0), "approvals_required": required, "approvals_left": left,
		"approved_by": by, "suggested_approvers": []any{}, "approvers": []any{}, "approver_groups": []any{}, "user_has_approved": mr.approvedBy(c.person().ID) >= 0,
		"user_can_approve": c.mayApprove(mr), "has_approval_rules": required > 0, "approval_rules_left": []any{}, "require_password_to_approve": false}
}

func (c *call) approve(mr *mergeRequest) *failure {
	switch sha := text(c.read, "sha"); {
	case !c.mayApprove(mr):
		return fail(http.StatusUnauthorized, "401 Unauthorized")
	case sha != "" && sha != mr.SHA:
		return fail(http.StatusConflict, "SHA does not match HEAD of source branch: "+mr.SHA)
	}
	mr.Approvals = append(mr.Approvals, approved{c.person().ID, c.s.now()})
	mr.UpdatedAt = c.s.now()
	return c.made(c.approvalsOf(mr))
}

func (c *call) unapprove(mr *mergeRequest) *failure {
	at := mr.approvedBy(c.person().ID)
	if at < 0 {
		return notFound("")
	}
	mr.Approvals = slices.Delete(mr.Approvals, at, at+1)
	mr.UpdatedAt = c.s.now()
	return c.made(c.approvalsOf(mr))
}

func (s *Server) approvalRuleJSON(r *approvalRule) map[string]any {
	users := []map[string]any{}
	for _, id := range r.Users {
		users = append(users, s.userJSON(s.user(id)))
	}
	kind := "regular"
	if len(users) == 0 {
		kind = "any_approver"
	}
	return map[string]any{"id": r.ID, "name": r.Name, "rule_type": kind, "report_type": nil, "eligible_approvers": users, "approvals_required": r.Required, "users": users,
		"groups": []any{}, "contains_hidden_groups": false, "protected_branches": []any{}, "applies_to_all_protected_branches": false}
}

func (c *call) listApprovalRules() *failure {
	return list(c, c.s.approvalRules(c.project.ID), c.s.approvalRuleJSON)
}

func (c *call) createApprovalRule() *failure {
	p, f := c.body("name", "approvals_required")
	if f != nil {
		return f
	}
	r := &approvalRule{Project: c.project.ID, Name: text(p, "name"), Required: int(number(p, "approvals_required"))}
	for _, raw := range texts(p["user_ids"]) {
		who := number(map[string]any{"id": raw}, "id")
		if !c.s.known(who) {
			return notFound("User")
		}
		r.Users = append(r.Users, who)
	}
	taken := slices.ContainsFunc(c.s.approvalRules(c.project.ID), func(o *approvalRule) bool { return o.Name == r.Name })
	switch {
	case taken:
		return fail(http.StatusBadRequest, map[string][]string{"name": {"has already been taken"}})
	case r.Required < 0 || r.Required > 100:
		return fail(http.StatusBadRequest, map[string][]string{"approvals_required": {"must be less than or equal to 100"}})
	}
	r.ID = c.s.st.next("approval_rule")
	c.s.st.ApprovalRules[r.ID] = r
	return c.made(c.s.approvalRuleJSON(r))
}

func (c *call) deleteApprovalRule() *failure {
	r, f := found(c, c.s.st.ApprovalRules, "approval_rule", "Approval Rule", func(r *approvalRule) int64 { return r.Project })
	if f != nil {
		return f
	}
	delete(c.s.st.ApprovalRules, r.ID)
	return c.gone()
}
