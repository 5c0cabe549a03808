// Package scripttest runs the story tests of the programs: one story a file,
// with exit codes asserted by number.
package scripttest

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Run runs every story in dir. `exits N cmd args...` runs a command that must
// end with exit code N; its output is matched by stdout and stderr as usual.
func Run(t *testing.T, dir string) {
	t.Helper()
	run(t, testscript.Params{Dir: dir})
}

// RunFile runs one story, in an environment and beside files that setup makes.
func RunFile(t *testing.T, file string, setup func(*testscript.Env) error) {
	t.Helper()
	run(t, testscript.Params{Files: []string{file}, Setup: setup})
}

func run(t *testing.T, p testscript.Params) {
	t.Helper()
	p.RequireExplicitExec, p.UpdateScripts = true, os.Getenv("UPDATE_SCRIPTS") != ""
	p.Cmds = map[string]func(*testscript.TestScript, bool, []string){"exits": exits}
	testscript.Run(t, p)
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %q is no exit code", args[0])
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("exits: %v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
