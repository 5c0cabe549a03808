package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// Lock is a file lock that ends with its process, however that ends.
type Lock struct {
	file *os.File
	with []io.Closer
}

// With closes c when the lock is given back.
func (l *Lock) With(c io.Closer) { l.with = append(l.with, c) }

// TryLock takes the lock, or returns nil where another process has it.
func TryLock(path string) (*Lock, error) {
	for {
		f, err := openLock(path)
		if err != nil {
			return nil, err
		}
		if l, err := take(f, path, syscall.LOCK_EX|syscall.LOCK_NB); l != nil || err != nil {
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, nil
			}
			return l, err
		}
	}
}

// WaitLock takes the lock as soon as it is free.
func WaitLock(ctx context.Context, path string) (*Lock, error) {
	type result struct {
		lock *Lock
		err  error
	}
	for {
		// Opened here and not where the wait is: a wait that was given up must
		// not make the file anew.
		f, err := openLock(path)
		if err != nil {
			return nil, err
		}
		got := make(chan result, 1)
		go func() {
			l, err := take(f, path, syscall.LOCK_EX)
			got <- result{l, err}
		}()
		select {
		case r := <-got:
			if r.lock != nil || r.err != nil {
				return r.lock, r.err
			}
		case <-ctx.Done():
			go func() { // flock cannot be interrupted: give back what comes late
				if r := <-got; r.lock != nil {
					r.lock.Unlock()
				}
			}()
			return nil, ctx.Err()
		}
	}
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %q: %w", path, err)
	}
	return f, nil
}

// take locks the open file, and closes it where that gave nothing. It returns
// nil where the file has been removed meanwhile: a lock on a file that nobody
// else can open locks nothing.
func take(f *os.File, path string, how int) (*Lock, error) {
	err := syscall.Flock(int(f.Fd()), how)
	for errors.Is(err, syscall.EINTR) {
		err = syscall.Flock(int(f.Fd()), how)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %q: %w", path, err)
	}
	mine, err1 := f.Stat()
	there, err2 := os.Stat(path)
	if err1 == nil && err2 == nil && os.SameFile(mine, there) {
		return &Lock{file: f}, nil
	}
	f.Close()
	return nil, nil
}

// Unlock gives the lock back.
func (l *Lock) Unlock() {
	for _, c := range l.with {
		c.Close()
	}
	l.file.Close()
}

// Remove deletes the lock's file and gives the lock back.
func (l *Lock) Remove() error {
	err := os.Remove(l.file.Name())
	l.Unlock()
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
