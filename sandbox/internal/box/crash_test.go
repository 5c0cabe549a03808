package box

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/sandbox/internal/netpolicy"
	"gitlab.com/slipway/slipway/sandbox/internal/process"
	"gitlab.com/slipway/slipway/sandbox/internal/serve"
)

// TestMain makes the test binary what the crash tests need as processes: a
// part, a server of a sandbox, or an `up` that is killed at a point.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == netpolicy.PluginName { // called by the containerd of a node that this binary has started
		os.Exit(netpolicy.Plugin())
	}
	if len(os.Args) == 5 && os.Args[1] == "serve" { // a part of a sandbox that this binary has started
		if err := serve.Run(context.Background(), os.Args[4], os.Args[3], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	switch os.Getenv("BOX_TEST") {
	case "":
		os.Exit(m.Run())
	case "part":
		err := http.ListenAndServe(os.Args[1], http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		panic(err)
	case "up":
		if err := fakeUp(context.Background(), os.Getenv("BOX_TEST_DIR"), os.Getenv("BOX_TEST_DIE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "build":
		panic(fakeBuild(context.Background(), os.Getenv("BOX_TEST_DIR"), os.Getenv("BOX_TEST_SCRIPT")))
	}
}

// fakeParts are parts like the real ones, of the test binary.
func fakeParts() []Part {
	part := func(name string, needs ...string) Part {
		return Part{
			Name: name, Needs: needs, Ports: []string{name},
			Command: func(b *Box) (Spec, error) {
				return Spec{Argv: []string{os.Args[0], b.addr(name)}, Env: []string{"BOX_TEST=part"}}, nil
			},
			Ready: func(ctx context.Context, b *Box) error { return answers(ctx, "http://"+b.addr(name)) },
		}
	}
	return []Part{part("etcd"), part("apiserver", "etcd"), part("scheduler", "apiserver"), part("moto")}
}

// fakeUp is Up with the fake parts. Where die names a point, the process
// kills itself there.
func fakeUp(ctx context.Context, dir, die string) error {
	b, err := open(ctx, Config{Dir: dir, Env: os.Getenv, Say: func(string, ...any) {}}, true)
	if err != nil {
		return err
	}
	defer b.lock.Unlock()
	if die != "" {
		b.point = func(point string) {
			if point == die {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	b.at("locked")
	parts := fakeParts()
	if err := errors.Join(os.MkdirAll(b.path("logs"), 0o700), b.choosePorts(ctx, parts)); err != nil {
		return err
	}
	b.at("ports")
	if err := b.run(ctx, parts); err != nil {
		return err
	}
	b.at("up")
	return nil
}

func killedUp(t *testing.T, dir, die string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "BOX_TEST=up", "BOX_TEST_DIR="+dir, "BOX_TEST_DIE="+die)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("up was to be killed at %q and ended with %v: %s", die, err, out)
	}
}

func members(t *testing.T, dir string) []process.ID {
	t.Helper()
	ids, err := process.Members(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// down is Down, which has to leave no process and no file.
func down(t *testing.T, dir string) {
	t.Helper()
	cfg := Config{Dir: dir, Env: os.Getenv, Say: t.Logf}
	if err := Down(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if left := members(t, dir); len(left) > 0 {
		t.Errorf("down left the processes %v", left)
	}
	if exists(dir) {
		t.Errorf("down left %s", dir)
	}
	if err := Down(context.Background(), cfg); err != nil {
		t.Errorf("down again: %v", err)
	}
}

func killPoints() []string {
	points := []string{"locked", "ports", "up"}
	for _, p := range fakeParts() {
		for _, at := range []string{"before", "announced", "running", "recorded"} {
			points = append(points, at+" "+p.Name)
		}
	}
	return points
}

// Wherever `up` is killed, the next `up` makes the sandbox whole, with each
// part once.
func TestUpAfterKilledUp(t *testing.T) {
	for _, die := range killPoints() {
		t.Run(die, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sandbox")
			t.Cleanup(func() { down(t, dir) })
			killedUp(t, dir, die)
			if err := fakeUp(t.Context(), dir, ""); err != nil {
				t.Fatal(err)
			}
			if ids := members(t, dir); len(ids) != len(fakeParts()) {
				t.Errorf("%d processes run, want %d", len(ids), len(fakeParts()))
			}
			j, err := process.OpenJournal(filepath.Join(dir, "journal.json"))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range fakeParts() {
				if e, ok := j.Entry(p.Name); !ok || !e.Alive() {
					t.Errorf("the journal has no live process for %s", p.Name)
				}
			}
		})
	}
}

// Wherever `up` is killed, `down` leaves nothing.
func TestDownAfterKilledUp(t *testing.T) {
	for _, die := range killPoints() {
		t.Run(die, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sandbox")
			killedUp(t, dir, die)
			down(t, dir)
		})
	}
}

func TestUpTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	t.Cleanup(func() { down(t, dir) })
	if err := fakeUp(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	first := members(t, dir)
	if err := fakeUp(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	if second := members(t, dir); fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("processes %v became %v", first, second)
	}
	// One part dies: it alone is started anew, on its old port.
	if err := process.Stop(t.Context(), first[:1], time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := fakeUp(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	third := members(t, dir)
	kept := 0
	for _, id := range third {
		for _, before := range first[1:] {
			if id == before {
				kept++
			}
		}
	}
	if len(third) != len(first) || kept != len(first)-1 {
		t.Errorf("processes %v became %v", first, third)
	}
}

// An `up` that comes while `down` removes the sandbox waits, and makes it anew.
func TestUpDuringDown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	cfg := Config{Dir: dir, Env: os.Getenv, Say: func(string, ...any) {}}
	for range 200 {
		b, err := open(t.Context(), cfg, true)
		if err != nil {
			t.Fatal(err)
		}
		b.lock.Unlock()
		downEnded := make(chan error, 1)
		go func() { downEnded <- Down(context.Background(), cfg) }()
		b, err = open(t.Context(), cfg, true)
		if err != nil {
			t.Errorf("up: %v", err)
		} else {
			if !exists(b.path("lock")) {
				t.Error("up has a lock that is not there")
			}
			b.lock.Unlock()
		}
		if err := <-downEnded; err != nil {
			t.Errorf("down: %v", err)
		}
	}
	down(t, dir)
}

// A folder that was removed under the processes of its sandbox: they carry its
// mark, and end.
func TestDownWithoutItsFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	if err := fakeUp(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	down(t, dir)
}

// What an `up` that was killed has half built goes with `down`.
func TestDownSweepsTheCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	t.Setenv("SLIPWAY_CACHE", t.TempDir())
	half := filepath.Join(os.Getenv("SLIPWAY_CACHE"), ".building-kwok.1", "out")
	for _, up := range []bool{true, false} {
		if err := os.MkdirAll(half, 0o755); err != nil {
			t.Fatal(err)
		}
		if up {
			if err := fakeUp(t.Context(), dir, ""); err != nil {
				t.Fatal(err)
			}
		}
		down(t, dir)
		if exists(half) {
			t.Errorf("down left %s", half)
		}
	}
}

func TestPartThatEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox")
	b, err := open(t.Context(), Config{Dir: dir, Env: os.Getenv, Say: t.Logf}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.lock.Unlock(); down(t, dir) })
	if err := os.MkdirAll(b.path("logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	err = b.run(t.Context(), []Part{{
		Name:    "etcd",
		Command: func(*Box) (Spec, error) { return Spec{Argv: []string{"sh", "-c", "echo address in use; exit 3"}}, nil },
		Ready:   func(ctx context.Context, _ *Box) error { <-ctx.Done(); return ctx.Err() },
	}, {
		Name:  "a step that waits meanwhile",
		Ready: func(ctx context.Context, _ *Box) error { <-ctx.Done(); return ctx.Err() },
	}, {Name: "apiserver", Needs: []string{"etcd"}, Ready: func(context.Context, *Box) error { t.Error("it was started without what it needs"); return nil }}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`starting "etcd"`, "its process ended: exit status 3", "address in use", b.logPath("etcd")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestFoldersOfOthersAreLeftAlone(t *testing.T) {
	for name, text := range map[string]string{"": "", "lock": "", "journal.json": `{"entries": []}`} {
		dir := t.TempDir()
		files := map[string]string{"thesis.txt": "", name: text}
		delete(files, "")
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg := Config{Dir: dir, Env: os.Getenv, Say: t.Logf}
		if err := Down(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "not a sandbox's") {
			t.Errorf("down beside %q: %v", name, err)
		}
		if err := Up(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "not a sandbox's") {
			t.Errorf("up beside %q: %v", name, err)
		}
		if !exists(filepath.Join(dir, "thesis.txt")) {
			t.Errorf("beside %q the file is gone", name)
		}
	}
}
