package faultproxy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// faults returns what was done to each of some calls: "." for nothing.
func faults(t *testing.T, seed uint64, rules []faultproxy.Rule, calls ...string) string {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	p := start(t, faultproxy.Config{Part: faultproxy.GitLab(), Upstream: upstream.URL, Rules: rules, Seed: seed})
	for _, c := range calls {
		method, path, _ := strings.Cut(c, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, p.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Kind", strings.Trim(path, "/"))
		if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
	}
	var out strings.Builder
	for _, c := range p.Log.Calls() {
		switch {
		case c.Fault == "":
			out.WriteString(".")
		case strings.HasPrefix(c.Fault, "status"):
			out.WriteString(c.Fault[len(c.Fault)-1:])
		default:
			out.WriteString("t")
		}
	}
	return out.String()
}

func TestRulesChooseCalls(t *testing.T) {
	calls := []string{"POST /a", "PUT /b", "POST /a", "DELETE /ab", "POST /a", "GET /a"}
	to := faultproxy.Status
	for name, c := range map[string]struct {
		rules []faultproxy.Rule
		want  string
	}{
		"none":                             {nil, "......"},
		"every one":                        {[]faultproxy.Rule{{Fault: to(500)}}, "000000"},
		"method":                           {[]faultproxy.Rule{{Match: faultproxy.Match{Method: "PUT|DELETE"}, Fault: to(500)}}, ".0.0.."},
		"the whole path":                   {[]faultproxy.Rule{{Match: faultproxy.Match{Path: "/a"}, Fault: to(500)}}, "0.0.00"},
		"path pattern":                     {[]faultproxy.Rule{{Match: faultproxy.Match{Path: "/.*b"}, Fault: to(500)}}, ".0.0.."},
		"host":                             {[]faultproxy.Rule{{Match: faultproxy.Match{Host: "example.com"}, Fault: to(500)}}, "......"},
		"header":                           {[]faultproxy.Rule{{Match: faultproxy.Match{Header: map[string]string{"X-Kind": "ab"}}, Fault: to(500)}}, "...0.."},
		"action":                           {[]faultproxy.Rule{{Match: faultproxy.Match{Action: "POST"}, Fault: to(500)}}, "0.0.0."},
		"mutating":                         {[]faultproxy.Rule{{Match: faultproxy.Match{Mutating: true}, Fault: to(500)}}, "00000."},
		"the second":                       {[]faultproxy.Rule{{Match: faultproxy.Match{Path: "/a", Nth: 2}, Fault: to(500)}}, "..0..."},
		"the first two":                    {[]faultproxy.Rule{{Match: faultproxy.Match{Path: "/a", Times: 2}, Fault: to(500)}}, "0.0..."},
		"the first rule decides":           {[]faultproxy.Rule{{Match: faultproxy.Match{Path: "/a"}, Fault: to(500)}, {Match: faultproxy.Match{Method: "POST|PUT"}, Fault: to(503)}}, "030.00"},
		"a rule counts what another takes": {[]faultproxy.Rule{{Match: faultproxy.Match{Nth: 1}, Fault: to(500)}, {Match: faultproxy.Match{Path: "/a", Nth: 2}, Fault: to(503)}}, "0.3..."},
	} {
		if got := faults(t, 1, c.rules, calls...); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestChanceComesFromTheSeed(t *testing.T) {
	half := []faultproxy.Rule{{Match: faultproxy.Match{Probability: 0.5}, Fault: faultproxy.Throttle(0)}}
	calls := strings.Split(strings.Repeat("GET /a,", 40)+"GET /a", ",")
	first := faults(t, 1, half, calls...)
	if again := faults(t, 1, half, calls...); again != first {
		t.Errorf("seed 1 gave %s and %s", first, again)
	}
	if other := faults(t, 2, half, calls...); other == first {
		t.Errorf("seeds 1 and 2 both gave %s", first)
	}
	if n := strings.Count(first, "t"); n < 8 || n > 33 {
		t.Errorf("one half of 41 was %d", n)
	}
	// A rule before it takes calls away, and changes nothing of what it draws.
	more := append([]faultproxy.Rule{{Match: faultproxy.Match{Nth: 3}, Fault: faultproxy.Status(500)}}, faultproxy.Rule{Match: faultproxy.Match{Probability: 0}, Fault: faultproxy.Status(502)})
	if got := faults(t, 1, more, calls[:5]...); got != "22022" {
		t.Errorf("got %s", got)
	}
}

func TestWrongRulesAreNamedAtOnce(t *testing.T) {
	_, err := faultproxy.Start(faultproxy.Config{Part: faultproxy.GitLab(), Upstream: "http://127.0.0.1:1", Rules: []faultproxy.Rule{
		{Match: faultproxy.Match{Path: "("}, Fault: faultproxy.DropAfter()},
		{Match: faultproxy.Match{Probability: 2}, Fault: faultproxy.DropAfter()},
		{Fault: faultproxy.Status(404)},
		{},
	}})
	if err == nil {
		t.Fatal("the rules were taken")
	}
	for _, want := range []string{"rule 1: path", "rule 2: nth 0 and times 0", "rule 3: status 404", "rule 4: it has no fault"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	for _, upstream := range []string{"", "127.0.0.1:80", "ftp://127.0.0.1"} {
		if _, err := faultproxy.Start(faultproxy.Config{Part: faultproxy.GitLab(), Upstream: upstream}); err == nil {
			t.Errorf("%q was taken for an upstream", upstream)
		}
	}
	if _, err := faultproxy.Start(faultproxy.Config{Upstream: "http://127.0.0.1:1"}); err == nil {
		t.Error("a proxy without a part was started")
	}
}
