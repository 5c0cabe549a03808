package chain_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/sandbox/internal/chain"
)

// broken is a GitLab whose stream of events breaks off, once after a job's end,
// and whose artifacts are answered with code.
type broken struct{ streams, ends, code int }

func (b *broken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/events"):
		b.streams++
		fmt.Fprintln(w, `{"status":"running"}`)
		fmt.Fprintln(w, `{"job":7,"name":"build","status":"success"}`)
		if b.streams == b.ends {
			fmt.Fprintln(w, `{"status":"success"}`)
			return
		}
		_ = http.NewResponseController(w).Flush()
		if b.streams%2 == 1 {
			panic(http.ErrAbortHandler) // else the stream ends in order, and too early
		}
	case strings.Contains(r.URL.Path, "/artifacts/"):
		w.WriteHeader(b.code)
	default:
		fmt.Fprint(w, `[]`)
	}
}

func (b *broken) chain(t *testing.T) (*chain.Chain, *bytes.Buffer) {
	t.Helper()
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	var box chain.Box
	box.GitLab.Endpoint = s.URL
	var out bytes.Buffer
	c, err := chain.New(t.TempDir(), box, t.TempDir(), &out)
	if err != nil {
		t.Fatal(err)
	}
	return c, &out
}

func TestFollowSurvivesAClosedConnection(t *testing.T) {
	c, out := (&broken{ends: 3}).chain(t)
	if _, err := c.Follow(t.Context(), "orders", 1); err != nil || strings.Count(out.String(), "build") != 1 {
		t.Errorf("Follow ended with %v and said\n%s", err, out)
	}
	c, out = (&broken{}).chain(t)
	if _, err := c.Follow(t.Context(), "orders", 1); err == nil {
		t.Errorf("a pipeline of which no end was seen was followed to its end:\n%s", out)
	}
}

func TestCollect(t *testing.T) {
	for code, wrong := range map[int]bool{http.StatusNotFound: false, http.StatusForbidden: true} {
		c, _ := (&broken{code: code}).chain(t)
		if err := c.Collect(t.Context(), []chain.Job{{Name: "build", ID: 7, Project: "nsflow/orders"}}); (err != nil) != wrong {
			t.Errorf("artifacts that are answered with %d: %v", code, err)
		}
	}
}
