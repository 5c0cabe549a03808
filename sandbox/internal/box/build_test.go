package box

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/sandbox/internal/buildcache"
)

// fakeBuild builds what an `up` on the sandbox would, with a script for a
// compiler.
func fakeBuild(ctx context.Context, dir, script string) error {
	b, err := open(ctx, Config{Dir: filepath.Join(dir, "sandbox"), Env: os.Getenv, Say: func(string, ...any) {}}, true)
	if err != nil {
		return err
	}
	defer b.lock.Unlock()
	if err := b.beginBuilding(ctx); err != nil {
		return err
	}
	cache := &buildcache.Cache{Dir: filepath.Join(dir, "cache")}
	_, err = cache.Get(ctx, buildcache.Item{
		Name: "program", Tools: func(context.Context) ([]string, error) { return nil, nil },
		Build: func(ctx context.Context, s buildcache.Site) error {
			return b.tool(ctx, s, s.Out, nil, "sh", "-c", script)
		},
	})
	return err
}

// What an `up` that was killed while it built has left, of processes and of
// files, is gone when the next one has built.
func TestUpKilledWhileItBuilds(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	// As go does: it makes a temporary folder and starts compilers.
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "BOX_TEST=build", "BOX_TEST_DIR="+dir, "TMPDIR="+tmp, "BOX_TEST_SCRIPT=mktemp -d; sleep 1000 & echo started >&3; wait")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd.ExtraFiles = []*os.File{write}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if _, err := io.ReadFull(read, make([]byte, len("started\n"))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait())); err != nil {
		t.Fatal(err)
	}
	if err := fakeBuild(t.Context(), dir, "echo built > program"); err != nil {
		t.Fatal(err)
	}
	// The compiler has the other end of the pipe, until it ends.
	if err := read.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(read); err != nil {
		t.Errorf("the compiler runs on: %v", err)
	}
	down(t, filepath.Join(dir, "sandbox"))
	left, err := filepath.Glob(filepath.Join(tmp, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left is %v, %v", left, err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".building") {
			t.Errorf("left is %s", e.Name())
		}
	}
}

func ignoreExit(err error) error {
	if errors.As(err, new(*exec.ExitError)) {
		return nil
	}
	return err
}
