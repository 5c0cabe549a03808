package gitlabapitest

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// limit is how many requests one caller may make in so many seconds.
type limit struct {
	Requests int `json:"requests"`
	Seconds  int `json:"seconds"`
}

// limits counts requests. Without a limit of a name, nothing of that name is counted, as on an instance that has
// none switched on. It has a lock of its own.
type limits struct {
	mu     sync.Mutex
	set    map[string]limit
	counts map[string]count
}

type count struct {
	began time.Time
	n     int
}

// limitNames are the throttles that can be set: that of all API requests, and those of single endpoints.
func limitNames() []string { return []string{"api", "notes_create", "pipelines_create"} }

func (l *limits) replace(set map[string]limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set, l.counts = set, map[string]count{}
}

// take counts one request of a caller.
func (l *limits) take(now time.Time, name, who string) (of limit, n int, reset time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of, ok := l.set[name]
	if !ok {
		return limit{}, 0, now
	}
	period := time.Duration(of.Seconds) * time.Second
	c := l.counts[name+" "+who]
	if !now.Before(c.began.Add(period)) || now.Before(c.began) {
		c = count{began: now}
	}
	c.n++
	l.counts[name+" "+who] = c
	return of, c.n, c.began.Add(period)
}

// over counts one request against the limit of an endpoint, and says whether it was too many.
func (l *limits) over(now time.Time, name, who string) bool {
	of, n, _ := l.take(now, name, who)
	return of.Requests > 0 && n > of.Requests
}

// tooMany is what the application answers itself: JSON, and none of the headers.
func tooMany() *failure {
	return fail(http.StatusTooManyRequests, map[string]string{"error": "This endpoint has been requested too many times. Try again later."})
}

// throttled answers a request of the API that is one too many, in plain text, and writes the headers of any other.
func (s *Server) throttled(w http.ResponseWriter, r *http.Request) bool {
	who := r.Header.Get("PRIVATE-TOKEN") + r.Header.Get("JOB-TOKEN") + r.Header.Get("Authorization")
	if who == "" {
		who = "unauthenticated"
	}
	now := s.now()
	of, n, reset := s.limits.take(now, "api", hashToken(who))
	if of.Requests == 0 {
		return false
	}
	rateHeaders(w, "throttle_authenticated_api", of.Requests, n, reset)
	if n <= of.Requests {
		return false
	}
	retryLater(w, now, reset)
	return true
}

func rateHeaders(w http.ResponseWriter, name string, allowed, observed int, reset time.Time) {
	h := w.Header()
	h.Set("RateLimit-Name", name)
	h.Set("RateLimit-Limit", strconv.Itoa(allowed))
	h.Set("RateLimit-Observed", strconv.Itoa(observed))
	h.Set("RateLimit-Remaining", strconv.Itoa(max(0, allowed-observed)))
	h.Set("RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
}

func retryLater(w http.ResponseWriter, now, reset time.Time) {
	h := w.Header()
	h.Set("RateLimit-ResetTime", reset.UTC().Format(http.TimeFormat))
	h.Set("Retry-After", strconv.Itoa(max(1, int(reset.Sub(now).Seconds()))))
	h.Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusTooManyRequests)
	fmt.Fprint(w, "Retry later\n")
}
