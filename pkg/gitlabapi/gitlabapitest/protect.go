package gitlabapitest

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// accessRule is one entry of who may do something protected: a role (60: administrators, 0 without anyone named:
// nobody), a user or a group.
type accessRule struct {
	ID       int64 `json:"id"`
	Level    int   `json:"level,omitempty"`
	User     int64 `json:"user,omitempty"`
	Group    int64 `json:"group,omitempty"`
	Required int   `json:"required,omitempty"` // approvals, in an approval rule
	Inherit  int   `json:"inherit,omitempty"`
}

// protectedRef protects the branches or tags of a name or pattern. Push is who may create a tag, too.
type protectedRef struct {
	ID             int64        `json:"id"`
	Name           string       `json:"name"`
	Tag            bool         `json:"tag"`
	Push           []accessRule `json:"push"`
	Merge          []accessRule `json:"merge"`
	AllowForcePush bool         `json:"allow_force_push"`
}

func protectionEndpoints() []endpoint {
	all := []endpoint{
		{"PATCH", "/projects/:id/protected_branches/:name", false, maintainer, locked((*call).editProtectedBranch)},
	}
	for kind, tag := range map[string]bool{"branches": false, "tags": true} {
		path := "/projects/:id/protected_" + kind
		all = append(all,
			endpoint{"GET", path, false, maintainer, locked(func(c *call) *failure { return c.listProtected(tag) })},
			endpoint{"POST", path, false, maintainer, locked(func(c *call) *failure { return c.protect(tag) })},
			endpoint{"GET", path + "/:name", false, maintainer, locked(func(c *call) *failure { return c.getProtected(tag) })},
			endpoint{"DELETE", path + "/:name", false, maintainer, locked(func(c *call) *failure { return c.unprotect(tag) })})
	}
	return all
}

// wildcard says whether a name is of a pattern, in which * stands for anything.
func wildcard(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return name == pattern
	}
	rest, ok := strings.CutPrefix(name, parts[0])
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		rest, ok = after, ok && found
	}
	return ok && strings.HasSuffix(rest, last)
}

// protections are those of the project that a ref is under.
func (p *project) protections(ref string, tag bool) []*protectedRef {
	return slices.DeleteFunc(slices.Clone(p.Protections), func(one *protectedRef) bool { return one.Tag != tag || !wildcard(one.Name, ref) })
}

func (p *project) protects(ref string, tag bool) bool { return len(p.protections(ref, tag)) > 0 }

// runsProtected says whether a pipeline counts as one of a protected ref. A merge request's does where both of its
// branches are protected, and never where its source is a fork: whatever the fork calls its branch.
func (p *project) runsProtected(pl *pipeline) bool {
	if pl.MergeRequest != 0 {
		return !pl.Fork && p.protects(pl.Ref, false) && p.protects(pl.TargetRef, false)
	}
	return p.protects(pl.Ref, pl.Tag)
}

func (p *project) allowed(u user, rules []accessRule) bool {
	return slices.ContainsFunc(rules, func(r accessRule) bool {
		switch {
		case r.User != 0:
			return r.User == u.ID && u.atLeast(developer)
		case r.Group != 0:
			return r.Group == p.Group && u.atLeast(guest)
		case r.Level == 0:
			return false
		}
		return u.Admin || r.Level < adminOnly && u.atLeast(r.Level)
	})
}

// mayPush says whether a member may write to a ref; u has the level that holds in the project. Of several
// protections, the one that lets more is the one that counts.
func (p *project) mayPush(u user, ref string, tag bool) bool {
	all := p.protections(ref, tag)
	return u.atLeast(developer) && (len(all) == 0 || slices.ContainsFunc(all, func(one *protectedRef) bool { return p.allowed(u, one.Push) }))
}

func (p *project) mayMerge(u user, branch string) bool {
	all := p.protections(branch, false)
	return u.atLeast(developer) && (len(all) == 0 || slices.ContainsFunc(all, func(one *protectedRef) bool { return p.allowed(u, one.Merge) }))
}

// mayUpdate says whether a member may run pipelines on a ref.
func (p *project) mayUpdate(u user, ref string, tag bool) bool {
	return p.mayPush(u, ref, tag) || !tag && p.mayMerge(u, ref)
}

