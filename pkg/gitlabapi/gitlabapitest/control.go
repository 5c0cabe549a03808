package gitlabapitest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// fault is an answer that stands before GitLab: of its rate limiter, of the proxy in front of it, or of an instance
// that is being worked on.
type fault struct {
	ID int64 `json:"id"`
	// Kind is rate_limit (429), bad_gateway (502), maintenance (503 to all) or read_only (503 to what writes).
	Kind   string `json:"kind"`
	Method string `json:"method,omitempty"` // any where empty
	Path   string `json:"path,omitempty"`   // a regular expression over the escaped path; any where empty
	Skip   int    `json:"skip,omitempty"`   // so many requests go through first
	Count  int    `json:"count,omitempty"`  // then so many meet the fault; 0 for all until it is removed
	Seen   int    `json:"seen"`             // how many requests it has been asked about
	Hits   int    `json:"hits"`             // how many have met it
}

func faultKinds() []string { return []string{"rate_limit", "bad_gateway", "maintenance", "read_only"} }

// faults are those that are set, and whether checks of merge requests are held. It has a lock of its own.
type faults struct {
	mu   sync.Mutex
	all  []*fault
	last int64
	hold bool
}

func (f *faults) held() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hold
}

func writes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// meets is the kind of the fault that a request meets, if it does.
func (f *faults) meets(r *http.Request) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.all {
		ok, err := regexp.MatchString(one.Path, r.URL.EscapedPath())
		if err != nil || !ok || one.Method != "" && one.Method != r.Method || one.Kind == "read_only" && (!writes(r.Method) || strings.HasSuffix(r.URL.Path, "/git-upload-pack")) {
			continue
		}
		one.Seen++
		if one.Seen <= one.Skip || one.Count > 0 && one.Hits >= one.Count {
			continue
		}
		one.Hits++
		return one.Kind
	}
	return ""
}

// faulty answers a request that meets a fault.
func (s *Server) faulty(w http.ResponseWriter, r *http.Request) bool {
	page := func(code int, title, text string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(code)
		fmt.Fprintf(w, "<!DOCTYPE html>\n<html>\n<head><title>%s (%d)</title></head>\n<body><h1>%d</h1><p>%s</p></body>\n</html>\n", title, code, code, text)
	}
	switch s.faults.meets(r) {
	case "":
		return false
	case "rate_limit":
		now := s.now()
		reset := now.Add(time.Second)
		rateHeaders(w, "throttle_authenticated_api", 2000, 2001, reset)
		retryLater(w, now, reset)
	case "bad_gateway":
		page(http.StatusBadGateway, "GitLab is not responding", "Whoops, GitLab is taking too much time to respond.")
	case "maintenance":
		w.Header().Set("Retry-After", "1")
		page(http.StatusServiceUnavailable, "Deploy in progress", "GitLab is being worked on and will be back shortly.")
	case "read_only":
		reply(w, http.StatusServiceUnavailable, map[string]string{"message": "You cannot perform write operations on a read-only instance"})
	}
	return true
}

// control is what no GitLab has, below /-/slipway/. With any token, a stream of what becomes of a pipeline:
//
//	GET pipelines/<id>/events
//
// and with the administrator's:
//
//	GET, POST, DELETE faults   a fault (see its type), or all of them
//	PUT limits                 {"api": {"requests": 600, "seconds": 60}}, also notes_create and pipelines_create; {} for none
//	PUT clock                  {"now": "2027-01-01T03:00:00Z"}, {} for the machine's own
//	PUT merge_checks           {"held": true}: merge requests stay in checking until it is false
func (s *Server) control(w http.ResponseWriter, r *http.Request, path string) {
	if pipeline, ok := strings.CutSuffix(path, "/events"); ok && strings.HasPrefix(path, "pipelines/") {
		s.events(w, r, strings.TrimPrefix(pipeline, "pipelines/"))
		return
	}
	s.mu.Lock()
	who, f := s.caller(r, false, false)
	s.mu.Unlock()
	if f == nil && (who.user == nil || !who.user.Admin) {
		f = fail(http.StatusForbidden, "403 Forbidden")
	}
	var body any
	if f == nil {
		body, f = s.command(path, r)
	}
	switch {
	case f != nil:
		reply(w, f.code, f.body)
	default:
		reply(w, http.StatusOK, body)
	}
}

func (s *Server) command(path string, r *http.Request) (any, *failure) {
	read := func(into any) *failure {
		d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			return failKey(http.StatusBadRequest, "error", err.Error())
		}
		return nil
	}
	switch r.Method + " " + path {
	case "GET faults":
		s.faults.mu.Lock()
		defer s.faults.mu.Unlock()
		out := []fault{}
		for _, one := range s.faults.all {
			out = append(out, *one)
		}
		return out, nil
	case "POST faults":
		var one fault
		if f := read(&one); f != nil {
			return nil, f
		}
		return s.addFault(&one)
	case "DELETE faults":
		s.faults.mu.Lock()
		defer s.faults.mu.Unlock()
		s.faults.all = nil
		return map[string]any{}, nil
	case "PUT limits":
		set := map[string]limit{}
		if f := read(&set); f != nil {
			return nil, f
		}
		return s.setLimits(set)
	case "PUT clock":
		var to struct {
			Now time.Time `json:"now"` // zero for the machine's own
		}
		if f := read(&to); f != nil {
			return nil, f
		}
		return s.setClock(to.Now), nil
	case "PUT merge_checks":
		var to struct {
			Held bool `json:"held"`
		}
		if f := read(&to); f != nil {
			return nil, f
		}
		s.faults.mu.Lock()
		s.faults.hold = to.Held
		s.faults.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed()
		return to, nil
	}
	return nil, failKey(http.StatusNotFound, "error", "404 Not Found")
}

func (s *Server) addFault(one *fault) (any, *failure) {
	if _, err := regexp.Compile(one.Path); err != nil || !slices.Contains(faultKinds(), one.Kind) || one.Skip < 0 || one.Count < 0 {
		return nil, failKey(http.StatusBadRequest, "error", "kind is one of "+strings.Join(faultKinds(), ", ")+", path a regular expression, skip and count are not negative")
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.last++
	one.ID, one.Seen, one.Hits = s.faults.last, 0, 0
	s.faults.all = append(s.faults.all, one)
	return *one, nil
}

func (s *Server) setLimits(set map[string]limit) (any, *failure) {
	for name, l := range set {
		if !slices.Contains(limitNames(), name) || l.Requests <= 0 || l.Seconds <= 0 {
			return nil, failKey(http.StatusBadRequest, "error", "limits are "+strings.Join(limitNames(), ", ")+", of requests and seconds")
		}
	}
	s.limits.replace(set)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.Limits = set
	s.save()
	return set, nil
}

// setClock moves the instance's time. ID tokens of a moved clock are refused by who checks them with another.
func (s *Server) setClock(to time.Time) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	var offset time.Duration
	if !to.IsZero() {
		offset = time.Until(to)
	}
	s.offset.Store(int64(offset))
	s.st.ClockOffset = offset
	s.save()
	s.changed()
	return map[string]any{"now": s.now()}
}
