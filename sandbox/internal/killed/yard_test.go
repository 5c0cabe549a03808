package killed

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gitlab.com/slipway/slipway/internal/sandboxtest"

	"gitlab.com/slipway/slipway/sandbox/internal/box"
	"gitlab.com/slipway/slipway/sandbox/internal/buildcache"
)

// yard is where a sandbox is brought up by the real program, with folders of
// its own for all that it writes.
type yard struct {
	dir     string // the sandbox's folder
	tmp     string // for temporary files
	cache   string // of built programs: links to the user's
	root    string // the repository
	program string
	cgroups map[string]bool // that have been seen
	// nodeless is whether a cluster was seen without a real node, which alone
	// makes mounts, links and rules.
	nodeless bool

	user *syscall.Credential // who runs the program, if somebody else
	env  []string            // and what else is in his environment
}

// needsNodes is whether a sandbox without real nodes is none to test with: in a
// den, where there can be some, unless somebody else than root runs it. `make
// chaos` measures what there is.
func (y *yard) needsNodes() bool {
	return inDen() && y.user == nil && os.Getenv("SLIPWAY_CHAOS") == ""
}

// sawAll is whether all that a sandbox can leave was there to be seen.
func (y *yard) sawAll() bool { return inDen() && !y.nodeless }

// newYard skips where there is no sandbox to be had.
func newYard(t *testing.T) *yard {
	t.Helper()
	if !wanted() {
		t.Skip("needs what the sandbox runs: run make test")
	}
	if ci() && !inDen() {
		t.Fatal("what is left can be told as root alone")
	}
	sandboxtest.Private(t)
	root, err := box.FindRoot()
	if err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	y := &yard{
		dir: filepath.Join(scratch, "here", "sandbox"), tmp: filepath.Join(scratch, "tmp"), cache: filepath.Join(scratch, "cache"),
		root: root, program: filepath.Join(scratch, "program"), cgroups: map[string]bool{},
	}
	for _, dir := range []string{filepath.Dir(y.dir), y.tmp, y.cache} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", y.program, ".")
	build.Dir = filepath.Join(root, "sandbox")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the sandbox's program: %v: %s", err, out)
	}
	y.linkCache(t)
	return y
}

// linkCache makes the cache one of links to what is built already, so that
// what other processes build meanwhile is not seen.
func (y *yard) linkCache(t *testing.T) {
	t.Helper()
	real, err := buildcache.Dir(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			if err := os.Symlink(filepath.Join(real, e.Name()), filepath.Join(y.cache, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// command is a verb of the program on the sandbox.
func (y *yard) command(verb ...string) *exec.Cmd {
	cmd := exec.Command(y.program, append(verb, "--dir", y.dir)...)
	cmd.Dir = y.root
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); name != "SLIPWAY_SANDBOX" && name != role {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(append(cmd.Env, "TMPDIR="+y.tmp, "SLIPWAY_CACHE="+y.cache), y.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: y.user}
	return cmd
}

// run runs a verb to its end and returns what it says.
func (y *yard) run(verb ...string) (string, error) {
	out, err := y.command(verb...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("sandbox %s: %w\n%s", strings.Join(verb, " "), err, indent(string(out)))
	}
	return string(out), err
}

func (y *yard) up() (string, error) { return y.run("up", "--node=auto") }

func indent(s string) string {
	return "  | " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  | ")
}

// watchedUp runs `up` and kills it when something happens for the given time:
// "journal 3" is the third time that it has written its journal, "log 3" that
// it makes the log of its third process, which is then about to start, "line
// 3" the third line that it says. It returns all that happened, in order, and
// whether `up` was killed.
func (y *yard) watchedUp(point string) (seen []string, killed bool, err error) {
	// Its folder is there already, to be watched from the beginning.
	if err := os.Mkdir(y.dir, 0o700); err != nil && !os.IsExist(err) {
		return nil, false, err
	}
	files, err := watchFiles(y.dir)
	if err != nil {
		return nil, false, err
	}
	defer files.Close()
	cmd := y.command("up", "--node=auto")
	lines, err := cmd.StderrPipe()
	if err != nil {
		return nil, false, err
	}
	var mu sync.Mutex
	count := map[string]int{}
	happens := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		count[what]++
		seen = append(seen, fmt.Sprintf("%s %d", what, count[what]))
		if seen[len(seen)-1] == point {
			killed = cmd.Process.Kill() == nil
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, false, err
	}
	var watching sync.WaitGroup
	watching.Go(func() { files.each(happens) })
	var said bytes.Buffer
	scanner := bufio.NewScanner(io.TeeReader(lines, &said))
	for scanner.Scan() {
		happens("line")
		if strings.Contains(scanner.Text(), "building ") {
			happens("build")
		}
	}
	ended := cmd.Wait()
	files.Close()
	watching.Wait()
	if ended != nil && !killed {
		return seen, false, fmt.Errorf("sandbox up: %w\n%s", ended, indent(said.String()))
	}
	return seen, killed && ended != nil, nil
}

// fileWatch tells of the files of a sandbox's folder as they are made.
type fileWatch struct {
	*os.File
	dir  string
	logs int32 // the watch of the folder of logs
}

func watchFiles(dir string) (*fileWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching %q: %w", dir, err)
	}
	w := &fileWatch{File: os.NewFile(uintptr(fd), "inotify"), dir: dir, logs: -1}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_CREATE); err != nil {
		w.Close()
		return nil, fmt.Errorf("watching %q: %w", dir, err)
	}
	return w, nil
}

// each calls happens until the watch is closed.
func (w *fileWatch) each(happens func(string)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.Read(buf)
		if err != nil {
			return
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			watch, length := int32(binary.NativeEndian.Uint32(rest)), binary.NativeEndian.Uint32(rest[12:])
			mask := binary.NativeEndian.Uint32(rest[4:])
			end := unix.SizeofInotifyEvent + int(length)
			name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:end]), "\x00")
			rest = rest[end:]
			switch {
			case watch == w.logs:
				happens("log")
			case name == "journal.json" && mask&unix.IN_MOVED_TO != 0:
				happens("journal")
			case name == "logs":
				w.addLogs()
			}
		}
	}
}

func (w *fileWatch) addLogs() {
	raw, err := w.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Control(func(fd uintptr) { // closed: nothing more is to be told
		if watch, err := unix.InotifyAddWatch(int(fd), filepath.Join(w.dir, "logs"), unix.IN_CREATE); err == nil {
			w.logs = int32(watch)
		}
	})
}
