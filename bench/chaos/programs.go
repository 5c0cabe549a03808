package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// killTests is what the kill schedules of the programs are called; programTests
// are all tests of theirs that count.
const (
	killTests    = "^TestKillSchedule"
	programTests = "^Test(KillSchedule|SlowStarts)"
)

// script runs the tests of a program in a sandbox that is stopped at the end.
// No test may live on an identity that stands in the environment.
const script = `set -euo pipefail
trap 'bin/sandbox down' EXIT
bin/sandbox build
bin/sandbox up
eval "$(bin/sandbox env)"
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ENDPOINT_URL AWS_REGION KUBECONFIG
go test -p 1 -count=1 -v -timeout 60m -run "$1" "$2"`

// programs measures the kill schedules and the like of a program.
func programs(tool string) func(context.Context, string) ([]row, error) {
	return func(ctx context.Context, root string) ([]row, error) {
		scratch, err := os.MkdirTemp("", "slipway-chaos-")
		if err != nil {
			return nil, fmt.Errorf("making a folder for the figures: %w", err)
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		cmd := exec.CommandContext(ctx, "bash", "-c", script, "chaos", programTests, "./tools/"+tool+"/...")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "SLIPWAY_SANDBOX="+filepath.Join(scratch, "sandbox"))
		return figures(cmd, filepath.Join(scratch, "figures"))
	}
}

// figures runs the tests of a command, which write their figures to the file
// that SLIPWAY_CHAOS names. A test that missed a point fails, which is a figure
// and no error.
func figures(cmd *exec.Cmd, path string) ([]row, error) {
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Env = append(cmd.Environ(), "SLIPWAY_CHAOS="+path)
	// With all it started: the shell stops the sandbox when its tests are gone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	failed := cmd.Run()
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.Join(failed, fmt.Errorf("reading what the tests measured: %w", err))
	}
	rows, err := parse(string(raw))
	if err == nil && failed != nil && !slices.ContainsFunc(rows, func(r row) bool { return r.passed < r.tried }) {
		return nil, fmt.Errorf("running the tests: nothing was missed, and they failed: %w", failed)
	}
	return rows, err
}

// parse reads lines of "name passed/tried".
func parse(text string) ([]row, error) {
	var rows []row
	for line := range strings.Lines(text) {
		var r row
		name, figure, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, err := fmt.Sscanf(figure, "%d/%d", &r.passed, &r.tried); err != nil {
			return nil, fmt.Errorf("reading the figure %q: %w", line, err)
		}
		r.name = name
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return nil, errors.New("the tests measured nothing")
	}
	return rows, nil
}
