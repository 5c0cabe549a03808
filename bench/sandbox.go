package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// sandbox measures how long the sandbox takes to come up, and to be built with
// empty caches. A build's target is what its own first line promises.
func sandbox(ctx context.Context) ([]row, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the measurements: %w", err)
	}
	defer removeStopped(scratch)
	program := filepath.Join(root, "bin", "sandbox")
	// Nothing is left to be built while it comes up.
	nodes, err := buildAll(ctx, root, program)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, m := range []struct {
		name  string
		flags []string
		limit float64
	}{{"base-up", nil, 30}, {"node-up", []string{"--node"}, 60}} {
		if m.name == "node-up" && !nodes {
			fmt.Fprintln(os.Stderr, "bench: node-up is left out: this machine runs no real node")
			continue
		}
		dir := filepath.Join(scratch, m.name)
		up, down := append([]string{program, "up", "--dir", dir}, m.flags...), []string{program, "down", "--dir", dir}
		seconds, err := timed(ctx, root, nil, up, down)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{name: m.name, ours: seconds, limit: m.limit})
	}
	built, err := coldBuild(ctx, root, scratch, program, nodes)
	return append(rows, built...), err
}

// buildAll builds what is not built yet, for real nodes where the machine can
// run them, which it tells.
func buildAll(ctx context.Context, root, program string) (nodes bool, err error) {
	var said strings.Builder
	cmd := exec.CommandContext(ctx, program, "build", "--node=auto")
	cmd.Dir, cmd.Stdout = root, os.Stderr
	cmd.Stderr = io.MultiWriter(os.Stderr, &said)
	if err := cmd.Run(); err != nil {
		return false, fmt.Errorf("building what the sandbox runs: %w", err)
	}
	return !strings.Contains(said.String(), "no real node"), nil
}

var (
	promised = regexp.MustCompile(`building (\S+) \(about (\d+) (s|min) cold\)`)
	measured = regexp.MustCompile(`built (\S+) in (\S+)$`)
)

// coldBuild builds every part with a cache and a compiler's cache that are
// empty; downloaded modules are kept. The parts follow each other and share
// the compiler's cache, as on a new machine.
func coldBuild(ctx context.Context, root, scratch, program string, nodes bool) ([]row, error) {
	cmd := exec.CommandContext(ctx, program, "build", fmt.Sprintf("--node=%t", nodes))
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "SLIPWAY_CACHE="+filepath.Join(scratch, "cache"), "GOCACHE="+filepath.Join(scratch, "go"))
	out, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	fmt.Fprintf(os.Stderr, "bench: running %v with empty caches\n", cmd.Args)
	start := time.Now()
	ended := make(chan error, 1)
	go func() {
		err := cmd.Run()
		ended <- errors.Join(err, w.Close())
	}()
	rows, err := readBuilds(io.TeeReader(out, os.Stderr))
	out.CloseWithError(err) // nobody reads on
	if err = errors.Join(err, <-ended); err != nil {
		return nil, fmt.Errorf("building with empty caches: %w", err)
	}
	if len(rows) == 0 {
		return nil, errors.New("building with empty caches: the log names no part")
	}
	return append(rows, row{name: "build-all", ours: time.Since(start).Seconds(), limit: 3600}), nil
}

// readBuilds reads the promises and the measured times out of the log.
func readBuilds(log io.Reader) ([]row, error) {
	limits := map[string]float64{}
	var rows []row
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if m := promised.FindStringSubmatch(line); m != nil {
			unit := map[string]string{"s": "s", "min": "m"}[m[3]]
			d, err := time.ParseDuration(m[2] + unit)
			if err != nil {
				return rows, fmt.Errorf("reading %q: %w", line, err)
			}
			limits[m[1]] = d.Seconds()
		}
		if m := measured.FindStringSubmatch(line); m != nil {
			d, err := time.ParseDuration(m[2])
			if err != nil {
				return rows, fmt.Errorf("reading %q: %w", line, err)
			}
			rows = append(rows, row{name: "build-" + m[1], ours: d.Seconds(), limit: limits[m[1]]})
		}
	}
	return rows, lines.Err()
}

// removeStopped removes the scratch folder. It keeps that of a sandbox that
// could not be stopped: its journal says what is to be stopped.
func removeStopped(scratch string) {
	left, err := filepath.Glob(filepath.Join(scratch, "*", "journal.json"))
	if err != nil || len(left) == 0 {
		removeAll(scratch)
		return
	}
	for _, path := range left {
		fmt.Fprintf(os.Stderr, "bench: a sandbox could not be stopped: run bin/sandbox down --dir %s\n", filepath.Dir(path))
	}
}

// removeAll removes a folder, also of files that are written without the right
// to remove them, as Go's caches are.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // our own scratch folder
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench: removing the scratch folder:", err)
	}
}
