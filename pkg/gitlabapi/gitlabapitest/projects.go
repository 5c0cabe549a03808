package gitlabapitest

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// version is the GitLab whose behaviour this server has.
const version = "19.3.0"

func projectEndpoints() []endpoint {
	const scope = "/projects/:id/job_token_scope"
	return []endpoint{
		{"GET", "/version", false, reporter, (*call).version},
		{"GET", "/metadata", false, reporter, (*call).version},
		{"GET", "/user", false, reporter, (*call).currentUser},
		{"GET", "/job", true, reporter, locked((*call).ownJob)},
		{"GET", "/projects/:id", false, 0, locked((*call).getProject)},
		{"PUT", "/projects/:id", false, maintainer, locked((*call).putProject)},
		{"GET", scope, false, maintainer, (*call).getScope},
		{"PATCH", scope, false, maintainer, (*call).patchScope},
		{"GET", scope + "/allowlist", false, maintainer, locked((*call).listAllowed)},
		{"POST", scope + "/allowlist", false, maintainer, locked((*call).addAllowed)},
		{"DELETE", scope + "/allowlist/:target", false, maintainer, locked((*call).removeAllowed)},
		{"GET", scope + "/groups_allowlist", false, maintainer, locked((*call).listAllowedGroups)},
		{"POST", scope + "/groups_allowlist", false, maintainer, locked((*call).addAllowedGroup)},
		{"DELETE", scope + "/groups_allowlist/:target", false, maintainer, locked((*call).removeAllowedGroup)},
	}
}

func (c *call) version() *failure {
	reply(c.w, http.StatusOK, map[string]any{"version": version, "revision": "slipway", "enterprise": false,
		"kas": map[string]any{"enabled": false, "externalUrl": nil, "externalK8sProxyUrl": nil, "version": nil}})
	return nil
}

func (s *Server) userJSON(u user) map[string]any {
	return map[string]any{"id": u.ID, "username": u.Login, "name": u.Name, "state": "active", "locked": false, "avatar_url": nil, "web_url": s.cfg.ExternalURL + "/" + u.Login}
}

func (c *call) currentUser() *failure {
	u := *c.caller.user
	body := c.s.profileJSON(u)
	body["email"], body["is_admin"] = u.Email, u.Admin
	reply(c.w, http.StatusOK, body)
	return nil
}

func (s *Server) projectJSON(p *project) map[string]any {
	namespace, name, _ := cutLast(p.Path, "/")
	visibility := map[bool]string{true: "public", false: "private"}[p.Public]
	components := p.SubComponents
	if len(components) == 0 {
		components = []string{"project_path", "ref_type", "ref"}
	}
	return map[string]any{
		"id": p.ID, "name": name, "path": name, "description": p.Description, "path_with_namespace": p.Path, "name_with_namespace": namespace + " / " + name,
		"default_branch": p.DefaultBranch, "visibility": visibility, "created_at": p.CreatedAt,
		"web_url": s.cfg.ExternalURL + "/" + p.Path, "http_url_to_repo": s.cfg.ExternalURL + "/" + p.Path + ".git",
		"namespace":                                   map[string]any{"id": p.Group, "name": namespace, "path": namespace, "kind": "group", "full_path": namespace},
		"ci_id_token_sub_claim_components":            components,
		"ci_push_repository_for_job_token_allowed":    p.PushForJobToken,
		"ci_pipeline_variables_minimum_override_role": cmp.Or(p.VariablesRole, "developer"),
		"container_registry_image_prefix":             s.cfg.Registry + "/" + p.Path,
		"only_allow_merge_if_pipeline_succeeds":       p.GreenMerges,
		"resource_group_default_process_mode":         cmp.Or(p.GroupMode, "unordered"),
		"forked_from_project":                         s.forkedFrom(p),
	}
}

// variableRoles are the values of ci_pipeline_variables_minimum_override_role, with the access level each needs; no level is enough for the last.
func variableRoles() map[string]int {
	return map[string]int{"developer": developer, "maintainer": maintainer, "owner": 50, "no_one_allowed": 0}
}

func (s *Server) forkedFrom(p *project) any {
	if of := s.st.Projects[p.ForkedFrom]; of != nil {
		return map[string]any{"id": of.ID, "path_with_namespace": of.Path, "web_url": s.cfg.ExternalURL + "/" + of.Path}
	}
	return nil
}

func (c *call) getProject() *failure { return c.answer(c.s.projectJSON(c.project)) }

// badSubject says what is wrong with the components of a subject: they name claims, each once, and the project first.
func badSubject(components []string) string {
	seen := map[string]bool{}
	for n, name := range components {
		switch {
		case !slices.Contains(subComponents(), name):
			return "contains a claim that is not supported: " + name
		case n == 0 && !strings.Contains(name, "project_"):
			return "must begin with project_path or project_id"
		case seen[name]:
			return "has a claim twice: " + name
		}
		seen[name] = true
	}
	return ""
}

