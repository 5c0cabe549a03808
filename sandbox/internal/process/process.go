// Package process starts, knows again and ends the sandbox's processes. A
// process is named by its id and start time, since ids are given out again.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mark is the variable in the environment of every process of a sandbox, and
// of what these start in turn. Its value is the sandbox's folder. It finds
// the processes that no journal names: those whose starter was killed
// between starting and writing it down, and children of children.
const Mark = "SANDBOX_MEMBER"

// PartMark is the variable beside Mark that names the part.
const PartMark = "SANDBOX_PART"

// ID is one process and no other.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot, field 22 of /proc/PID/stat
}

// Find returns the identity of the process that has the id now.
func Find(pid int) (ID, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ID{}, fmt.Errorf("reading the state of process %d: %w", pid, err)
	}
	// The second field is the name in parentheses, which may hold anything.
	_, rest, ok := strings.Cut(string(raw[bytes.LastIndexByte(raw, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return ID{}, fmt.Errorf("reading the state of process %d: %q is not as expected", pid, raw)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return ID{}, fmt.Errorf("process %d has ended: %w", pid, os.ErrProcessDone)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return ID{}, fmt.Errorf("reading the start of process %d: %w", pid, err)
	}
	return ID{pid, start}, nil
}

// Alive tells whether the process still runs.
func (id ID) Alive() bool {
	now, err := Find(id.PID)
	return err == nil && now == id
}

// StartedAt is when the process started, to the second below.
func (id ID) StartedAt() (time.Time, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, fmt.Errorf("reading when the machine was booted: %w", err)
	}
	_, rest, _ := strings.Cut(string(raw), "\nbtime ")
	boot, err := strconv.ParseInt(strings.SplitN(rest, "\n", 2)[0], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading when the machine was booted: %w", err)
	}
	const ticks = 100 // a second, whatever the kernel's own clock does
	return time.Unix(boot+int64(id.Start/ticks), 0), nil
}

// Command says how to start a process.
type Command struct {
	Argv []string
	Env  []string // added to the environment
	Dir  string
	Log  string // file for both streams
	Mark string // the sandbox's folder
	Part string
}

// Started is a process of ours that was just started.
type Started struct {
	ID
	// Ended gives how it ended, once.
	Ended <-chan error
}

// Start starts a process that outlives this one, in a session of its own.
func Start(c Command) (*Started, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...) //nolint:noctx // it outlives this program
	// What a process that is killed leaves there goes with the sandbox.
	cmd.Env = append(environ(), "TMPDIR="+filepath.Join(c.Mark, "tmp"))
	cmd.Env = append(append(cmd.Env, c.Env...), Mark+"="+c.Mark, PartMark+"="+c.Part)
	cmd.Dir = c.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	id, err := Find(cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if err == nil {
			err = errors.New("it ended with exit status 0")
		}
		ended <- err
	}()
	if err != nil { // it has ended already: Ended tells how
		id = ID{PID: cmd.Process.Pid}
	}
	return &Started{ID: id, Ended: ended}, nil
}

// environ is this program's environment without what is about the user's own
// clouds and clusters: nothing of the sandbox may depend on it, or reach them.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		for _, prefix := range []string{"AWS_", "SLIPWAY_", "KUBECONFIG=", "KWOK_", "ROOT_ACCESS_KEY", "ROOT_SECRET", "VGW_", "MOTO_", "VELERO_", "ETCD_", "PYTHON"} {
			if strings.HasPrefix(kv, prefix) {
				return true
			}
		}
		return false
	})
}

// Stop ends processes: it asks all of them, waits, and kills those that are
// still there after grace. When it returns nil none of them runs.
func Stop(ctx context.Context, ids []ID, grace time.Duration) error {
	var handles []handle
	for _, id := range ids {
		h, err := open(id)
		if err != nil {
			return err
		}
		if h.fd >= 0 {
			defer h.close()
			handles = append(handles, h)
		}
	}
	for _, h := range handles {
		if err := h.signal(unix.SIGTERM); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(grace)
	for _, h := range handles {
		gone, err := h.wait(ctx, deadline)
		if err != nil {
			return err
		}
		if gone {
			continue
		}
		if err := h.signal(unix.SIGKILL); err != nil {
			return err
		}
		if gone, err = h.wait(ctx, time.Now().Add(10*time.Second)); err != nil {
			return err
		}
		if !gone {
			return fmt.Errorf("stopping process %d: it is still there 10 s after it was killed", h.id.PID)
		}
	}
	return nil
}

// handle is a process that cannot be mistaken for a later one of its id.
type handle struct {
	id ID
	fd int
}

func open(id ID) (handle, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return handle{id, -1}, nil
	}
	if err != nil {
		return handle{}, fmt.Errorf("opening process %d: %w", id.PID, err)
	}
	if !id.Alive() { // the id belongs to another process now
		handle{id, fd}.close()
		return handle{id, -1}, nil
	}
	return handle{id, fd}, nil
}

func (h handle) close() { _ = unix.Close(h.fd) } // nothing is written to it

func (h handle) signal(sig unix.Signal) error {
	err := unix.PidfdSendSignal(h.fd, sig, nil, 0)
	if err == nil || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return fmt.Errorf("stopping process %d: %w", h.id.PID, err)
}

// wait returns true once the process has ended, false at the deadline.
func (h handle) wait(ctx context.Context, deadline time.Time) (bool, error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		left := min(time.Until(deadline), 200*time.Millisecond) // wake up for ctx
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, int(max(left, 0).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("waiting for process %d: %w", h.id.PID, err)
		}
		if n > 0 {
			return true, nil
		}
		if time.Now().After(deadline) {
			return false, nil
		}
	}
}

// Ended gives the end of a process that this one has not started, whose exit
// status nobody can know then. It gives nothing once ctx has ended.
func Ended(ctx context.Context, id ID) <-chan error {
	ended := make(chan error, 1)
	go func() {
		h, err := open(id)
		if err == nil && h.fd >= 0 {
			defer h.close()
			var gone bool
			for !gone && err == nil {
				gone, err = h.wait(ctx, time.Now().Add(time.Minute))
			}
		}
		if ctx.Err() == nil {
			ended <- errors.Join(fmt.Errorf("process %d is gone", id.PID), err)
		}
	}()
	return ended
}

// Members returns the processes that carry the mark of a sandbox, and where
// part is not empty that of the part; never this one or those that started it.
func Members(mark, part string) ([]ID, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	own := ancestors()
	want := []string{Mark + "=" + mark}
	if part != "" {
		want = append(want, PartMark+"="+part)
	}
	var out []ID
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || slices.Contains(own, pid) {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !hasAll(strings.Split(string(env), "\x00"), want) {
			continue // somebody else's, or gone
		}
		if id, err := Find(pid); err == nil {
			out = append(out, id)
		}
	}
	return out, nil
}

func hasAll(list, want []string) bool {
	for _, w := range want {
		if !slices.Contains(list, w) {
			return false
		}
	}
	return true
}

func ancestors() []int {
	var out []int
	for pid := os.Getpid(); pid > 1 && !slices.Contains(out, pid); {
		out = append(out, pid)
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			break
		}
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		if len(fields) < 2 {
			break
		}
		if pid, err = strconv.Atoi(fields[1]); err != nil {
			break
		}
	}
	return out
}
