package apply

import (
	"errors"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/estate"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// TestStopped: a code that claims that nothing was changed does not stand where
// something was.
func TestStopped(t *testing.T) {
	changed := estate.Result{Outcome: resource.Outcome{Changes: []resource.Change{{}}}}
	cause := errors.New("cause")
	for _, c := range []struct {
		code  int
		done  estate.Result
		after int
	}{
		{tool.Failed, estate.Result{}, tool.Failed}, {tool.Usage, estate.Result{}, tool.Usage},
		{tool.Failed, changed, tool.Broken}, {tool.Usage, changed, tool.Broken},
		{tool.Denied, changed, tool.Denied}, {tool.Cancelled, changed, tool.Cancelled},
	} {
		if got := tool.CodeOf(stopped(tool.Exit(c.code, cause), c.done)); got != c.after {
			t.Errorf("%d after %d changes ends with %d, want %d", c.code, len(c.done.Changes), got, c.after)
		}
	}
}
