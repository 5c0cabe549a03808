package faultproxy

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Part is a kind of HTTP part: how its calls are named, which of them change
// something, and how it refuses.
type Part struct {
	Name     string
	describe func(*http.Request) Call
	refuse   func(*http.Request, Fault) reply
}

// reply is an answer in the part's place.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) write(w http.ResponseWriter) {
	for name, values := range r.header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	w.WriteHeader(r.status)
	_, _ = w.Write([]byte(r.body)) // the client is gone: nobody to tell
}

func retryAfter(f Fault) string {
	return strconv.Itoa(max(1, int(math.Ceil(f.delay.Seconds()))))
}

// gateway is what a load balancer sends when the part behind it does not answer.
func gateway(code int) reply {
	return reply{code, http.Header{"Content-Type": {"text/html"}}, page(fmt.Sprintf("%d %s", code, http.StatusText(code)))}
}

// reads says whether a method of HTTP leaves things as they are.
func reads(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// GitLab is GitLab's API and its git repositories over HTTP.
func GitLab() Part {
	return Part{Name: "gitlab", describe: describeGitLab, refuse: refuseGitLab}
}

func describeGitLab(r *http.Request) Call {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/git-upload-pack"): // a fetch
		return Call{Action: "git fetch"}
	case strings.HasSuffix(path, "/git-receive-pack"):
		return Call{Action: "git push", Mutates: true}
	case strings.HasSuffix(path, "/info/refs"):
		return Call{Action: "git refs"}
	}
	return Call{Action: r.Method, Mutates: !reads(r.Method)}
}

// refuseGitLab answers as GitLab does: the rate limit is told in plain text,
// also to clients that asked for JSON.
func refuseGitLab(_ *http.Request, f Fault) reply {
	if f.kind == throttle {
		after := retryAfter(f)
		reset := time.Now().Add(f.delay)
		return reply{http.StatusTooManyRequests, http.Header{"Content-Type": {"text/plain"}, "Retry-After": {after},
			"RateLimit-Limit": {"600"}, "RateLimit-Name": {"throttle_authenticated_api"}, "RateLimit-Observed": {"601"}, "RateLimit-Remaining": {"0"},
			"RateLimit-Reset": {strconv.FormatInt(reset.Unix(), 10)}, "RateLimit-ResetTime": {reset.UTC().Format(http.TimeFormat)}}, "Retry later\n"}
	}
	if f.code == http.StatusInternalServerError {
		return reply{f.code, jsonHeader(), `{"message":"500 Internal Server Error"}`}
	}
	return gateway(f.code)
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// Registry is an OCI registry.
func Registry() Part {
	return Part{Name: "registry", describe: func(r *http.Request) Call {
		return Call{Action: r.Method + " " + registryThing(r.URL.Path), Mutates: !reads(r.Method)}
	}, refuse: refuseRegistry}
}

func registryThing(path string) string {
	parts := strings.Split(path, "/")
	for _, thing := range []string{"uploads", "blobs", "manifests", "referrers", "tags"} {
		if slices.Contains(parts, thing) {
			return thing
		}
	}
	return "api"
}

func refuseRegistry(_ *http.Request, f Fault) reply {
	body := func(code, text string) string {
		return fmt.Sprintf(`{"errors":[{"code":%q,"message":%q}]}`, code, text)
	}
	switch {
	case f.kind == throttle:
		h := jsonHeader()
		h.Set("Retry-After", retryAfter(f))
		return reply{http.StatusTooManyRequests, h, body("TOOMANYREQUESTS", "too many requests")}
	case f.code == http.StatusBadGateway || f.code == http.StatusGatewayTimeout:
		return gateway(f.code)
	case f.code == http.StatusServiceUnavailable:
		return reply{f.code, jsonHeader(), body("UNAVAILABLE", "service unavailable")}
	}
	return reply{f.code, jsonHeader(), body("UNKNOWN", "unknown error")}
}
