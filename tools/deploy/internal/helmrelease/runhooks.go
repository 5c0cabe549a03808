package helmrelease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
)

// planHooks reads the objects of all hooks. Those that do not run this time
// have nothing to do.
func (c *Client) planHooks(rel *release.Release) ([]change, error) {
	now := []release.HookEvent{release.HookPreUpgrade, release.HookPostUpgrade}
	if rel.Info.Status == release.StatusPendingInstall {
		now = []release.HookEvent{release.HookPreInstall, release.HookPostInstall}
	}
	var out []change
	for _, h := range rel.Hooks {
		list, err := c.objects(h.Manifest, rel.Namespace)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Path, err)
		}
		for _, o := range list {
			o.source = h.Path
			ch := change{object: o, action: None}
			if slices.ContainsFunc(h.Events, func(e release.HookEvent) bool { return slices.Contains(now, e) }) {
				ch.action = Create
			}
			out = append(out, ch)
		}
	}
	return out, nil
}

// runHooks runs the hooks of an event one after the other, by weight and name,
// as Helm does: what is left of the last time goes first, and each must have
// run to its end before the next begins.
func (j *putting) runHooks(ctx context.Context, event release.HookEvent) error {
	var run []*release.Hook
	for _, h := range j.record.rel.Hooks {
		if slices.Contains(h.Events, event) {
			run = append(run, h)
		}
	}
	slices.SortStableFunc(run, func(a, b *release.Hook) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Name, b.Name))
	})
	for i, h := range run {
		if err := j.runHook(ctx, h); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx) // nothing goes out any more
			}
			err = fmt.Errorf("%s hook %s: %w", event, h.Path, err)
			if !h.LastRun.StartedAt.IsZero() {
				err = errors.Join(err, j.clear(release.HookFailed, h))
			}
			return errors.Join(err, j.clear(release.HookSucceeded, run[:i]...))
		}
	}
	slices.Reverse(run)
	return j.clear(release.HookSucceeded, run...)
}

func (j *putting) runHook(ctx context.Context, h *release.Hook) error {
	if len(h.DeletePolicies) == 0 {
		h.DeletePolicies = []release.HookDeletePolicy{release.HookBeforeHookCreation}
	}
	if err := j.clear(release.HookBeforeHookCreation, h); err != nil {
		return err
	}
	list, err := j.waiter.Build(strings.NewReader(h.Manifest), false)
	if err != nil {
		return err
	}
	h.LastRun = release.HookExecution{StartedAt: helmtime.Now(), Phase: release.HookPhaseRunning}
	if err := j.client.save(ctx, j.record); err != nil {
		return err
	}
	if _, err = j.waiter.Create(list); err == nil {
		err = j.waiter.WatchUntilReady(list, j.wait.Timeout)
	}
	h.LastRun.CompletedAt, h.LastRun.Phase = helmtime.Now(), release.HookPhaseSucceeded
	if err != nil {
		h.LastRun.Phase = release.HookPhaseFailed
	}
	return err
}

// clear deletes what hooks left, where they have the policy, and waits until
// it is gone. A definition of a kind stays: everything of its kind would go too.
func (j *putting) clear(policy release.HookDeletePolicy, hooks ...*release.Hook) error {
	for _, h := range hooks {
		if h.Kind == "CustomResourceDefinition" || !slices.Contains(h.DeletePolicies, policy) {
			continue
		}
		objects, err := j.client.objects(h.Manifest, j.record.rel.Namespace)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := j.waiter.clear(o); err != nil {
				return err
			}
		}
	}
	return nil
}
