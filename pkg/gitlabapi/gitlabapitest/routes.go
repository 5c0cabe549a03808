package gitlabapitest

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// call is one API request after it was let in. The lock is not held while it runs, but for what locked() wraps.
type call struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	caller  caller
	project *project
	read    map[string]any // its parameters, once they were read
}

type handler func(*call) *failure

type endpoint struct {
	method, path string
	// jobs says that a job token is taken here; everything else about what it may do is the handler's.
	jobs bool
	// level is the access level a person needs; 0 asks for none, so that a public project can be read by anyone.
	level   int
	handler handler
}

// paid says whether the endpoint is not there on GitLab Free.
func (e endpoint) paid() bool {
	return strings.Contains(e.path, "/protected_environments") || strings.HasSuffix(e.path, "/approval") || strings.Contains(e.path, "/approval_rules")
}

// basic says whether the endpoint takes a basic login, as Terraform's http backend sends it, and a job token in no other way.
func (e endpoint) basic() bool { return strings.Contains(e.path, "/terraform/state/") }

// locked makes a handler that runs under the server's lock: its request is read before.
func locked(h handler) handler {
	return func(c *call) *failure {
		if _, f := c.params(); f != nil {
			return f
		}
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		return h(c)
	}
}

// orGone is a 404 where nothing was found.
func orGone[T any](one *T) (*T, *failure) {
	if one == nil {
		return nil, notFound("")
	}
	return one, nil
}

// with makes a handler of one that works on what the path names: find finds it, under the lock.
func with[T any](find func(*call) (*T, *failure), h func(*call, *T) *failure) handler {
	return locked(func(c *call) *failure {
		one, f := find(c)
		if f != nil {
			return f
		}
		return h(c, one)
	})
}

// endpoints is the API's whole table. Paths are written as client-go's route table has them, without the base.
func endpoints() []endpoint {
	return slices.Concat(projectEndpoints(), tokenEndpoints(), memberEndpoints(), fileEndpoints(), refEndpoints(), protectionEndpoints(), pipelineEndpoints(),
		packageEndpoints(), environmentEndpoints(), deploymentEndpoints(), variableEndpoints(), scheduleEndpoints(), freezeEndpoints(), resourceGroupEndpoints(),
		mergeRequestEndpoints(), noteEndpoints(), approvalEndpoints(), releaseEndpoints(), terraformEndpoints())
}

type boundEndpoint struct {
	endpoint
	segments []string
}

func (s *Server) routes() http.Handler {
	var table []boundEndpoint
	for _, e := range endpoints() {
		if s.cfg.Free && e.paid() {
			continue
		}
		table = append(table, boundEndpoint{e, strings.Split(strings.Trim(e.path, "/"), "/")})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		if strings.HasPrefix(path, "/-/slipway/") {
			s.control(w, r, strings.TrimPrefix(path, "/-/slipway/"))
			return
		}
		if s.faulty(w, r) {
			return
		}
		switch {
		case strings.HasPrefix(path, "/api/v4/"):
			if s.throttled(w, r) {
				return
			}
			s.api(table, strings.Split(strings.Trim(strings.TrimPrefix(path, "/api/v4/"), "/"), "/"), w, r)
		case path == "/.well-known/openid-configuration":
			s.discovery(w, r)
		case path == "/oauth/discovery/keys":
			s.keys(w, r)
		case strings.Contains(path, ".git/"):
			s.git(w, r)
		default:
			reply(w, http.StatusNotFound, map[string]string{"error": "404 Not Found"})
		}
	})
}

