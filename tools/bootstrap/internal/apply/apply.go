// Package apply makes the live organisation what the landscape says.
package apply

import (
	"context"
	"fmt"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/estate"
)

// Run changes what differs and reads each change back. What cannot be done with
// the organisation and its accounts is told before anything is changed.
func Run(ctx context.Context, run *tool.Run, e *estate.Estate) error {
	if err := run.Step(ctx, "look first", e.Look); err != nil {
		return err
	}
	done, err := e.Run(ctx, run, true)
	if err != nil {
		return stopped(err, done)
	}
	text := done.Summary("created", "updated")
	if len(done.Changes) == 0 {
		text = "nothing to change: " + text
	}
	return run.Result(done, text)
}

// stopped says what an apply that failed has left: 1 and 64 would claim that
// nothing was changed.
func stopped(err error, done estate.Result) error {
	n := len(done.Changes)
	if n == 0 {
		return err
	}
	hint := fmt.Sprintf("%d changes were made or begun and stay; run it again: it goes on where it stopped", n)
	if code := tool.CodeOf(err); code == tool.Failed || code == tool.Usage {
		return tool.Exit(tool.Broken, err, hint)
	}
	return tool.Hint(err, hint)
}
