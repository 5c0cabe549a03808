package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// sandboxScript builds what the sandbox runs, which is no part of what is
// killed, and runs the tests that kill `sandbox up` at every point.
const sandboxScript = `set -euo pipefail
bin/sandbox build --node=auto
unset SLIPWAY_SANDBOX # they make sandboxes of their own, and share the machine with none
cd sandbox
go test -count=1 -v -timeout 60m -run "$1" ./internal/killed`

// sandbox kills `sandbox up`, and looks whether the next `up` makes it whole,
// and what `down` leaves. Where this machine can run no real nodes, the row
// no-leftovers is missing.
func sandbox(ctx context.Context, root string) ([]row, error) {
	scratch, err := os.MkdirTemp("", "slipway-chaos-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the figures: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	cmd := exec.CommandContext(ctx, "bash", "-c", sandboxScript, "chaos", killTests)
	cmd.Dir = root
	return figures(cmd, filepath.Join(scratch, "figures"))
}
