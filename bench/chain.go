package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// starts are the limits of a program's start-up as a share of helm v3's.
var starts = []struct {
	tool  string
	limit float64
}{{"deploy", 0.75}, {"backup", 0.5}, {"promote", 0.5}, {"bootstrap", 0.35}, {"terraform", 0.35}}

// chain measures what the issue "The chain runs" asks for.
func chain(ctx context.Context) ([]row, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return nil, err
	}
	out := filepath.Join(root, "bench-report")
	helm := filepath.Join(out, "helm3")
	if err := command(ctx, filepath.Join(root, "bench", "peers", "helm3"), "go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", helm, "helm.sh/helm/v3/cmd/helm"); err != nil {
		return nil, err
	}
	// What is measured warm is built before.
	if _, err := buildAll(ctx, root, filepath.Join(root, "bin", "sandbox")); err != nil {
		return nil, err
	}
	if err := command(ctx, root, "make", "lint"); err != nil {
		return nil, err
	}
	var rows []row
	for _, s := range starts {
		// Ours and the peer's take turns, so that a busy moment hits both.
		ours, peer, err := medians(ctx, 10, []string{filepath.Join(root, "bin", "slipway-"+s.tool), "--version"}, []string{helm, "version", "--short"})
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{name: "start-" + s.tool, ours: ours, peer: peer, limit: s.limit})
	}
	for _, m := range []struct {
		name    string
		limit   float64
		before  []string
		command []string
		after   []string
	}{
		{"short-warm", 60, []string{"make", "short"}, []string{"make", "short"}, nil},
		{"sandbox-base", 30, []string{"bin/sandbox", "down"}, []string{"bin/sandbox", "up"}, []string{"bin/sandbox", "down"}},
		{"demo-warm", 300, nil, []string{"make", "demo"}, nil},
		{"test-warm", 720, nil, []string{"make", "test"}, nil},
	} {
		seconds, err := timed(ctx, root, m.before, m.command, m.after)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{name: m.name, ours: seconds, limit: m.limit})
	}
	return rows, nil
}

// timed returns how many seconds a command takes. What comes after it tidies
// up, and runs whatever happens.
func timed(ctx context.Context, dir string, before, what, after []string) (float64, error) {
	if len(before) > 0 {
		if err := command(ctx, dir, before...); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	err := command(ctx, dir, what...)
	seconds := time.Since(start).Seconds()
	if len(after) > 0 {
		if aerr := command(context.WithoutCancel(ctx), dir, after...); err == nil {
			err = aerr
		}
	}
	return seconds, err
}

func command(ctx context.Context, dir string, args ...string) error {
	fmt.Fprintf(os.Stderr, "bench: running %v\n", args)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	// It stops what it has started, which takes a while.
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, time.Minute
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %q: %w", args, err)
	}
	return nil
}

// medians returns the median seconds of n runs of two commands, after one run
// of each that warms the page cache.
func medians(ctx context.Context, n int, a, b []string) (float64, float64, error) {
	var as, bs []float64
	for i := range n + 1 {
		for _, c := range []struct {
			args []string
			into *[]float64
		}{{a, &as}, {b, &bs}} {
			start := time.Now()
			if out, err := exec.CommandContext(ctx, c.args[0], c.args[1:]...).CombinedOutput(); err != nil {
				return 0, 0, fmt.Errorf("running %q: %w: %s", c.args, err, out)
			}
			if i > 0 {
				*c.into = append(*c.into, time.Since(start).Seconds())
			}
		}
	}
	return median(as), median(bs), nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
