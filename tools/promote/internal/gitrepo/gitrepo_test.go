package gitrepo_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/gitrepo"
)

// bare makes a bare repository with one commit on main.
func bare(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path, work := filepath.Join(dir, "environments.git"), filepath.Join(dir, "work")
	sh(t, dir, "git init --quiet --bare --initial-branch=main environments.git && git clone --quiet environments.git work 2>/dev/null")
	sh(t, work, "git checkout --quiet -B main && mkdir stage && echo 'replicas: 2' > stage/orders.values.yaml && git add . && "+
		"git -c user.name=a -c user.email=a@b commit --quiet -m first && git push --quiet origin main")
	return path
}

func sh(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

func clone(t *testing.T, url string) (*gitrepo.Repo, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	r, err := gitrepo.Clone(t.Context(), gitrepo.Remote{URL: url, Branch: "main", Email: "slipway@gitlab.example.com"}, os.Getenv, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, &log
}

func put(path, text string) gitrepo.Edit {
	return func(context.Context) (map[string][]byte, error) {
		return map[string][]byte{path: []byte(text)}, nil
	}
}

func TestCommit(t *testing.T) {
	url := bare(t)
	r, _ := clone(t, url)
	commit, err := r.Commit(t.Context(), "promote orders", put("stage/orders.desired.yaml", "a\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := sh(t, url, "git log -1 --format='%H %an <%ae> %s' main"); got != commit+" Slipway <slipway@gitlab.example.com> promote orders" {
		t.Errorf("the branch is at %q", got)
	}
	again, err := r.Commit(t.Context(), "promote orders", put("stage/orders.desired.yaml", "a\n"))
	if err != nil || again != "" {
		t.Errorf("the same content gives commit %q, %v; want none", again, err)
	}
}

// TestCommitLosesARace pushes from elsewhere between the edit and the push.
func TestCommitLosesARace(t *testing.T) {
	url := bare(t)
	r, log := clone(t, url)
	other, _ := clone(t, url)
	asked := 0
	commit, err := r.Commit(t.Context(), "ours", func(ctx context.Context) (map[string][]byte, error) {
		asked++
		if asked < 3 {
			if _, err := other.Commit(ctx, "theirs", put("stage/catalog.desired.yaml", fmt.Sprintln(asked))); err != nil {
				return nil, err
			}
		}
		return map[string][]byte{"stage/orders.desired.yaml": []byte("ours\n")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked != 3 || strings.Count(log.String(), "somebody else pushed") != 2 {
		t.Errorf("asked %d times, log %q; want 3, after two lost races", asked, log)
	}
	if got := sh(t, url, "git log --format=%s main"); got != "ours\ntheirs\ntheirs\nfirst" {
		t.Errorf("history is %q", got)
	}
	if got := sh(t, url, "git rev-parse main"); got != commit {
		t.Errorf("main is at %s, want %s", got, commit)
	}
}

// TestCommitRaceThatChangesTheAnswer lets edit see the other's content.
func TestCommitRaceThatChangesTheAnswer(t *testing.T) {
	url := bare(t)
	r, _ := clone(t, url)
	other, _ := clone(t, url)
	_, err := r.Commit(t.Context(), "ours", func(ctx context.Context) (map[string][]byte, error) {
		raw, err := r.Read("stage/orders.desired.yaml")
		if err != nil {
			return nil, err
		}
		if raw != nil {
			return nil, tool.Exitf(tool.Temporary, "another promotion was written meanwhile")
		}
		if _, err := other.Commit(ctx, "theirs", put("stage/orders.desired.yaml", "theirs\n")); err != nil {
			return nil, err
		}
		return map[string][]byte{"stage/orders.desired.yaml": []byte("ours\n")}, nil
	})
	if tool.CodeOf(err) != tool.Temporary {
		t.Errorf("got %v, want the refusal of edit", err)
	}
	if got := sh(t, url, "git show main:stage/orders.desired.yaml"); got != "theirs" {
		t.Errorf("the file says %q", got)
	}
}

func TestManyWriters(t *testing.T) {
	url := bare(t)
	var wg sync.WaitGroup
	for i := range 4 {
		r, _ := clone(t, url)
		wg.Go(func() {
			if _, err := r.Commit(context.Background(), fmt.Sprint(i), put(fmt.Sprintf("stage/s%d.desired.yaml", i), "x\n")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := sh(t, url, "git ls-tree --name-only main stage/ | wc -l"); got != "5" {
		t.Errorf("%s files, want 5", got)
	}
}

func TestRefusedByTheServer(t *testing.T) {
	url := bare(t)
	hook := "#!/bin/sh\necho 'GitLab: You are not allowed to push code to protected branches on this project.' >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(url, "hooks", "pre-receive"), []byte(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	r, _ := clone(t, url)
	_, err := r.Commit(t.Context(), "x", put("a", "b"))
	if tool.CodeOf(err) != tool.Denied || len(tool.HintsOf(err)) == 0 && !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("got %v (code %d), want 77", err, tool.CodeOf(err))
	}
}

func TestReadAtAndHistory(t *testing.T) {
	url := bare(t)
	r, _ := clone(t, url)
	first, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"replicas: 3\n", "replicas: 4\n"} {
		if _, err := r.Commit(t.Context(), text, put("stage/orders.values.yaml", text)); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := r.ReadAt(t.Context(), first, "stage/orders.values.yaml")
	if err != nil || string(raw) != "replicas: 2\n" {
		t.Errorf("ReadAt = %q, %v", raw, err)
	}
	if raw, err := r.ReadAt(t.Context(), first, "stage/nothing"); err != nil || raw != nil {
		t.Errorf("ReadAt of nothing = %q, %v", raw, err)
	}
	all, err := r.History(t.Context(), "stage/orders.values.yaml")
	if err != nil || len(all) != 3 || string(all[0]) != "replicas: 4\n" || string(all[2]) != "replicas: 2\n" {
		t.Errorf("History = %q, %v", all, err)
	}
}
