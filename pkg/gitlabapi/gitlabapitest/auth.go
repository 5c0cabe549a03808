package gitlabapitest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
)

type user struct {
	User
	Admin bool
}

func (u user) levelName() string {
	switch {
	case u.Admin || u.AccessLevel >= 50:
		return "owner"
	case u.AccessLevel >= 40:
		return "maintainer"
	case u.AccessLevel >= 30:
		return "developer"
	}
	return "reporter"
}

func (u user) atLeast(level int) bool { return u.Admin || u.AccessLevel >= level }

const (
	reporter   = 20
	developer  = 30
	maintainer = 40
)

func (s *Server) admin() user {
	return user{User: User{ID: 1, Login: "root", Name: "Administrator", Email: "admin@" + "example.com", Token: s.cfg.AdminToken, AccessLevel: 50}, Admin: true}
}

func (s *Server) user(id int64) user {
	for _, u := range s.cfg.Users {
		if u.ID == id {
			return user{User: u}
		}
	}
	return s.admin()
}

// caller is who sends a request: a person, a running job, or neither.
type caller struct {
	user *user
	job  *job
}

func (c caller) anonymous() bool { return c.user == nil && c.job == nil }

func same(a, b string) bool { return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (s *Server) personOf(token string) *user {
	if same(token, s.cfg.AdminToken) {
		u := s.admin()
		return &u
	}
	for _, u := range s.cfg.Users {
		if same(token, u.Token) {
			return &user{User: u}
		}
	}
	return nil
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
// GitLab, even where none would have been needed.
func (s *Server) caller(r *http.Request, jobTokens bool) (caller, *failure) {
	if token := r.Header.Get("JOB-TOKEN"); token != "" {
		j := s.jobOf(token)
		if j == nil {
			return caller{}, fail(http.StatusUnauthorized, "401 Unauthorized")
		}
		if !jobTokens {
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
	u := s.personOf(token)
	if u == nil {
		if j := s.jobOf(token); j != nil && jobTokens {
			return caller{job: j}, nil
		}
		return caller{}, fail(http.StatusUnauthorized, "401 Unauthorized")
	}
	return caller{user: u}, nil
}

// enter decides whether the caller may see the project at all: a person may, a job by the project's allow-list,
// anyone if it is public. A private project does not exist for those who may not see it.
func (s *Server) enter(c caller, p *project) *failure {
	switch {
	case c.user != nil, p.Public && c.job == nil:
		return nil
	case c.job != nil:
		if p.Public || c.job.Project == p.ID || slices.Contains(p.Allowlist, c.job.Project) {
			return nil
		}
		return fail(http.StatusForbidden, fmt.Sprintf("403 Forbidden - Authentication by CI/CD job token not allowed from %s to %s.",
			s.st.Projects[c.job.Project].Path, p.Path))
	}
	return fail(http.StatusNotFound, "404 Project Not Found")
}

// person is who a request counts as: a job acts with the rights of the user who started it.
func (s *Server) person(c caller) user {
	switch {
	case c.user != nil:
		return *c.user
	case c.job != nil:
		return s.user(c.job.User)
	}
	return user{}
}

func (p *Project) protects(ref string, tag bool) bool {
	patterns := p.ProtectedBranches
	if tag {
		patterns = p.ProtectedTags
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, ref)
		return err == nil && ok || pattern == ref
	})
}
