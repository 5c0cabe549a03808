package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func TestLines(t *testing.T) {
	rows, err := parse("killed 203/204\nlost-reply 1/1\n")
	if want := []row{{"killed", 203, 204}, {"lost-reply", 1, 1}}; err != nil || !slices.Equal(rows, want) {
		t.Fatalf("read %v, %v", rows, err)
	}
	if got := line("bootstrap", rows[0]); got != "CHAOS bootstrap/killed 203/204" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"", "killed\n", "killed 3\n", "killed x/y\n"} {
		if rows, err := parse(bad); err == nil {
			t.Errorf("%q was read as %v", bad, rows)
		}
	}
}

func TestUnknownArea(t *testing.T) {
	if err := run(t.Context(), "nothing"); err == nil {
		t.Error("an area that does not exist was measured")
	}
}

// A test that missed a point is measured; one that fails for another reason,
// or measures nothing, is an error.
func TestFigures(t *testing.T) {
	for script, want := range map[string][]row{
		`echo "killed 3/3" > "$SLIPWAY_CHAOS"`:         {{"killed", 3, 3}},
		`echo "killed 2/3" > "$SLIPWAY_CHAOS"; exit 1`: {{"killed", 2, 3}},
		`echo "killed 3/3" > "$SLIPWAY_CHAOS"; exit 1`: nil,
		`exit 1`: nil,
	} {
		got, err := figures(exec.CommandContext(t.Context(), "bash", "-c", script), filepath.Join(t.TempDir(), "figures"))
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%s: measured %v, %v", script, got, err)
		}
	}
}

// What is cancelled ends with all that it has started.
func TestFiguresAreCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures")
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, "bash", "-c", "sleep 1000 & echo started >&3; wait")
	cmd.ExtraFiles = []*os.File{w}
	ended := make(chan error, 1)
	go func() {
		_, err := figures(cmd, path)
		ended <- err
	}()
	lines := bufio.NewReader(r)
	if line, err := lines.ReadString('\n'); line != "started\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a cancelled run has figures")
	}
	w.Close()
	// The sleep has the other end of the pipe: it is closed when that has ended.
	if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("reading on gives %v", err)
	}
}
