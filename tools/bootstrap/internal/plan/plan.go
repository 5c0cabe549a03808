// Package plan lists what apply would change.
package plan

import (
	"context"
	"errors"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/estate"
)

// Run reads the live organisation and lists every change it needs. With
// detailed, pending changes end in exit code 3.
func Run(ctx context.Context, run *tool.Run, e *estate.Estate, detailed bool) error {
	found, err := e.Run(ctx, run, false)
	if err != nil {
		return err
	}
	text := "nothing to change: " + found.Summary("to create", "to update")
	if len(found.Changes) > 0 {
		text = found.Lines() + found.Summary("to create", "to update")
	}
	if err := run.Result(found, text); err != nil {
		return err
	}
	if detailed && len(found.Changes) > 0 {
		return tool.Exit(tool.Pending, errors.New("changes are pending"), "slipway-bootstrap apply makes them")
	}
	return nil
}