// pushRules tells the pre-receive hook which protected refs u may write to, and rewrite.
func (p *project) pushRules(u user) []string {
	var all, open, rewritable []string
	for _, one := range p.Protections {
		ref := "refs/heads/" + one.Name
		if one.Tag {
			ref = "refs/tags/" + one.Name
		}
		all = append(all, ref)
		if u.atLeast(developer) && p.allowed(u, one.Push) {
			open = append(open, ref)
			if one.AllowForcePush {
				rewritable = append(rewritable, ref)
			}
		}
	}
	return []string{"SLIPWAY_PROTECTED_REFS=" + strings.Join(all, " "), "SLIPWAY_OPEN_REFS=" + strings.Join(open, " "), "SLIPWAY_REWRITABLE_REFS=" + strings.Join(rewritable, " ")}
}

// configured are the protections that a project of the configuration begins with: maintainers alone.
func (s *Server) configured(p Project) []*protectedRef {
	all := []*protectedRef{}
	for _, name := range p.ProtectedBranches {
		all = append(all, &protectedRef{ID: s.st.next("protection"), Name: name, Push: s.roles(maintainer), Merge: s.roles(maintainer), AllowForcePush: p.AllowForcePush})
	}
	for _, name := range p.ProtectedTags {
		all = append(all, &protectedRef{ID: s.st.next("protection"), Name: name, Tag: true, Push: s.roles(maintainer)})
	}
	return all
}

func (s *Server) roles(levels ...int) []accessRule {
	var rules []accessRule
	for _, level := range levels {
		rules = append(rules, accessRule{ID: s.st.next("access_rule"), Level: level})
	}
	return rules
}

func (s *Server) ruleJSON(r accessRule) map[string]any {
	body := map[string]any{"id": r.ID, "access_level": r.Level, "access_level_description": "", "user_id": nil, "group_id": nil, "group_inheritance_type": r.Inherit}
	switch {
	case r.User != 0:
		body["user_id"], body["access_level"], body["access_level_description"] = r.User, maintainer, s.user(r.User).Name
	case r.Group != 0:
		body["group_id"], body["access_level"] = r.Group, maintainer
		if g := s.st.Groups[r.Group]; g != nil {
			body["access_level_description"] = g.Path
		}
	default:
		body["access_level_description"] = map[int]string{0: "No one", developer: "Developers + Maintainers", maintainer: "Maintainers", adminOnly: "Admins"}[r.Level]
	}
	return body
}

func (s *Server) rulesJSON(rules []accessRule) []map[string]any {
	out := []map[string]any{}
	for _, r := range rules {
		out = append(out, s.ruleJSON(r))
	}
	return out
}

func (s *Server) protectedJSON(one *protectedRef) map[string]any {
	if one.Tag {
		return map[string]any{"name": one.Name, "create_access_levels": s.rulesJSON(one.Push)}
	}
	return map[string]any{"id": one.ID, "name": one.Name, "push_access_levels": s.rulesJSON(one.Push), "merge_access_levels": s.rulesJSON(one.Merge),
		"unprotect_access_levels": []any{}, "allow_force_push": one.AllowForcePush, "code_owner_approval_required": false, "inherited": false}
}

// rule reads one entry of allowed_to_push and its like. valid are the roles that may be named.
func (c *call) rule(raw any, valid ...int) (accessRule, *failure) {
	m := mapOf(raw)
	r := accessRule{User: number(m, "user_id"), Group: number(m, "group_id"), Level: int(number(m, "access_level")), Required: int(number(m, "required_approvals")), Inherit: int(number(m, "group_inheritance_type"))}
	switch {
	case r.User != 0 && (!c.s.known(r.User) || !c.s.in(c.project, c.s.user(r.User)).atLeast(guest)):
		return r, fail(http.StatusUnprocessableEntity, []string{"User is not a member of the project"})
	case r.Group != 0 && r.Group != c.project.Group:
		return r, fail(http.StatusUnprocessableEntity, []string{"Group must have access to the project"})
	case r.User == 0 && r.Group == 0 && !slices.Contains(valid, r.Level):
		return r, failKey(http.StatusBadRequest, "error", "access_level does not have a valid value")
	}
	r.ID = c.s.st.next("access_rule")
	return r, nil
}

// levels reads who may do something from the role of one parameter and the list of another, which only a paid
// GitLab looks at.
func (c *call) levels(role, more string) ([]accessRule, *failure) {
	valid := []int{0, developer, maintainer, adminOnly}
	var rules []accessRule
	if _, given := c.read[role]; given {
		r, f := c.rule(map[string]any{"access_level": c.read[role]}, valid...)
		if f != nil {
			return nil, failKey(http.StatusBadRequest, "error", role+" does not have a valid value")
		}
		rules = append(rules, r)
	}
	if extra, ok := c.read[more].([]any); ok && !c.s.cfg.Free {
		for _, raw := range extra {
			r, f := c.rule(raw, valid...)
			if f != nil {
				return nil, f
			}
			rules = append(rules, r)
		}
	}
	if rules == nil {
		rules = c.s.roles(maintainer)
	}
	return rules, nil
}

