package gitlabapitest

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// git serves the smart protocol through git's own http-backend and starts pipelines for what a push has changed.
func (s *Server) git(w http.ResponseWriter, r *http.Request) {
	path, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	write := rest == "git-receive-pack" || r.URL.Query().Get("service") == "git-receive-pack"
	s.mu.Lock()
	p := s.projectByPath(path)
	g, refusal := s.admitGit(r, p, write)
	var rules []string
	if refusal == nil {
		rules = p.pushRules(g.user)
	}
	s.mu.Unlock()
	if refusal != nil {
		if refusal.code == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="GitLab"`)
		}
		http.Error(w, refusal.message, refusal.code)
		return
	}
	if rest != "git-receive-pack" {
		s.backend(w, r, p, nil)
		return
	}
	s.receive(w, r, p, g, rules)
}

type gitCaller struct {
	user user
	job  *job
}

type gitFailure struct {
	code    int
	message string
}

// admitGit decides about a git request; the caller holds the lock.
func (s *Server) admitGit(r *http.Request, p *project, write bool) (gitCaller, *gitFailure) {
	denied := &gitFailure{http.StatusUnauthorized, "HTTP Basic: Access denied."}
	gone := projectGone()
	name, password, given := r.BasicAuth()
	switch {
	case !given && p != nil && p.Public && !write:
		return gitCaller{}, nil
	case !given:
		return gitCaller{}, denied
	case strings.HasPrefix(name, includeUser):
		by, err := strconv.ParseInt(strings.TrimPrefix(name, includeUser), 10, 64)
		if err != nil || write || !same(password, s.includePassword(by)) {
			return gitCaller{}, denied
		}
		return gitCaller{}, s.mayFetch(p, s.user(by))
	case name == "gitlab-ci-token":
		j := s.jobOf(password)
		if j == nil {
			return gitCaller{}, denied
		}
		if p == nil || !p.Public && !s.in(p, s.user(j.User)).atLeast(guest) {
			return gitCaller{}, gone
		}
		return gitCaller{user: s.in(p, s.user(j.User)), job: j}, s.admitJob(j, p, write)
	}
	who, f := s.personOf(password)
	if f != nil || !who.token.mayGit(write) {
		return gitCaller{}, denied
	}
	refusal := s.mayFetch(p, *who.user)
	if refusal != nil && (!write || refusal.code == http.StatusNotFound) {
		return gitCaller{}, refusal
	}
	u := s.in(p, *who.user)
	if write && !u.atLeast(developer) {
		return gitCaller{}, &gitFailure{http.StatusForbidden, "You are not allowed to push code to this project."}
	}
	return gitCaller{user: u}, nil
}

func projectGone() *gitFailure {
	return &gitFailure{http.StatusNotFound, "The project you were looking for could not be found or you don't have permission to view it."}
}

// mayFetch says what keeps a person from a project's commits, if something does; the caller holds the lock.
func (s *Server) mayFetch(p *project, u user) *gitFailure {
	switch {
	case p == nil:
		return projectGone()
	case p.Public, s.in(p, u).atLeast(reporter):
		return nil
	case s.in(p, u).atLeast(guest):
		return &gitFailure{http.StatusForbidden, "You are not allowed to download code from this project."}
	}
	return projectGone()
}

// admitJob decides about a job's git request: it reads where it is let in, and pushes to its own project at the most.
func (s *Server) admitJob(j *job, p *project, write bool) *gitFailure {
	pl := s.st.Pipelines[j.Pipeline]
	switch {
	case !write && !s.lets(p, j):
		return &gitFailure{http.StatusForbidden, fmt.Sprintf("Authentication by CI/CD job token not allowed from %s to %s.", s.st.Projects[j.Project].Path, p.Path)}
	case write && (j.Project != p.ID || !p.PushForJobToken || !p.runsProtected(pl)):
		return &gitFailure{http.StatusForbidden, "You are not allowed to upload code for this project."}
	}
	return nil
}

func (s *Server) pushLock(p *project) *sync.Mutex {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushing[p.ID] == nil {
		s.pushing[p.ID] = &sync.Mutex{}
	}
	return s.pushing[p.ID]
}

func (s *Server) receive(w http.ResponseWriter, r *http.Request, p *project, g gitCaller, rules []string) {
	options, err := os.CreateTemp("", "push-options")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = options.Close()
	defer os.Remove(options.Name())
	lock := s.pushLock(p)
	lock.Lock()
	before, err := s.refs(r.Context(), p)
	if err == nil {
		s.backend(w, r, p, append(rules, "SLIPWAY_PUSH_OPTIONS="+options.Name()))
	}
	after, aerr := s.refs(s.ctx, p)
	lock.Unlock()
	if err != nil || aerr != nil {
		return
	}
	said, _ := os.ReadFile(options.Name())
	push := parsePushOptions(string(said))
	push.skip = push.skip || g.job != nil // a job's push starts no pipeline
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if after[name] != before[name] {
			s.pushed(p, name, before[name], after[name], g.user.ID, push)
		}
	}
}

// pushed is what follows from a ref that has moved: merge requests of the branch have other commits, and pipelines
// are made. A push that succeeded is answered as such whatever becomes of its pipelines: they say so themselves.
func (s *Server) pushed(p *project, name, before, after string, by int64, push pushOptions) {
	ref, tag := strings.CutPrefix(name, "refs/tags/")
	ref = strings.TrimPrefix(ref, "refs/heads/")
	var open []*mergeRequest
	if !tag {
		open = s.branchMoved(p, ref, after)
	}
	if push.skip {
		return
	}
	_, _ = s.newPipeline(s.ctx, request{project: p, ref: ref, tag: tag, sha: after, before: before, source: "push", user: by, variables: push.variables, inputs: push.inputs})
	for _, mr := range open {
		_, _ = s.mergeRequestPipeline(mr, p, by)
	}
}

type pushOptions struct {
	skip      bool
	variables map[string]string
	inputs    map[string]any
}

func parsePushOptions(said string) pushOptions {
	push := pushOptions{variables: map[string]string{}, inputs: map[string]any{}}
	for _, line := range strings.Split(said, "\n") {
		name, value, _ := strings.Cut(line, "=")
		key, rest, ok := strings.Cut(strings.Trim(value, `"`), "=")
		switch {
		case line == "ci.skip":
			push.skip = true
		case name == "ci.variable" && ok:
			push.variables[key] = rest
		case name == "ci.input" && ok:
			push.inputs[key] = rest
		}
	}
	return push
}

// backend hands one request to git http-backend.
func (s *Server) backend(w http.ResponseWriter, r *http.Request, p *project, env []string) {
	program, err := exec.LookPath("git")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	in := r.Clone(r.Context())
	in.URL.Path = "/" + p.Path + ".git" + r.URL.Path[strings.Index(r.URL.Path, ".git")+len(".git"):]
	if r.Body != nil && r.ContentLength != 0 {
		// CGI wants a length, and git sends larger packs in chunks: the body is kept aside first.
		body, err := os.CreateTemp("", "git-request")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer os.Remove(body.Name())
		defer body.Close()
		n, err := io.Copy(body, r.Body)
		if err == nil {
			_, err = body.Seek(0, io.SeekStart)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		in.Body, in.ContentLength, in.TransferEncoding = body, n, nil
	}
	in.Header.Del("Authorization")
	h := &cgi.Handler{
		Path: program, Args: []string{"http-backend"}, Dir: s.cfg.Root, Stderr: io.Discard,
		Env: append(append(plainGit(), "GIT_PROJECT_ROOT="+s.path("repositories"), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=git"), env...),
	}
	h.ServeHTTP(w, in)
}
