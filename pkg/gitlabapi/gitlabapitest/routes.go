package gitlabapitest

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// call is one API request after it was let in. The lock is not held while it runs.
type call struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	caller  caller
	project *project
}

type endpoint struct {
	method, path string
	// jobs says that a job token is taken here; everything else about what it may do is the handler's.
	jobs bool
	// level is the access level a person needs; 0 asks for none, so that a public project can be read by anyone.
	level   int
	handler func(*call) *failure
}

// endpoints is the API's whole table. Paths are written as client-go's route table has them, without the base.
func endpoints() []endpoint {
	return []endpoint{
		{"GET", "/version", false, reporter, (*call).version},
		{"GET", "/metadata", false, reporter, (*call).version},
		{"GET", "/user", false, reporter, (*call).currentUser},
		{"GET", "/job", true, reporter, (*call).ownJob},
		{"GET", "/projects/:id", false, 0, (*call).getProject},
		{"PUT", "/projects/:id", false, maintainer, (*call).putProject},
		{"GET", "/projects/:id/job_token_scope", false, maintainer, (*call).getScope},
		{"PATCH", "/projects/:id/job_token_scope", false, maintainer, (*call).patchScope},
		{"GET", "/projects/:id/job_token_scope/allowlist", false, maintainer, (*call).listAllowed},
		{"POST", "/projects/:id/job_token_scope/allowlist", false, maintainer, (*call).addAllowed},
		{"DELETE", "/projects/:id/job_token_scope/allowlist/:target", false, maintainer, (*call).removeAllowed},
		{"GET", "/projects/:id/repository/branches", true, 0, (*call).listBranches},
		{"GET", "/projects/:id/repository/branches/:branch", true, 0, (*call).getBranch},
		{"GET", "/projects/:id/repository/commits", false, 0, (*call).listCommits},
		{"GET", "/projects/:id/repository/commits/:sha", true, 0, (*call).getCommit},
		{"POST", "/projects/:id/repository/commits", false, developer, (*call).createCommit},
		{"GET", "/projects/:id/repository/files/:file/raw", true, 0, (*call).rawFile},
		{"GET", "/projects/:id/repository/tree", false, 0, (*call).listTree},
		{"POST", "/projects/:id/pipeline", false, developer, (*call).createPipeline},
		{"POST", "/projects/:id/trigger/pipeline", true, 0, (*call).triggerPipeline},
		{"GET", "/projects/:id/pipelines", false, 0, (*call).listPipelines},
		{"GET", "/projects/:id/pipelines/:pipeline", false, 0, (*call).getPipeline},
		{"GET", "/projects/:id/pipelines/:pipeline/jobs", false, 0, (*call).listJobs},
		{"POST", "/projects/:id/pipelines/:pipeline/cancel", false, developer, (*call).cancelPipeline},
		{"GET", "/projects/:id/jobs/:job", false, 0, (*call).getJob},
		{"GET", "/projects/:id/jobs/:job/trace", false, 0, (*call).getTrace},
		{"GET", "/projects/:id/jobs/:job/artifacts/*", true, 0, (*call).getArtifact},
		{"POST", "/projects/:id/jobs/:job/play", false, developer, (*call).playJob},
		{"POST", "/projects/:id/jobs/:job/retry", false, developer, (*call).retryJob},
		{"POST", "/projects/:id/jobs/:job/cancel", false, developer, (*call).cancelJob},
		{"GET", "/projects/:id/packages", true, reporter, (*call).listPackages},
		{"GET", "/projects/:id/packages/:package/package_files", true, reporter, (*call).listPackageFiles},
		{"PUT", "/projects/:id/packages/generic/:name/:version/:file", true, developer, (*call).putPackageFile},
		{"GET", "/projects/:id/packages/generic/:name/:version/:file", true, reporter, (*call).getPackageFile},
		{"GET", "/projects/:id/environments", true, reporter, (*call).listEnvironments},
		{"POST", "/projects/:id/environments", true, developer, (*call).createEnvironment},
		{"GET", "/projects/:id/environments/:environment", true, reporter, (*call).getEnvironment},
		{"PUT", "/projects/:id/environments/:environment", true, developer, (*call).putEnvironment},
		{"GET", "/projects/:id/deployments", true, reporter, (*call).listDeployments},
		{"POST", "/projects/:id/deployments", true, developer, (*call).createDeployment},
		{"GET", "/projects/:id/deployments/:deployment", true, reporter, (*call).getDeployment},
		{"PUT", "/projects/:id/deployments/:deployment", true, developer, (*call).putDeployment},
	}
}