func (s *Server) api(table []boundEndpoint, segments []string, w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allowed []string
	for _, e := range table {
		if !e.match(segments, r) {
			continue
		}
		allowed = append(allowed, e.method)
		if e.method != method {
			continue
		}
		c := &call{s: s, w: w, r: r}
		f := c.admit(e.endpoint)
		if f == nil {
			f = e.handler(c)
		}
		if f != nil {
			if f.code == http.StatusUnauthorized && e.basic() {
				w.Header().Set("WWW-Authenticate", `Basic realm="GitLab"`)
			}
			reply(w, f.code, f.body)
		}
		return
	}
	if len(allowed) > 0 {
		slices.Sort(allowed)
		w.Header().Set("Allow", strings.Join(slices.Compact(allowed), ", "))
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
	if c.caller, f = s.caller(c.r, e.jobs, e.basic()); f != nil {
		return f
	}
	if f = c.caller.token.within(e); f != nil {
		return f
	}
	if raw := c.r.PathValue("id"); raw != "" && strings.HasPrefix(e.path, "/projects/") {
		if f = c.findProject(raw, e); f != nil {
			return f
		}
	}
	if e.level == 0 {
		return nil
	}
	switch u := c.person(); {
	case c.caller.anonymous():
		return fail(http.StatusUnauthorized, "401 Unauthorized")
	case e.level == adminOnly && !u.Admin, e.level < adminOnly && !u.atLeast(e.level) && c.project != nil:
		return fail(http.StatusForbidden, "403 Forbidden")
	}
	return nil
}

func (c *call) findProject(raw string, e endpoint) *failure {
	if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
		c.project = c.s.st.Projects[n]
	} else {
		c.project = c.s.projectByPath(raw)
	}
	if c.project == nil {
		if e.level > 0 && c.caller.anonymous() {
			return fail(http.StatusUnauthorized, "401 Unauthorized")
		}
		return notFound("Project")
	}
	// A trigger carries its own credential, which its handler checks.
	if strings.HasSuffix(e.path, "/trigger/pipeline") {
		return nil
	}
	if e.level > 0 && c.caller.anonymous() && (e.method != http.MethodGet || e.basic()) {
		return fail(http.StatusUnauthorized, "401 Unauthorized")
	}
	return c.s.enter(c.caller, c.project)
}

// params are the request's parameters. They are read once.
func (c *call) params() (map[string]any, *failure) {
	if c.read != nil {
		return c.read, nil
	}
	p, f := params(c.r)
	c.read = p
	return p, f
}

// body are the request's parameters, of which some must be there; it names all that are not.
func (c *call) body(required ...string) (map[string]any, *failure) {
	p, f := c.params()
	if f == nil {
		f = missing(p, required...)
	}
	return p, f
}

// idOf reads a number in the path; GitLab answers 400 to anything else.
func (c *call) idOf(name string) (int64, *failure) {
	n, err := strconv.ParseInt(c.r.PathValue(name), 10, 64)
	if err != nil {
		return 0, failKey(http.StatusBadRequest, "error", name+"_id is invalid")
	}
	return n, nil
}

// found is the record of a table that the path names, where it is the project's; the caller holds the lock.
func found[T any](c *call, table map[int64]*T, param, what string, projectOf func(*T) int64) (*T, *failure) {
	n, f := c.idOf(param)
	if f != nil {
		return nil, f
	}
	one := table[n]
	if one == nil || projectOf(one) != c.project.ID {
		return nil, notFound(what)
	}
	return one, nil
}

func (c *call) answer(body any) *failure {
	reply(c.w, http.StatusOK, body)
	return nil
}

// made, changed and gone answer a call that has changed something, after the change was written down; the caller
// holds the lock.
func (c *call) made(body any) *failure {
	c.s.save()
	reply(c.w, http.StatusCreated, body)
	return nil
}

func (c *call) changed(body any) *failure {
	c.s.save()
	return c.answer(body)
}

func (c *call) gone() *failure {
	c.s.save()
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// list answers with one page of a list.
func list[T any](c *call, all []T, show func(T) map[string]any) *failure {
	out := []map[string]any{}
	for _, one := range page(c.w, c.r, all) {
		out = append(out, show(one))
	}
	return c.answer(out)
}

// newestFirst turns a list around unless the request wants the oldest first.
func newestFirst[T any](c *call, all []T) []T {
	if c.r.URL.Query().Get("sort") != "asc" {
		slices.Reverse(all)
	}
	return all
}
