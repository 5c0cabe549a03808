package cmd

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
)

func TestWithin(t *testing.T) {
	hangs := func(ctx context.Context, _ *tool.Run, _ *cli.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err := within(time.Millisecond, hangs)(t.Context(), nil, nil); tool.CodeOf(err) != tool.Temporary {
		t.Errorf("a verb that hangs ended with %v (code %d), want 75", err, tool.CodeOf(err))
	}
	fails := func(context.Context, *tool.Run, *cli.Context) error { return errors.New("no") }
	if err := within(time.Hour, fails)(t.Context(), nil, nil); tool.CodeOf(err) != tool.Failed {
		t.Errorf("a verb that fails ended with %v (code %d), want 1", err, tool.CodeOf(err))
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := within(time.Hour, hangs)(cancelled, nil, nil); tool.CodeOf(err) != tool.Cancelled {
		t.Errorf("a verb that was cancelled ended with %v (code %d), want 130", err, tool.CodeOf(err))
	}
}
