package gitlabapitest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

type user struct {
	User
	Admin bool
	Bot   bool
}

// GitLab's access levels.
const (
	guest      = 10
	reporter   = 20
	developer  = 30
	maintainer = 40
	owner      = 50
	adminOnly  = 60
)

func levelName(level int) string {
	switch {
	case level >= owner:
		return "owner"
	case level >= maintainer:
		return "maintainer"
	case level >= developer:
		return "developer"
	case level >= reporter:
		return "reporter"
	}
	return "guest"
}

func (u user) levelName() string {
	if u.Admin {
		return "owner"
	}
	return levelName(u.AccessLevel)
}

func (u user) atLeast(level int) bool { return u.Admin || u.AccessLevel >= level }

func (s *Server) admin() user {
	return user{User: User{ID: 1, Login: "root", Name: "Administrator", Email: "admin@" + "example.com", Token: s.cfg.AdminToken, AccessLevel: owner}, Admin: true}
}

// user finds a person or a bot; the caller holds the lock, or asks for someone that no call can remove.
func (s *Server) user(id int64) user {
	for _, u := range s.cfg.Users {
		if u.ID == id {
			return user{User: u}
		}
	}
	if b := s.st.Bots[id]; b != nil {
		return user{User: User{ID: b.ID, Login: b.Login, Name: b.Name, Email: b.Login + "@noreply.example.com"}, Bot: true}
	}
	return s.admin()
}

// known says whether a user of that id exists.
func (s *Server) known(id int64) bool { return id == s.admin().ID || s.user(id).ID == id && id != 0 }

// in returns a user with the access level that holds in a project.
func (s *Server) in(p *project, u user) user {
	if level, ok := p.Members[u.ID]; ok && !u.Admin {
		u.AccessLevel = level
	}
	return u
}

// caller is who sends a request: a person, a running job, or neither.
type caller struct {
	user  *user
	job   *job
	token *accessToken // nil for a token that may do everything its user may
}

func (c caller) anonymous() bool { return c.user == nil && c.job == nil }

func same(a, b string) bool { return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// personOf finds who a token belongs to. A token with scopes that has ended is an error of its own.
func (s *Server) personOf(token string) (caller, *failure) {
	if same(token, s.cfg.AdminToken) {
		u := s.admin()
		return caller{user: &u}, nil
	}
	for _, u := range s.cfg.Users {
		if same(token, u.Token) {
			return caller{user: &user{User: u}}, nil
		}
	}
	sum := hashToken(token)
	for _, t := range s.st.AccessTokens {
		if !same(sum, t.Hash) {
			continue
		}
		if f := s.ended(t); f != nil {
			return caller{}, f
		}
		t.LastUsedAt = ptr(s.now())
		u := s.user(t.User)
		return caller{user: &u, token: t}, nil
	}
	return caller{}, fail(http.StatusUnauthorized, "401 Unauthorized")
}

// jobOf finds the running job that a token belongs to. A token dies with its job.
func (s *Server) jobOf(token string) *job {
	if token == "" {
		return nil
	}
	sum := hashToken(token)
	for _, r := range s.running {
		if j := s.st.Jobs[r.job]; j != nil && same(sum, j.TokenHash) {
			return j
		}
	}
	return nil
}

func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// caller reads the credential of an API request. A credential that is given and is not valid is an error, as on
// GitLab, even where none would have been needed. basic says that a basic login is one as well.
func (s *Server) caller(r *http.Request, jobTokens, basic bool) (caller, *failure) {
	if name, password, given := r.BasicAuth(); basic && given {
		if name != "gitlab-ci-token" {
			return s.personOf(password)
		}
		if j := s.jobOf(password); j != nil {
			return caller{job: j}, nil
		}
		return caller{}, fail(http.StatusUnauthorized, "401 Unauthorized")
	}
	if token := r.Header.Get("JOB-TOKEN"); token != "" {
		j := s.jobOf(token)
		if j == nil {
			return caller{}, fail(http.StatusUnauthorized, "401 Unauthorized")
		}
		if !jobTokens || basic {
			return caller{}, nil // GitLab does not look at a job token on routes that do not take one
		}
		return caller{job: j}, nil
	}
	token := r.Header.Get("PRIVATE-TOKEN")
	if token == "" {
		token, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	if token == "" {
		token = r.URL.Query().Get("private_token")
	}
	if token == "" {
		return caller{}, nil
	}
	if j := s.jobOf(token); j != nil && jobTokens {
		return caller{job: j}, nil
	}
	return s.personOf(token)
}

// enter decides whether the caller may see the project at all: a member may, a job by the project's allow-list,
// anyone if it is public. A private project does not exist for those who may not see it.
func (s *Server) enter(c caller, p *project) *failure {
	switch {
	case c.job == nil && (p.Public || c.user != nil && s.in(p, *c.user).atLeast(guest)):
		return nil
	case c.job == nil:
		return notFound("Project")
	case !s.lets(p, c.job):
		return fail(http.StatusForbidden, fmt.Sprintf("403 Forbidden - Authentication by CI/CD job token not allowed from %s to %s.",
			s.st.Projects[c.job.Project].Path, p.Path))
	case !p.Public && !s.in(p, s.user(c.job.User)).atLeast(guest):
		return notFound("Project") // a job token may no more than who started the job
	}
	return nil
}

// lets says whether a project lets the token of a job in: by itself, by its allow-list of projects or of groups.
func (s *Server) lets(p *project, j *job) bool {
	if p.Public || j.Project == p.ID || slices.Contains(p.Allowlist, j.Project) {
		return true
	}
	from := s.st.Projects[j.Project].Path
	return slices.ContainsFunc(p.AllowedGroups, func(id int64) bool {
		g := s.st.Groups[id]
		return g != nil && strings.HasPrefix(from, g.Path+"/")
	})
}

// person is who a request counts as: a job acts with the rights of the user who started it. In a project, it has
// the access level that holds there.
func (c *call) person() user {
	var u user
	switch {
	case c.caller.user != nil:
		u = *c.caller.user
	case c.caller.job != nil:
		u = c.s.user(c.caller.job.User)
	}
	if c.project != nil {
		u = c.s.in(c.project, u)
	}
	return u
}
