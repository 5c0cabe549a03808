package gitlabapitest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// version is the GitLab whose behaviour this server has.
const version = "19.3.0"

func (c *call) version() *failure {
	reply(c.w, http.StatusOK, map[string]any{"version": version, "revision": "slipway", "enterprise": false,
		"kas": map[string]any{"enabled": false, "externalUrl": nil, "externalK8sProxyUrl": nil, "version": nil}})
	return nil
}

func (s *Server) userJSON(u user) map[string]any {
	return map[string]any{"id": u.ID, "username": u.Login, "name": u.Name, "state": "active", "web_url": s.cfg.ExternalURL + "/" + u.Login}
}

func (c *call) currentUser() *failure {
	u := *c.caller.user
	body := c.s.userJSON(u)
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
		"namespace":                                   map[string]any{"id": 3, "name": namespace, "path": namespace, "kind": "group", "full_path": namespace},
		"ci_id_token_sub_claim_components":            components,
		"ci_push_repository_for_job_token_allowed":    p.PushForJobToken,
		"ci_pipeline_variables_minimum_override_role": cmp.Or(p.VariablesRole, "developer"),
		"container_registry_image_prefix":             s.cfg.Registry + "/" + p.Path,
	}
}

// variableRoles are the values of ci_pipeline_variables_minimum_override_role, with the access level each needs; no level is enough for the last.
func variableRoles() map[string]int {
	return map[string]int{"developer": developer, "maintainer": maintainer, "owner": 50, "no_one_allowed": 0}
}

func (c *call) getProject() *failure {
	c.s.mu.Lock()
	body := c.s.projectJSON(c.project)
	c.s.mu.Unlock()
	reply(c.w, http.StatusOK, body)
	return nil
}

func (c *call) putProject() *failure {
	p, f := c.params()
	if f != nil {
		return f
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if raw, ok := p["ci_id_token_sub_claim_components"]; ok {
		components := texts(raw)
		for _, name := range components {
			if !slices.Contains(subComponents(), name) {
				return fail(http.StatusBadRequest, map[string]any{"ci_id_token_sub_claim_components": []string{"contains a claim that is not supported: " + name}})
			}
		}
		c.project.SubComponents = components
	}
	if _, ok := p["ci_push_repository_for_job_token_allowed"]; ok {
		c.project.PushForJobToken = truth(p, "ci_push_repository_for_job_token_allowed")
	}
	if _, ok := p["ci_pipeline_variables_minimum_override_role"]; ok {
		role := text(p, "ci_pipeline_variables_minimum_override_role")
		if _, known := variableRoles()[role]; !known {
			return fail(http.StatusBadRequest, map[string]string{"error": "ci_pipeline_variables_minimum_override_role does not have a valid value"})
		}
		c.project.VariablesRole = role
	}
	if _, ok := p["description"]; ok {
		c.project.Description = text(p, "description")
	}
	c.s.save()
	reply(c.w, http.StatusOK, c.s.projectJSON(c.project))
	return nil
}

func (c *call) getScope() *failure {
	reply(c.w, http.StatusOK, map[string]any{"inbound_enabled": true, "outbound_enabled": false})
	return nil
}

// patchScope refuses to switch the allow-list off: this instance enforces it, as GitLab can since 18.0.
func (c *call) patchScope() *failure {
	p, f := c.params()
	if f == nil {
		f = missing(p, "enabled")
	}
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
	c.s.mu.Lock()
	list := []map[string]any{}
	for _, id := range append([]int64{c.project.ID}, c.project.Allowlist...) {
		if p := c.s.st.Projects[id]; p != nil {
			list = append(list, c.s.projectJSON(p))
		}
	}
	c.s.mu.Unlock()
	reply(c.w, http.StatusOK, page(c.w, c.r, list))
	return nil
}

func (c *call) addAllowed() *failure {
	p, f := c.params()
	if f == nil {
		f = missing(p, "target_project_id")
	}
	if f != nil {
		return f
	}
	target := number(p, "target_project_id")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	switch {
	case c.s.st.Projects[target] == nil:
		return notFound("target_project_id")
	case target == c.project.ID || slices.Contains(c.project.Allowlist, target):
		return fail(http.StatusBadRequest, "400 Bad request - This project is already in the job token allowlist.")
	case len(c.project.Allowlist) >= 200:
		return fail(http.StatusBadRequest, "400 Bad request - The job token allowlist is full.")
	}
	c.project.Allowlist = append(c.project.Allowlist, target)
	c.s.save()
	reply(c.w, http.StatusCreated, map[string]any{"source_project_id": c.project.ID, "target_project_id": target})
	return nil
}

func (c *call) removeAllowed() *failure {
	target, err := strconv.ParseInt(c.r.PathValue("target"), 10, 64)
	if err != nil {
		return failKey(http.StatusBadRequest, "error", "target_project_id is invalid")
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	at := slices.Index(c.project.Allowlist, target)
	if at < 0 {
		return fail(http.StatusNotFound, fmt.Sprintf("404 %s Not Found", "target_project_id"))
	}
	c.project.Allowlist = slices.Delete(c.project.Allowlist, at, at+1)
	c.s.save()
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
