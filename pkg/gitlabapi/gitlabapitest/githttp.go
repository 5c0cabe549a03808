package gitlabapitest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

// git serves the smart protocol through git's own http-backend and starts pipelines for what a push has changed.
func (s *Server) git(w http.ResponseWriter, r *http.Request) {
	path, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	write := rest == "git-receive-pack" || r.URL.Query().Get("service") == "git-receive-pack"
	s.mu.Lock()
	p := s.projectByPath(path)
	g, code, message := s.admitGit(r, p, write)
	s.mu.Unlock()
	if code != 0 {
		if code == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="GitLab"`)
		}
		http.Error(w, message, code)
		return
	}
	if rest != "git-receive-pack" {
		s.backend(w, r, p, nil)
		return
	}
	s.receive(w, r, p, g)
}

type gitCaller struct {
	user  user
	job   *job
	right string
}

// admitGit decides about a git request; the caller holds the lock.
func (s *Server) admitGit(r *http.Request, p *project, write bool) (gitCaller, int, string) {
	const gone = "The project you were looking for could not be found or you don't have permission to view it."
	name, password, given := r.BasicAuth()
	if !given {
		if p != nil && p.Public && !write {
			return gitCaller{}, 0, ""
		}
		return gitCaller{}, http.StatusUnauthorized, "HTTP Basic: Access denied."
	}
	if name == includeUser && same(password, s.include) && !write && p != nil {
		return gitCaller{}, 0, ""
	}
	if name == "gitlab-ci-token" {
		j := s.jobOf(password)
		switch {
		case j == nil:
			return gitCaller{}, http.StatusUnauthorized, "HTTP Basic: Access denied."
		case p == nil:
			return gitCaller{}, http.StatusNotFound, gone
		case !write && (p.Public || j.Project == p.ID || slices.Contains(p.Allowlist, j.Project)):
			return gitCaller{user: s.user(j.User), job: j}, 0, ""
		case !write:
			return gitCaller{}, http.StatusForbidden, fmt.Sprintf("Authentication by CI/CD job token not allowed from %s to %s.", s.st.Projects[j.Project].Path, p.Path)
		}
		pl := s.st.Pipelines[j.Pipeline]
		if j.Project != p.ID || !p.PushForJobToken || !p.protects(pl.Ref, pl.Tag) {
			return gitCaller{}, http.StatusForbidden, "You are not allowed to upload code for this project."
		}
		return gitCaller{user: s.user(j.User), job: j, right: "push"}, 0, ""
	}
	u := s.personOf(password)
	switch {
	case u == nil:
		return gitCaller{}, http.StatusUnauthorized, "HTTP Basic: Access denied."
	case p == nil:
		return gitCaller{}, http.StatusNotFound, gone
	case write && !u.atLeast(developer):
		return gitCaller{}, http.StatusForbidden, "You are not allowed to push code to this project."
	}
	right := "none"
	if u.atLeast(maintainer) {
		right = "push"
		if p.AllowForcePush {
			right = "force"
		}
	}
	return gitCaller{user: *u, right: right}, 0, ""
}

func (s *Server) pushLock(p *project) *sync.Mutex {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushing[p.ID] == nil {
		s.pushing[p.ID] = &sync.Mutex{}
	}
	return s.pushing[p.ID]
}

func (s *Server) receive(w http.ResponseWriter, r *http.Request, p *project, g gitCaller) {
	options, err := os.CreateTemp("", "push-options")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = options.Close()
	defer os.Remove(options.Name())
	var protected []string
	for _, b := range p.ProtectedBranches {
		protected = append(protected, "refs/heads/"+b)
	}
	for _, t := range p.ProtectedTags {
		protected = append(protected, "refs/tags/"+t)
	}
	lock := s.pushLock(p)
	lock.Lock()
	before, err := s.refs(r.Context(), p)
	if err == nil {
		s.backend(w, r, p, []string{"SLIPWAY_PUSH_OPTIONS=" + options.Name(), "SLIPWAY_PUSH_RIGHT=" + g.right, "SLIPWAY_PROTECTED_REFS=" + strings.Join(protected, " ")})
	}
	after, aerr := s.refs(s.ctx, p)
	lock.Unlock()
	if err != nil || aerr != nil || g.job != nil { // a job's push starts no pipeline
		return
	}
	said, _ := os.ReadFile(options.Name())
	push := parsePushOptions(string(said))
	if push.skip {
		return
	}
	names := make([]string, 0, len(after))
	for name := range after {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if after[name] == before[name] {
			continue
		}
		ref, tag := strings.CutPrefix(name, "refs/tags/")
		ref = strings.TrimPrefix(ref, "refs/heads/")
		// A push that succeeded is answered as such whatever becomes of its pipeline: the pipeline says so itself.
		_, _ = s.newPipeline(s.ctx, request{project: p, ref: ref, tag: tag, sha: after[name], before: before[name], source: "push", user: g.user.ID, variables: push.variables, inputs: push.inputs})
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