func (c *call) protected(tag bool) (*protectedRef, int, *failure) {
	at := slices.IndexFunc(c.project.Protections, func(one *protectedRef) bool { return one.Tag == tag && one.Name == c.r.PathValue("name") })
	if at < 0 {
		return nil, 0, notFound("")
	}
	return c.project.Protections[at], at, nil
}

func (c *call) listProtected(tag bool) *failure {
	search := c.r.URL.Query().Get("search")
	return list(c, slices.DeleteFunc(slices.Clone(c.project.Protections), func(one *protectedRef) bool { return one.Tag != tag || !strings.Contains(one.Name, search) }), c.s.protectedJSON)
}

func (c *call) getProtected(tag bool) *failure {
	one, _, f := c.protected(tag)
	if f != nil {
		return f
	}
	return c.answer(c.s.protectedJSON(one))
}

func (c *call) protect(tag bool) *failure {
	p, f := c.body("name")
	if f != nil {
		return f
	}
	one := &protectedRef{Name: text(p, "name"), Tag: tag, AllowForcePush: truth(p, "allow_force_push")}
	if one.Name == "" || !utf8.ValidString(one.Name) {
		return failKey(http.StatusBadRequest, "error", "name does not have a valid value")
	}
	kind := map[bool]string{false: "branch", true: "tag"}[tag]
	if slices.ContainsFunc(c.project.Protections, func(other *protectedRef) bool { return other.Tag == tag && other.Name == one.Name }) {
		return fail(http.StatusConflict, "Protected "+kind+" '"+one.Name+"' already exists")
	}
	if tag {
		one.Push, f = c.levels("create_access_level", "allowed_to_create")
	} else if one.Push, f = c.levels("push_access_level", "allowed_to_push"); f == nil {
		one.Merge, f = c.levels("merge_access_level", "allowed_to_merge")
	}
	if f != nil {
		return f
	}
	one.ID = c.s.st.next("protection")
	c.project.Protections = append(slices.Clone(c.project.Protections), one)
	return c.made(c.s.protectedJSON(one))
}

func (c *call) editProtectedBranch() *failure {
	old, at, f := c.protected(false)
	if f != nil {
		return f
	}
	one := ptr(*old)
	if _, ok := c.read["allow_force_push"]; ok {
		one.AllowForcePush = truth(c.read, "allow_force_push")
	}
	for key, rules := range map[string]*[]accessRule{"allowed_to_push": &one.Push, "allowed_to_merge": &one.Merge} {
		if c.s.cfg.Free {
			break
		}
		if f := c.editRules(key, rules, 0, developer, maintainer, adminOnly); f != nil {
			return f
		}
	}
	c.project.Protections = slices.Clone(c.project.Protections) // a job that begins may be reading the old ones
	c.project.Protections[at] = one
	return c.changed(c.s.protectedJSON(one))
}

// editRules takes a list as an update has it: entries with an id change or, with _destroy, go; others are added.
func (c *call) editRules(key string, rules *[]accessRule, valid ...int) *failure {
	given, _ := c.read[key].([]any)
	out := slices.Clone(*rules)
	for _, raw := range given {
		m := mapOf(raw)
		at := slices.IndexFunc(out, func(r accessRule) bool { return r.ID == number(m, "id") })
		switch known := number(m, "id") != 0; {
		case known && at < 0:
			return notFound("")
		case known && truth(m, "_destroy"):
			out = slices.Delete(out, at, at+1)
			continue
		case known && len(m) > 1 && m["user_id"] == nil && m["group_id"] == nil && m["access_level"] == nil:
			out[at].Required = int(number(m, "required_approvals"))
			continue
		}
		r, f := c.rule(raw, valid...)
		if f != nil {
			return f
		}
		if at >= 0 && number(m, "id") != 0 {
			r.ID = out[at].ID
			out[at] = r
		} else {
			out = append(out, r)
		}
	}
	*rules = out
	return nil
}

func (c *call) unprotect(tag bool) *failure {
	_, at, f := c.protected(tag)
	if f != nil {
		return f
	}
	c.project.Protections = slices.Delete(slices.Clone(c.project.Protections), at, at+1)
	return c.gone()
}
