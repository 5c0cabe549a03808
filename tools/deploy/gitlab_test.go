package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// git makes the service's folder a repository, or a commit in it.
func (w *world) git(script string) string {
	w.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// read returns a file of the world.
func (w *world) read(file string) string {
	w.t.Helper()
	raw, err := os.ReadFile(filepath.Join(w.dir, file))
	w.must(err)
	return string(raw)
}

// TestOlderCommitIsRefused: a person whose checkout is behind does not bring
// the older state back; the one who reverts does.
func TestOlderCommitIsRefused(t *testing.T) {
	w := newWorld(t)
	const commit = " && git add -A chart slipway.yaml values.yaml && git -c user.name=Bob -c user.email=bob@example.com commit --quiet -m change"
	w.write(".gitignore", "*\n") // the test's own files
	w.git("git init --quiet -b main . && git add -f slipway.yaml chart values.yaml" + strings.Replace(commit, " && git add -A chart slipway.yaml values.yaml", "", 1))
	first := w.git("git rev-parse HEAD")
	w.run(0, "apply", "--environment", "dev")
	w.values("greeting: two")
	w.git("true" + strings.Replace(commit, "git add -A", "git add -f", 1))
	w.run(0, "apply", "--environment", "dev")
	w.git("git checkout --quiet " + first)
	_, log := w.run(4, "apply", "--environment", "dev")
	if !strings.Contains(log, "deploying commit "+first[:12]) || !strings.Contains(log, "hint: to go back on purpose") {
		t.Errorf("the refusal says:\n%s", log)
	}
	if got := w.statuses(); got != "superseded deployed" {
		t.Errorf("history: %s", got)
	}
	w.git("git checkout --quiet main && git -c user.name=Bob -c user.email=bob@example.com revert --no-edit HEAD")
	w.run(0, "apply", "--environment", "dev")
}
