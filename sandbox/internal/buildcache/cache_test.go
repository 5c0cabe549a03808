package buildcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

func tools(versions ...string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return versions, nil }
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kwok")
	write(t, dir+"/go.mod", "module a\n")
	write(t, dir+"/sub/main.go", "package main\n")
	base := Item{Name: "kwok", From: []string{dir}, Tools: tools("go1.26.8", "linux/amd64")}
	key := func(i Item) string {
		t.Helper()
		k, err := i.Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key(base)
	if again := key(base); again != first {
		t.Errorf("the same folder has the keys %s and %s", first, again)
	}
	if err := os.Chtimes(dir+"/go.mod", time.Now(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if again := key(base); again != first {
		t.Error("a file's time changed the key")
	}
	write(t, dir+"/node_modules/x/index.js", "what npm made is no source")
	if again := key(base); again != first {
		t.Error("node_modules changed the key")
	}
	for name, change := range map[string]func(Item) Item{
		"another Go version":   func(i Item) Item { i.Tools = tools("go1.26.9", "linux/amd64"); return i },
		"another architecture": func(i Item) Item { i.Tools = tools("go1.26.8", "linux/arm64"); return i },
		"another name":         func(i Item) Item { i.Name = "velero"; return i },
		"content":              func(i Item) Item { write(t, dir+"/go.mod", "module b\n"); return i },
		"a mode": func(i Item) Item {
			if err := os.Chmod(dir+"/go.mod", 0o755); err != nil {
				t.Fatal(err)
			}
			return i
		},
		"a new file": func(i Item) Item { write(t, dir+"/go.sum", ""); return i },
		"a renamed file": func(i Item) Item {
			if err := os.Rename(dir+"/sub/main.go", dir+"/sub/other.go"); err != nil {
				t.Fatal(err)
			}
			return i
		},
	} {
		before := key(base)
		if key(change(base)) == before {
			t.Errorf("%s does not change the key", name)
		}
	}
}

func TestGetBuildsOnce(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/go.mod", "module a\n")
	cache := t.TempDir()
	var built atomic.Int32
	item := Item{Name: "crane", From: []string{src}, Tools: tools("go1"), Build: func(_ context.Context, s Site) error {
		built.Add(1)
		return os.WriteFile(filepath.Join(s.Out, "crane"), []byte("program"), 0o755)
	}}
	write(t, cache+"/.building-crane.1/half", "left by a build that was killed")
	write(t, cache+"/.building-crane-plugin.1/half", "another item's build, at work")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { // each with a cache of its own, as processes have
			dir, err := (&Cache{Dir: cache}).Get(t.Context(), item)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(dir, "crane")); err != nil {
				t.Errorf("the folder is not whole: %v", err)
			}
		})
	}
	group.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	if _, err := os.Stat(cache + "/.building-crane.1"); err == nil {
		t.Error("what a killed build left is still there")
	}
	if _, err := os.Stat(cache + "/.building-crane-plugin.1"); err != nil {
		t.Error("another item's build was removed")
	}
}

// What killed builds have left goes, also of items that no longer exist; what
// a living process builds stays.
func TestSweep(t *testing.T) {
	cache := &Cache{Dir: t.TempDir()}
	lock, err := process.TryLock(cache.lockPath("kwok"))
	if err != nil || lock == nil {
		t.Fatal(lock, err)
	}
	defer lock.Unlock()
	for _, dir := range []string{".building-crane.1", ".building-crane.2", ".building-no-longer.made.3", ".building-kwok.4", "crane-0123"} {
		write(t, filepath.Join(cache.Dir, dir, "file"), "")
	}
	if err := cache.Sweep(); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(cache.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			left = append(left, e.Name())
		}
	}
	if got := strings.Join(left, " "); got != ".building-kwok.4 crane-0123" {
		t.Errorf("left is %q", got)
	}
	if err := (&Cache{Dir: filepath.Join(cache.Dir, "missing")}).Sweep(); err != nil {
		t.Errorf("without a cache: %v", err)
	}
}

func TestGetAfterFailure(t *testing.T) {
	src, cache := t.TempDir(), t.TempDir()
	write(t, src+"/go.mod", "module a\n")
	fail := true
	item := Item{Name: "kwok", From: []string{src}, Tools: tools("go1"), Build: func(_ context.Context, s Site) error {
		if err := os.WriteFile(filepath.Join(s.Out, "kwok"), nil, 0o755); err != nil {
			return err
		}
		if fail {
			fmt.Fprintln(s.Log, "undefined: x")
			return errors.New("exit status 1")
		}
		return nil
	}}
	c := &Cache{Dir: cache}
	_, err := c.Get(t.Context(), item)
	if err == nil || !strings.Contains(err.Error(), `building "kwok": exit status 1`) || !strings.Contains(err.Error(), "undefined: x") {
		t.Errorf("err = %v; it shall name the part and show the log", err)
	}
	if left, _ := filepath.Glob(cache + "/kwok-*"); len(left) > 0 {
		t.Errorf("a failed build left %v", left)
	}
	fail = false
	if _, err := c.Get(t.Context(), item); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}

func TestProgressLines(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/go.mod", "module a\n")
	said := make(chan string, 100)
	c := &Cache{Dir: t.TempDir(), Tick: time.Millisecond, Say: func(format string, args ...any) { said <- fmt.Sprintf(format, args...) }}
	_, err := c.Get(t.Context(), Item{Name: "velero", Cold: "7 min", From: []string{src}, Tools: tools("go1"), Build: func(ctx context.Context, _ Site) error {
		if first := <-said; first != "building velero (about 7 min cold)" {
			t.Errorf("the first line is %q", first)
		}
		select { // the build lasts until a line says how long it has
		case line := <-said:
			if !strings.HasPrefix(line, "building velero: ") {
				t.Errorf("a line is %q", line)
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	if err != nil {
		t.Error(err)
	}
}
