package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is measured is interrupted with the benchmark, and tidied up after all.
func TestTimedTidiesUp(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	const gentle = `trap 'touch interrupted; kill $!; exit 1' INT; sleep 1000 & wait`
	if _, err := timed(ctx, dir, nil, []string{"bash", "-c", gentle}, []string{"touch", "tidied"}); err == nil {
		t.Error("what was interrupted has a time")
	}
	for _, name := range []string{"interrupted", "tidied"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// The folder of a sandbox that runs is kept.
func TestScratchIsKept(t *testing.T) {
	scratch := filepath.Join(t.TempDir(), "scratch")
	journal := filepath.Join(scratch, "base-up", "journal.json")
	if err := os.MkdirAll(filepath.Dir(journal), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	removeStopped(scratch)
	if _, err := os.Stat(journal); err != nil {
		t.Error(err)
	}
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	removeStopped(scratch)
	if _, err := os.Stat(scratch); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// A machine without real nodes is told from one with them, and a log that
// cannot be read ends the build.
func TestBuildsAreRead(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	for says, want := range map[string]bool{"no real node, since a real node needs root": false, "built and cached": true} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\necho "+says+" >&2\n"), 0o700); err != nil { //nolint:gosec // a program is to run
			t.Fatal(err)
		}
		if got, err := buildAll(t.Context(), dir, program); err != nil || got != want {
			t.Errorf("%q: real nodes %t, %v", says, got, err)
		}
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho 'built kwok in soon'\nyes\n"), 0o700); err != nil { //nolint:gosec // a program is to run
		t.Fatal(err)
	}
	if rows, err := coldBuild(t.Context(), dir, dir, program, false); err == nil {
		t.Errorf("it is read as %v", rows)
	}
}
