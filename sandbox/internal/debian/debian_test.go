package debian

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gitlab.com/slipway/slipway/sandbox/internal/image"
)

// folder is an image's folder, with a recipe and one program.
func folder(t *testing.T, recipe string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "image.json"), recipe, 0o644)
	write(t, filepath.Join(dir, "bin", "entrypoint"), "#!/bin/sh\n", 0o755)
	return dir
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

const small = `{"suite": "bookworm", "packages": ["hello"], "user": "app", "config": {"Entrypoint": ["/usr/local/bin/entrypoint"], "StopSignal": "SIGINT"}}`

// stand puts a script in the place of mmdebstrap, which installs packages
// from the network; the namespaces around it are real.
func stand(t *testing.T, script string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("images of Debian packages are made by root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "mmdebstrap"), "#!/bin/bash\nset -e\n"+script, 0o755)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestRecipesOfTheSandbox(t *testing.T) {
	for _, name := range []string{"postgres", "rabbitmq"} {
		dir := filepath.Join("..", "..", "build", name)
		r, err := read(filepath.Join(dir, "image.json"))
		if err != nil {
			t.Error(err)
		}
		if r.Config.User != "999:999" {
			t.Errorf("%s runs as %q", name, r.Config.User)
		}
		files, err := programs(filepath.Join(dir, "bin"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %v, %v", name, files, err)
		}
		for _, f := range files {
			if out, err := exec.CommandContext(t.Context(), "sh", "-n", f.From).CombinedOutput(); err != nil {
				t.Errorf("%s: %s", f.From, out)
			}
		}
	}
}

func TestRecipeThatIsRefused(t *testing.T) {
	_, err := read(filepath.Join(folder(t, `{"suite": "$(id)", "packages": ["a b"], "user": "", "remove": ["/../etc", "/x;id"], "exclude": ["rel"], "config": {}}`), "image.json"))
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, want := range []string{`"$(id)"`, `"a b"`, `"" is no name`, `"/../etc"`, `"/x;id"`, `"rel"`, "no entry point"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	if _, err := read(filepath.Join(folder(t, `{"suites": "x"}`), "image.json")); err == nil || !strings.Contains(err.Error(), "suites") {
		t.Errorf("an unknown field: %v", err)
	}
}

func TestBuildPacksWhatIsInstalled(t *testing.T) {
	stand(t, `tar="${@: -1}"; mkdir r; echo hi >r/hello; tar --create --file "$tar" --mtime @1735689600 --directory r hello; rm -r r`)
	var digests []string
	for range 2 {
		out := t.TempDir()
		if err := Build(t.Context(), folder(t, small), out, io.Discard); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(out); err != nil || len(left) != 1 {
			t.Errorf("beside the image there is %v, %v", left, err)
		}
		img, err := image.Load(filepath.Join(out, "image"))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := img.ConfigFile()
		if err != nil || cfg.Config.StopSignal != "SIGINT" || len(cfg.RootFS.DiffIDs) != 2 {
			t.Errorf("the image is %+v, %v", cfg, err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("the same content has the digests %v", digests)
	}
}

func TestBuildThatFails(t *testing.T) {
	stand(t, `echo "E: no such package"; exit 25`)
	var log strings.Builder
	err := Build(t.Context(), folder(t, small), t.TempDir(), &log)
	if err == nil || !strings.Contains(err.Error(), "installing hello") || !strings.Contains(log.String(), "no such package") {
		t.Errorf("err = %v, log %q", err, log.String())
	}
}

// hang mounts something, starts a process that ends by nothing but a kill, and
// holds a pipe open as long as one of its processes lives.
const hang = `mkdir "$TMPDIR/mnt"; mount -t tmpfs tmpfs "$TMPDIR/mnt"; touch "$TMPDIR/mnt/file"
exec 3>"$STARTED"; (trap '' TERM HUP INT; echo started >&3; sleep infinity) & wait`

// A build that is cancelled, or whose program is killed, leaves neither a
// process nor a mount.
func TestBuildThatIsEnded(t *testing.T) {
	for name, sig := range map[string]os.Signal{"cancelled": os.Interrupt, "killed": os.Kill} {
		t.Run(name, func(t *testing.T) {
			stand(t, hang)
			out, started := t.TempDir(), filepath.Join(t.TempDir(), "started")
			if err := syscall.Mkfifo(started, 0o600); err != nil {
				t.Fatal(err)
			}
			builder := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBuilder$")
			builder.Env = append(os.Environ(), "STARTED="+started, "BUILDER_FOLDER="+folder(t, small), "BUILDER_OUT="+out)
			if err := builder.Start(); err != nil {
				t.Fatal(err)
			}
			pipe, err := os.Open(started)
			if err != nil {
				t.Fatal(err)
			}
			defer pipe.Close()
			lines := bufio.NewReader(pipe)
			if line, err := lines.ReadString('\n'); err != nil || line != "started\n" {
				t.Fatalf("the build says %q, %v", line, err)
			}
			if err := builder.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			// The pipe ends when the last of the build's processes has.
			if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
				t.Errorf("the build says %q, %v", rest, err)
			}
			if err := builder.Wait(); sig == os.Interrupt && err != nil {
				t.Errorf("the builder: %v", err)
			}
			if left, err := os.ReadDir(filepath.Join(out, "mnt")); err != nil || len(left) > 0 {
				t.Errorf("what was mounted shows %v, %v", left, err)
			}
		})
	}
}

// TestBuilder is the program that builds, for TestBuildThatIsEnded.
func TestBuilder(t *testing.T) {
	dir := os.Getenv("BUILDER_FOLDER")
	if dir == "" {
		return
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	if err := Build(ctx, dir, os.Getenv("BUILDER_OUT"), io.Discard); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