type boundEndpoint struct {
	endpoint
	segments []string
}

func (s *Server) routes() http.Handler {
	var table []boundEndpoint
	for _, e := range endpoints() {
		table = append(table, boundEndpoint{e, strings.Split(strings.Trim(e.path, "/"), "/")})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		switch {
		case strings.HasPrefix(path, "/api/v4/"):
			s.api(table, strings.Split(strings.Trim(strings.TrimPrefix(path, "/api/v4/"), "/"), "/"), w, r)
		case path == "/.well-known/openid-configuration":
			s.discovery(w, r)
		case path == "/oauth/discovery/keys":
			s.keys(w, r)
		case strings.HasPrefix(path, "/-/slipway/pipelines/") && strings.HasSuffix(path, "/events"):
			s.events(w, r, strings.TrimSuffix(strings.TrimPrefix(path, "/-/slipway/pipelines/"), "/events"))
		case strings.Contains(path, ".git/"):
			s.git(w, r)
		default:
			reply(w, http.StatusNotFound, map[string]string{"error": "404 Not Found"})
		}
	})
}

func (s *Server) api(table []boundEndpoint, segments []string, w http.ResponseWriter, r *http.Request) {
	method, known := r.Method, false
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, e := range table {
		if !e.match(segments, r) {
			continue
		}
		known = true
		if e.method != method {
			continue
		}
		c := &call{s: s, w: w, r: r}
		f := c.admit(e.endpoint)
		if f == nil {
			f = e.handler(c)
		}
		if f != nil {
			reply(w, f.code, f.body)
		}
		return
	}
	if known {
		reply(w, http.StatusMethodNotAllowed, map[string]string{"error": "405 Not Allowed"})
		return
	}
	reply(w, http.StatusNotFound, map[string]string{"error": "404 Not Found"})
}

// match compares escaped segments, so that an escaped slash stays inside its own, and keeps the values.
func (e boundEndpoint) match(segments []string, r *http.Request) bool {
	wild := e.segments[len(e.segments)-1] == "*"
	if len(segments) != len(e.segments) && (!wild || len(segments) < len(e.segments)) {
		return false
	}
	values := map[string]string{}
	for i, want := range e.segments {
		if want == "*" {
			rest, err := url.PathUnescape(strings.Join(segments[i:], "/"))
			if err != nil {
				return false
			}
			values["*"] = rest
			break
		}
		got, err := url.PathUnescape(segments[i])
		if err != nil {
			return false
		}
		if name, ok := strings.CutPrefix(want, ":"); ok && got != "" {
			values[name] = got
		} else if want != got {
			return false
		}
	}
	for k, v := range values {
		r.SetPathValue(k, v)
	}
	return true
}

func (c *call) admit(e endpoint) *failure {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	var f *failure
	if c.caller, f = s.caller(c.r, e.jobs); f != nil {
		return f
	}
	if raw := c.r.PathValue("id"); raw != "" {
		if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
			c.project = s.st.Projects[n]
		} else {
			c.project = s.projectByPath(raw)
		}
		if c.project == nil {
			if e.level > 0 && c.caller.anonymous() {
				return fail(http.StatusUnauthorized, "401 Unauthorized")
			}
			return notFound("Project")
		}
		// A trigger carries its own credential, which its handler checks.
		if !strings.HasSuffix(e.path, "/trigger/pipeline") {
			if e.level > 0 && c.caller.anonymous() && c.r.Method != http.MethodGet {
				return fail(http.StatusUnauthorized, "401 Unauthorized")
			}
			if f = s.enter(c.caller, c.project); f != nil {
				return f
			}
		}
	}
	if e.level > 0 && c.caller.anonymous() {
		return fail(http.StatusUnauthorized, "401 Unauthorized")
	}
	if e.level > 0 && !s.person(c.caller).atLeast(e.level) {
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	return nil
}

func (c *call) params() (map[string]any, *failure) { return params(c.r) }

// idOf reads a number in the path; GitLab answers 400 to anything else.
func (c *call) idOf(name string) (int64, *failure) {
	n, err := strconv.ParseInt(c.r.PathValue(name), 10, 64)
	if err != nil {
		return 0, failKey(http.StatusBadRequest, "error", name+"_id is invalid")
	}
	return n, nil
}
