package box

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// What the git of a killed `up` has left is no obstacle: neither its locks nor
// git itself, which may still be at work.
func TestGitOfAKilledUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	b, err := open(t.Context(), Config{Dir: dir, Env: os.Getenv, Say: t.Logf}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.lock.Unlock()
	repo := b.path("snapshot.git")
	if err := b.clearSnapshot(t.Context(), repo); err != nil {
		t.Fatalf("at the first time: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", "--bare", repo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	locks := []string{filepath.Join(repo, "index.lock"), filepath.Join(repo, "refs", "heads", "main.lock")}
	for _, path := range locks {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git := exec.CommandContext(t.Context(), "sleep", "1000")
	git.Env = append(os.Environ(), process.Mark+"="+dir, process.PartMark+"="+snapshotPart)
	if err := git.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- git.Wait() }()
	if err := b.clearSnapshot(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("git ended well, and was to be stopped")
	}
	for _, path := range locks {
		if exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	if !exists(filepath.Join(repo, "HEAD")) {
		t.Error("the repository is gone")
	}
}
