package session

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// openWith opens a session over a snapshot file with an environment.
func openWith(t *testing.T, env map[string]string) (*Session, error) {
	t.Helper()
	raw, err := json.Marshal(landscape.Snapshot{APIVersion: "slipway/v1", Kind: "LandscapeSnapshot",
		GitLab: landscape.GitLab{URL: "https://gitlab.example.com", Audience: "https://gitlab.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "snapshot.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	run := &tool.Run{Env: func(name string) string { return env[name] }, Log: joblog.New(io.Discard, false), Report: report.New("slipway-test", "open", "test")}
	return Open(t.Context(), run, Options{Landscape: file})
}

// TestOtherInstance: a landscape's records are asked of its own GitLab alone.
func TestOtherInstance(t *testing.T) {
	for _, token := range []string{"CI_JOB_TOKEN", "SLIPWAY_GITLAB_TOKEN"} {
		if _, err := openWith(t, map[string]string{token: "token-0123456789", "CI_SERVER_URL": "https://gitlab.com"}); tool.CodeOf(err) != tool.Usage {
			t.Errorf("with %s for another instance: %v (code %d), want a refusal with 64", token, err, tool.CodeOf(err))
		}
	}
	s, err := openWith(t, map[string]string{"SLIPWAY_GITLAB_TOKEN": "token-0123456789", "CI_SERVER_URL": "https://gitlab.example.com/"})
	if err != nil || s.GitLab == nil || s.Owner.Kind != "person" {
		t.Errorf("a person at the landscape's own instance: %+v, %v", s, err)
	}
}

// TestNothingAnswers: what cannot be asked yet is worth another try, and what
// is answered is not.
func TestNothingAnswers(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	answers := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	for endpoint, want := range map[string]int{gone.URL: tool.Temporary, answers(502): tool.Temporary, answers(404): tool.Failed, answers(403): tool.Denied} {
		t.Run(fmt.Sprint(want), func(t *testing.T) {
			t.Parallel() // the client tries again for some seconds
			env := map[string]string{"CI_JOB_TOKEN": "token-0123456789", "SLIPWAY_ID_TOKEN": "x.y.z", "CI_SERVER_URL": "https://gitlab.example.com", "SLIPWAY_GITLAB_ENDPOINT": endpoint}
			run := &tool.Run{Env: func(name string) string { return env[name] }, Log: joblog.New(io.Discard, false), Report: report.New("slipway-test", "open", "test")}
			if _, err := Open(t.Context(), run, Options{Landscape: "gitlab:nsflow/platform"}); tool.CodeOf(err) != want {
				t.Errorf("the snapshot at %s: %v (code %d), want %d", endpoint, err, tool.CodeOf(err), want)
			}
		})
	}
	// A good form, so that the keys are asked for.
	token := "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2dpdGxhYi5leGFtcGxlLmNvbSIsImF1ZCI6Imh0dHBzOi8vZ2l0bGFiLmV4YW1wbGUuY29tIiwiZXhwIjo0MTAyNDQ0ODAwfQ.c2ln" //nolint:gosec // signed by nobody
	_, err := openWith(t, map[string]string{"SLIPWAY_ID_TOKEN": token, "CI_SERVER_URL": "https://gitlab.example.com", "SLIPWAY_GITLAB_ENDPOINT": gone.URL})
	if tool.CodeOf(err) != tool.Temporary {
		t.Errorf("the keys of ID tokens: %v (code %d), want %d", err, tool.CodeOf(err), tool.Temporary)
	}
}
