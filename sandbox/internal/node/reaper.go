package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper starts the node's programs and collects every process that ends in
// the node. The first process of a namespace gets those whose parent is gone,
// such as the shims of containers, so that waiting for single ones, as os/exec
// does, would not do.
type reaper struct {
	mu    sync.Mutex
	some  *sync.Cond // there are processes to wait for
	names map[int]string
	ended map[int]chan error
}

func newReaper() *reaper {
	r := &reaper{names: map[int]string{}, ended: map[int]chan error{}}
	r.some = sync.NewCond(&r.mu)
	go r.collect()
	return r
}

// start starts a program, whose end the channel gives.
func (r *reaper) start(c child, logPath, tmp string) (<-chan error, error) {
	path, err := exec.LookPath(c.argv[0])
	if err != nil {
		return nil, fmt.Errorf("starting %q: %w", c.name, err)
	}
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %q: %w", c.name, err)
	}
	defer out.Close()
	// A program that ends at once is collected after it has been entered here.
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, c.argv, &syscall.ProcAttr{
		Dir: "/", Env: append(os.Environ(), "TMPDIR="+tmp), Files: []uintptr{0, out.Fd(), out.Fd()},
	})
	if err != nil {
		return nil, fmt.Errorf("starting %q: %w", c.name, err)
	}
	done := make(chan error, 1)
	r.names[pid], r.ended[pid] = c.name, done
	r.some.Signal()
	return done, nil
}

func (r *reaper) collect() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			r.mu.Lock()
			for len(r.ended) == 0 {
				r.some.Wait()
			}
			r.mu.Unlock()
			continue
		}
		r.mu.Lock()
		if done, ok := r.ended[pid]; ok {
			done <- fmt.Errorf("the node's %s has ended: %s", r.names[pid], describe(status))
			delete(r.ended, pid)
			delete(r.names, pid)
		}
		r.mu.Unlock()
	}
}

func describe(s unix.WaitStatus) string {
	if s.Signaled() {
		return "signal " + s.Signal().String()
	}
	return fmt.Sprintf("exit status %d", s.ExitStatus())
}
