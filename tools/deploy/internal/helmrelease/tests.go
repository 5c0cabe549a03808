package helmrelease

import (
	"context"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Tests returns the names of a release's tests: the hooks of that kind that run.
func (c *Client) Tests(ctx context.Context, namespace, name string, revision int) ([]string, error) {
	r, err := c.load(ctx, namespace, name, revision)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range r.rel.Hooks {
		if slices.Contains(h.Events, release.HookTest) && (h.Kind == "Pod" || h.Kind == "Job") {
			out = append(out, h.Name)
		}
	}
	return out, nil
}

// Test runs the tests of a release, one after the other, until one fails. hook
// is told of each, and of how it ended.
func (c *Client) Test(ctx context.Context, namespace, name string, w Wait, hook func(name string) (end func(error))) (Outcome, error) {
	cfg, own, err := c.helm(ctx, namespace, name, w)
	if err != nil {
		return Outcome{}, err
	}
	failed := false
	own.hook = func(name string) func(error) {
		end := hook(name)
		return func(err error) { failed = failed || err != nil; end(err) }
	}
	t := action.NewReleaseTesting(cfg)
	t.Namespace, t.Timeout = namespace, w.Timeout
	_, err = t.Run(name)
	o := own.outcome()
	switch {
	case err == nil:
		return o, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case failed && o.Failure != nil:
		err = o.Failure
	}
	err = fmt.Errorf("testing %q: %w", name, denied(err))
	if failed && ctx.Err() == nil {
		err = tool.Exit(tool.Unproven, err, "what the test wrote stands above")
	}
	return o, err
}
