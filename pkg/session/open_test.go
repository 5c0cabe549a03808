package session

import (
	"encoding/json"
	"io"
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
