package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Lock is a file lock that ends with its process, however that ends.
type Lock struct{ file *os.File }

// TryLock takes the lock, or returns nil where another process has it.
func TryLock(path string) (*Lock, error) {
	return lock(path, syscall.LOCK_EX|syscall.LOCK_NB)
}

// WaitLock takes the lock as soon as it is free.
func WaitLock(ctx context.Context, path string) (*Lock, error) {
	type result struct {
		lock *Lock
		err  error
	}
	got := make(chan result, 1)
	go func() {
		l, err := lock(path, syscall.LOCK_EX)
		got <- result{l, err}
	}()
	select {
	case r := <-got:
		return r.lock, r.err
	case <-ctx.Done():
		go func() { // flock cannot be interrupted: give back what comes late
			if r := <-got; r.lock != nil {
				r.lock.Unlock()
			}
		}()
		return nil, ctx.Err()
	}
}

func lock(path string, how int) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		err = syscall.Flock(int(f.Fd()), how)
		if errors.Is(err, syscall.EINTR) {
			f.Close()
			continue
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, nil
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		// The file may have been removed while this process waited for it;
		// a lock on a file that nobody else can open locks nothing.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return &Lock{f}, nil
		}
		f.Close()
	}
}

// Unlock gives the lock back.
func (l *Lock) Unlock() { l.file.Close() }

// Remove deletes the lock's file and gives the lock back.
func (l *Lock) Remove() error {
	err := os.Remove(l.file.Name())
	l.file.Close()
	return err
}

// Tail returns the last n lines of a file, indented; "" where there are none.
func Tail(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	lines = lines[max(0, len(lines)-n):]
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return "  | " + strings.Join(lines, "\n  | ")
}
