package killed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gitlab.com/slipway/slipway/sandbox/internal/buildcache"
)

// nobody is a user of every Linux machine who owns nothing.
const nobody = 65534

// A user who is not root gets the sandbox but for its real nodes, is told why
// these are left out, and `down` takes all of it away.
func TestUpWithoutRoot(t *testing.T) {
	y := newYard(t)
	if os.Geteuid() == 0 {
		if !inDen() {
			t.Skip("root of a container cannot make namespaces to be somebody else in")
		}
		y.becomeNobody(t)
	}
	before := y.look(t)
	t.Cleanup(func() { _, _ = y.run("down") }) // of what a failed test has left
	out, err := y.up()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "no real node, since a real node needs root") {
		t.Errorf("it does not say that there is no real node:\n%s", indent(out))
	}
	info, err := os.Stat(y.dir)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
		t.Errorf("%s belongs to root", y.dir)
	}
	if err := y.healthy(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := y.run("down"); err != nil {
		t.Error(err)
	}
	if got := left(before, y.look(t)); len(got) > 0 {
		t.Errorf("left is\n%s", indent(strings.Join(got, "\n")))
	}
}

// becomeNobody lets nobody run the sandbox's program from here on, with
// folders of his own.
func (y *yard) becomeNobody(t *testing.T) {
	t.Helper()
	scratch := filepath.Dir(y.program)
	home := filepath.Join(scratch, "home")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Chmod(filepath.Dir(scratch), 0o711)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(y.dir), y.tmp, y.cache, home} {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	for i, dir := range closedFolders(t, y.root) {
		openFolder(t, dir, filepath.Join(scratch, fmt.Sprintf("closed-%d", i)))
	}
	y.user = &syscall.Credential{Uid: nobody, Gid: nobody}
	// The repository is somebody else's, which git would refuse.
	y.env = []string{"HOME=" + home, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
}

// closedFolders are the folders that nobody cannot pass on the way to what is
// built already and to the tools that built it: root's home, mostly. A parent
// comes before what is in it.
func closedFolders(t *testing.T, root string) (closed []string) {
	t.Helper()
	cache, err := buildcache.Dir(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	python, err := exec.CommandContext(t.Context(), "python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(filepath.SplitList(os.Getenv("PATH")), root, cache, strings.TrimSpace(string(python))) {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			continue // PATH names folders that are not there
		}
		for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode()&0o001 == 0 {
				closed = append(closed, dir)
			}
		}
	}
	slices.Sort(closed)
	return slices.Compact(closed)
}

// openFolder lets everybody through a folder to those in it that are open by
// themselves. It is so in the mounts of the den alone.
func openFolder(t *testing.T, dir, closed string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	bind := func(from, to string) error {
		return errors.Join(os.Mkdir(to, 0o700), unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""))
	}
	if err := errors.Join(bind(dir, closed), unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0711")); err != nil {
		t.Fatalf("opening %q: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), unix.Unmount(closed, unix.MNT_DETACH)); err != nil {
			t.Errorf("closing %q: %v", dir, err)
		}
	})
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := bind(filepath.Join(closed, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatalf("opening %q: %v", dir, err)
		}
	}
}