// putProject checks all that is to change before it changes any of it.
func (c *call) putProject() *failure {
	next, p := *c.project, c.read
	if raw, ok := p["ci_id_token_sub_claim_components"]; ok {
		next.SubComponents = texts(raw)
		if problem := badSubject(next.SubComponents); problem != "" {
			return fail(http.StatusBadRequest, map[string]any{"ci_id_token_sub_claim_components": []string{problem}})
		}
	}
	for key, values := range map[string][]string{"ci_pipeline_variables_minimum_override_role": keysOf(variableRoles()), "resource_group_default_process_mode": processModes()} {
		if _, ok := p[key]; ok && !slices.Contains(values, text(p, key)) {
			return failKey(http.StatusBadRequest, "error", key+" does not have a valid value")
		}
	}
	for key, field := range map[string]*string{"ci_pipeline_variables_minimum_override_role": &next.VariablesRole, "resource_group_default_process_mode": &next.GroupMode, "description": &next.Description} {
		if _, ok := p[key]; ok {
			*field = text(p, key)
		}
	}
	for key, field := range map[string]*bool{"ci_push_repository_for_job_token_allowed": &next.PushForJobToken, "only_allow_merge_if_pipeline_succeeds": &next.GreenMerges} {
		if _, ok := p[key]; ok {
			*field = truth(p, key)
		}
	}
	// Field by field: others of the project are read without the lock.
	to := c.project
	to.SubComponents, to.VariablesRole, to.GroupMode, to.Description = next.SubComponents, next.VariablesRole, next.GroupMode, next.Description
	to.PushForJobToken, to.GreenMerges = next.PushForJobToken, next.GreenMerges
	return c.changed(c.s.projectJSON(c.project))
}

func (c *call) getScope() *failure {
	reply(c.w, http.StatusOK, map[string]any{"inbound_enabled": true, "outbound_enabled": false})
	return nil
}

// patchScope refuses to switch the allow-list off: this instance enforces it, as GitLab can since 18.0.
func (c *call) patchScope() *failure {
	p, f := c.body("enabled")
	if f != nil {
		return f
	}
	if !truth(p, "enabled") {
		return fail(http.StatusBadRequest, "400 Bad request - The job token allow-list is enforced on this instance")
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) listAllowed() *failure {
	all := []*project{c.project}
	for _, id := range c.project.Allowlist {
		if p := c.s.st.Projects[id]; p != nil {
			all = append(all, p)
		}
	}
	return list(c, all, c.s.projectJSON)
}

// allowListLimit is how many projects and groups together may be on a list.
const allowListLimit = 200

func (c *call) full() bool {
	return len(c.project.Allowlist)+len(c.project.AllowedGroups) >= allowListLimit
}

func (c *call) addAllowed() *failure {
	p, f := c.body("target_project_id")
	if f != nil {
		return f
	}
	target := number(p, "target_project_id")
	switch {
	case c.s.st.Projects[target] == nil:
		return notFound("target_project_id")
	case target == c.project.ID || slices.Contains(c.project.Allowlist, target):
		return fail(http.StatusBadRequest, "400 Bad request - This project is already in the job token allowlist.")
	case c.full():
		return fail(http.StatusBadRequest, "400 Bad request - The job token allowlist is full.")
	}
	c.project.Allowlist = append(c.project.Allowlist, target)
	return c.made(map[string]any{"source_project_id": c.project.ID, "target_project_id": target})
}

// removeFrom takes the target in the path off a list.
func (c *call) removeFrom(all *[]int64, what string) *failure {
	target, err := strconv.ParseInt(c.r.PathValue("target"), 10, 64)
	if err != nil {
		return failKey(http.StatusBadRequest, "error", what+" is invalid")
	}
	at := slices.Index(*all, target)
	if at < 0 {
		return notFound(what)
	}
	*all = slices.Delete(*all, at, at+1)
	return c.gone()
}

func (c *call) removeAllowed() *failure {
	return c.removeFrom(&c.project.Allowlist, "target_project_id")
}

func (c *call) listAllowedGroups() *failure {
	return list(c, c.project.AllowedGroups, func(id int64) map[string]any {
		path := c.s.st.Groups[id].Path
		return map[string]any{"id": id, "name": path, "path": path, "full_name": path, "full_path": path, "web_url": c.s.cfg.ExternalURL + "/groups/" + path}
	})
}

func (c *call) addAllowedGroup() *failure {
	p, f := c.body("target_group_id")
	if f != nil {
		return f
	}
	target := number(p, "target_group_id")
	switch {
	case c.s.st.Groups[target] == nil:
		return notFound("target_group_id")
	case slices.Contains(c.project.AllowedGroups, target):
		return fail(http.StatusBadRequest, "400 Bad request - This group is already in the job token allowlist.")
	case c.full():
		return fail(http.StatusBadRequest, "400 Bad request - The job token allowlist is full.")
	}
	c.project.AllowedGroups = append(c.project.AllowedGroups, target)
	return c.made(map[string]any{"source_project_id": c.project.ID, "target_group_id": target})
}

func (c *call) removeAllowedGroup() *failure {
	return c.removeFrom(&c.project.AllowedGroups, "target_group_id")
}
