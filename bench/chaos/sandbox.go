package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// sandboxScript builds what the sandbox runs, which is no part of what is
// killed, and runs the tests that kill `sandbox up` at every point.
const sandboxScript = `set -euo pipefail
bin/sandbox build --node=auto
cd sandbox
go test -count=1 -v -timeout 60m -run "$1" ./internal/killed`

// sandbox kills `sandbox up`, and looks whether the next `up` makes it whole,
// and what `down` leaves. A test that missed a point fails, which is a figure
// and no error.
func sandbox(ctx context.Context, root string) ([]row, error) {
	scratch, err := os.MkdirTemp("", "slipway-chaos-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the figures: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	figures := filepath.Join(scratch, "figures")
	cmd := exec.CommandContext(ctx, "bash", "-c", sandboxScript, "chaos", killTests)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "SLIPWAY_CHAOS="+figures)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	failed := cmd.Run()
	raw, err := os.ReadFile(figures)
	if err != nil {
		return nil, errors.Join(failed, fmt.Errorf("reading what the tests measured: %w", err))
	}
	return parse(string(raw))
}
