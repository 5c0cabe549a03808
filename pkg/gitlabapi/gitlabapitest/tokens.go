package gitlabapitest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// accessToken is a token with scopes and an end: a person's, or a project's, which acts as a bot. A token of the
// configuration (User.Token) is none of these: it has the scope api and does not end.
type accessToken struct {
	ID         int64      `json:"id"`
	Name       string     `json:"name"`
	Hash       string     `json:"hash"`
	User       int64      `json:"user"`
	Project    int64      `json:"project,omitempty"` // 0 for a person's
	Level      int        `json:"level,omitempty"`
	Scopes     []string   `json:"scopes"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  string     `json:"expires_at"` // a day: the token is dead from its beginning on
	Revoked    bool       `json:"revoked"`
	LastUsedAt *time.Time `json:"last_used_at"`
}

// bot is the user that a project's access token acts as.
type bot struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
	Name  string `json:"name"`
}

func tokenEndpoints() []endpoint {
	return []endpoint{
		{"POST", "/users/:user/personal_access_tokens", false, adminOnly, locked((*call).createPersonalToken)},
		{"GET", "/personal_access_tokens/self", false, guest, locked((*call).ownToken)},
		{"DELETE", "/personal_access_tokens/self", false, guest, locked((*call).revokeOwnToken)},
		{"GET", "/projects/:id/access_tokens", false, maintainer, locked((*call).listProjectTokens)},
		{"POST", "/projects/:id/access_tokens", false, maintainer, locked((*call).createProjectToken)},
		{"GET", "/projects/:id/access_tokens/:token", false, maintainer, locked((*call).getProjectToken)},
		{"DELETE", "/projects/:id/access_tokens/:token", false, maintainer, locked((*call).revokeProjectToken)},
	}
}

func (s *Server) ended(t *accessToken) *failure {
	why := ""
	switch {
	case t.Revoked:
		why = "Token was revoked. You have to re-authorize from the user."
	case t.ExpiresAt != "" && s.now().Format(time.DateOnly) >= t.ExpiresAt:
		why = "Token is expired. You can either do re-authorization or token refresh."
	default:
		return nil
	}
	return &failure{http.StatusUnauthorized, map[string]any{"error": "invalid_token", "error_description": why}}
}

// within says whether the token's scopes reach the endpoint: api all, read_api what only reads, read_repository the
// files of a repository. write_repository is for git alone.
func (t *accessToken) within(e endpoint) *failure {
	needed := []string{"api"}
	if e.method == http.MethodGet {
		needed = append(needed, "read_api")
		if strings.Contains(e.path, "/repository/files/") {
			needed = append(needed, "read_repository")
		}
	}
	if e.path == "/user" && e.method == http.MethodGet {
		needed = append(needed, "read_user")
	}
	if t == nil || e.path == "/personal_access_tokens/self" || slices.ContainsFunc(needed, func(s string) bool { return slices.Contains(t.Scopes, s) }) {
		return nil
	}
	return &failure{http.StatusForbidden, map[string]any{"error": "insufficient_scope",
		"error_description": "The request requires higher privileges than provided by the access token.", "scope": strings.Join(needed, " ")}}
}

// mayGit says whether the token's scopes reach a repository over git.
func (t *accessToken) mayGit(write bool) bool {
	return t == nil || slices.Contains(t.Scopes, "write_repository") || !write && slices.Contains(t.Scopes, "read_repository")
}

func scopes() []string {
	return []string{"api", "read_api", "read_user", "read_repository", "write_repository", "read_registry", "write_registry", "create_runner", "manage_runner", "ai_features", "k8s_proxy", "self_rotate"}
}

func (s *Server) tokenJSON(t *accessToken) map[string]any {
	body := map[string]any{"id": t.ID, "name": t.Name, "description": nil, "revoked": t.Revoked, "created_at": t.CreatedAt, "scopes": t.Scopes,
		"user_id": t.User, "last_used_at": t.LastUsedAt, "active": s.ended(t) == nil, "expires_at": t.ExpiresAt}
	if t.Project != 0 {
		body["access_level"] = t.Level
	}
	return body
}

// newToken checks what both kinds of token have, and makes one. Its value is told once, in the answer.
func (c *call) newToken(p map[string]any, prefix string) (*accessToken, string, *failure) {
	t := &accessToken{Name: text(p, "name"), Scopes: texts(p["scopes"]), ExpiresAt: text(p, "expires_at"), CreatedAt: c.s.now()}
	now := c.s.now()
	if t.ExpiresAt == "" {
		t.ExpiresAt = now.AddDate(1, 0, 0).Format(time.DateOnly)
	}
	day, err := time.Parse(time.DateOnly, t.ExpiresAt)
	switch {
	case err != nil:
		return nil, "", failKey(http.StatusBadRequest, "error", "expires_at is invalid")
	case len(t.Scopes) == 0:
		return nil, "", fail(http.StatusBadRequest, "400 Bad request - Scopes can't be blank")
	case !day.After(now):
		return nil, "", fail(http.StatusBadRequest, "400 Bad request - Expiration date must be in the future")
	case day.After(now.AddDate(0, 0, 400)):
		return nil, "", fail(http.StatusBadRequest, "400 Bad request - Expiration date must be before "+now.AddDate(0, 0, 400).Format(time.DateOnly))
	}
	for _, one := range t.Scopes {
		if !slices.Contains(scopes(), one) {
			return nil, "", failKey(http.StatusBadRequest, "error", "scopes does not have a valid value")
		}
	}
	value := prefix + randomHex(12)
	t.ID, t.Hash = c.s.st.next("access_token"), hashToken(value)
	return t, value, nil
}

func (c *call) createPersonalToken() *failure {
	p, f := c.body("name", "scopes")
	if f != nil {
		return f
	}
	who, f := c.idOf("user")
	if f != nil {
		return f
	}
	if !c.s.known(who) {
		return notFound("User")
	}
	t, value, f := c.newToken(p, "glpat-")
	if f != nil {
		return f
	}
	t.User = who
	return c.keepToken(t, value)
}

func (c *call) keepToken(t *accessToken, value string) *failure {
	c.s.st.AccessTokens[t.ID] = t
	body := c.s.tokenJSON(t)
	body["token"] = value
	return c.made(body)
}

func (c *call) createProjectToken() *failure {
	p, f := c.body("name", "scopes")
	if f != nil {
		return f
	}
	level := int(number(p, "access_level"))
	if level == 0 {
		level = maintainer
	}
	if !slices.Contains([]int{guest, 15, reporter, developer, maintainer, owner}, level) {
		return failKey(http.StatusBadRequest, "error", "access_level does not have a valid value")
	}
	if !c.person().atLeast(level) {
		return fail(http.StatusBadRequest, "400 Bad request - Could not provision "+levelName(level)+" access to project access token")
	}
	t, value, f := c.newToken(p, "glpat-")
	if f != nil {
		return f
	}
	b := &bot{ID: 1_000_000 + t.ID, Login: "project_" + id(c.project.ID) + "_bot_" + randomHex(16), Name: t.Name}
	c.s.st.Bots[b.ID] = b
	c.project.Members[b.ID] = level
	t.User, t.Project, t.Level = b.ID, c.project.ID, level
	return c.keepToken(t, value)
}

func (c *call) ownToken() *failure {
	if c.caller.token == nil {
		u := c.caller.user
		return c.answer(map[string]any{"id": 0, "name": "token of the configuration", "revoked": false, "created_at": c.s.st.CreatedAt, "scopes": []string{"api"},
			"user_id": u.ID, "last_used_at": nil, "active": true, "expires_at": nil})
	}
	return c.answer(c.s.tokenJSON(c.caller.token))
}

func (c *call) revokeOwnToken() *failure {
	if c.caller.token == nil {
		return fail(http.StatusBadRequest, "400 Bad request - a token of the configuration cannot be revoked")
	}
	c.caller.token.Revoked = true
	return c.gone()
}

func (c *call) projectToken() (*accessToken, *failure) {
	return found(c, c.s.st.AccessTokens, "token", "Could not find project access token with token_id: "+c.r.PathValue("token"), func(t *accessToken) int64 { return t.Project })
}

func (c *call) getProjectToken() *failure {
	t, f := c.projectToken()
	if f != nil {
		return f
	}
	return c.answer(c.s.tokenJSON(t))
}

func (c *call) listProjectTokens() *failure {
	return list(c, sorted(c.s.st.AccessTokens, func(t *accessToken) bool { return t.Project == c.project.ID }), c.s.tokenJSON)
}

func (c *call) revokeProjectToken() *failure {
	t, f := c.projectToken()
	if f != nil {
		return f
	}
	t.Revoked = true
	delete(c.project.Members, t.User)
	return c.gone()
}

func memberEndpoints() []endpoint {
	return []endpoint{
		{"GET", "/projects/:id/members", false, guest, locked((*call).listMembers)},
		{"GET", "/projects/:id/members/all", false, guest, locked((*call).listAllMembers)},
		{"GET", "/projects/:id/members/:user", false, guest, locked((*call).getMember)},
		{"GET", "/projects/:id/members/all/:user", false, guest, locked((*call).getMember)},
		{"POST", "/projects/:id/members", false, maintainer, locked((*call).addMember)},
		{"PUT", "/projects/:id/members/:user", false, maintainer, locked((*call).editMember)},
		{"DELETE", "/projects/:id/members/:user", false, maintainer, locked((*call).removeMember)},
	}
}

func (s *Server) memberJSON(p *project) func(int64) map[string]any {
	return func(id int64) map[string]any {
		u := s.in(p, s.user(id))
		body := s.userJSON(u)
		body["access_level"], body["expires_at"], body["created_at"] = u.AccessLevel, nil, p.CreatedAt
		return body
	}
}

func (c *call) listMembers() *failure {
	ids := slices.Sorted(maps.Keys(c.project.Members))
	return list(c, slices.DeleteFunc(ids, func(id int64) bool { return c.project.Members[id] < guest }), c.s.memberJSON(c.project))
}

func (c *call) listAllMembers() *failure {
	ids := slices.Collect(maps.Keys(c.project.Members))
	for _, u := range append(slices.Clone(c.s.cfg.Users), c.s.admin().User) {
		ids = append(ids, u.ID)
	}
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id int64) bool { return !c.s.in(c.project, c.s.user(id)).atLeast(guest) })
	return list(c, ids, c.s.memberJSON(c.project))
}

// memberID is the member in the path. Whose level is that of the whole instance is an inherited one, which only
// /all shows.
func (c *call) memberID() (int64, *failure) {
	n, f := c.idOf("user")
	if f != nil {
		return 0, f
	}
	level, direct := c.project.Members[n]
	inherited := strings.Contains(c.r.URL.Path, "/members/all/") && c.s.known(n) && c.s.in(c.project, c.s.user(n)).atLeast(guest)
	if direct && level >= guest || inherited {
		return n, nil
	}
	return 0, fail(http.StatusNotFound, "404 Not found")
}

func (c *call) getMember() *failure {
	n, f := c.memberID()
	if f != nil {
		return f
	}
	return c.answer(c.s.memberJSON(c.project)(n))
}

// setMember gives somebody a level, which may not be above the giver's own.
func (c *call) setMember(who int64, p map[string]any) *failure {
	level := int(number(p, "access_level"))
	switch {
	case !slices.Contains([]int{guest, 15, reporter, developer, maintainer, owner}, level):
		return failKey(http.StatusBadRequest, "error", "access_level does not have a valid value")
	case !c.person().atLeast(level):
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	c.project.Members[who] = level
	return nil
}

func (c *call) addMember() *failure {
	p, f := c.body("access_level")
	if f != nil {
		return f
	}
	who := number(p, "user_id")
	switch {
	case who == 0:
		return failKey(http.StatusBadRequest, "error", "user_id, username are missing, exactly one parameter must be provided")
	case !c.s.known(who):
		return notFound("User")
	case c.project.Members[who] >= guest:
		return fail(http.StatusConflict, "Member already exists")
	}
	if f := c.setMember(who, p); f != nil {
		return f
	}
	return c.made(c.s.memberJSON(c.project)(who))
}

func (c *call) editMember() *failure {
	p, f := c.body("access_level")
	if f != nil {
		return f
	}
	who, f := c.memberID()
	if f == nil {
		f = c.setMember(who, p)
	}
	if f != nil {
		return f
	}
	return c.changed(c.s.memberJSON(c.project)(who))
}

func (c *call) removeMember() *failure {
	who, f := c.memberID()
	if f != nil {
		return f
	}
	delete(c.project.Members, who)
	return c.gone()
}
