package helmrelease

import (
	"context"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// putting puts one revision in place. It writes the records that Helm writes:
// first the pending one, so that whoever comes after a dead run sees what was
// begun, and deployed only once everything is ready.
type putting struct {
	client *Client
	waiter *client
	wait   Wait
	record *record
	list   []stored // revisions before this one
}

func (c *Client) putting(ctx context.Context, rel *release.Release, state State, w Wait) (*putting, error) {
	_, own, err := c.helm(ctx, rel.Namespace, rel.Name, w)
	if err != nil {
		return nil, err
	}
	own.number = rel.Version
	return &putting{client: c, waiter: own, wait: w, record: &record{rel: rel}, list: state.list}, nil
}

func (j *putting) began() { j.waiter.began() }

// Apply carries a plan out and waits until the release is ready.
func (c *Client) Apply(ctx context.Context, p *Plan, w Wait) (Outcome, error) {
	if err := p.Err(); err != nil {
		return Outcome{}, err
	}
	j, err := c.putting(ctx, p.rel, p.State, w)
	if err != nil {
		return Outcome{}, err
	}
	applied, err := c.applyCRDs(ctx, p, w.Timeout)
	if err == nil {
		err = c.complete(ctx, p)
	}
	if applied {
		j.began()
		err = tool.Hint(err, "the definitions of the release's kinds were applied, and stay; they serve the objects that there are as well")
	}
	if err == nil {
		err = j.run(ctx, p.changes)
	}
	return j.end(ctx, p.Spec, p.mask(err))
}

// complete looks at the objects whose kinds were not known before the
// definitions of this release were applied, and, like before, at all of them
// before one is touched.
func (c *Client) complete(ctx context.Context, p *Plan) error {
	var late []*change
	for i := range p.changes {
		if p.changes[i].unknown {
			late = append(late, &p.changes[i])
		}
	}
	if len(late) == 0 {
		return nil
	}
	list := make([]object, len(late))
	for i, ch := range late {
		list[i] = ch.object
	}
	if err := c.place(list, p.Spec.Namespace); err != nil {
		return err
	}
	p.Problems = nil
	olds, err := c.before(ctx, p.State, p.Spec.Namespace)
	if err != nil {
		return err
	}
	var old [][]object
	for _, o := range olds {
		old = append(old, slices.DeleteFunc(slices.Clone(o), func(o object) bool {
			return !slices.ContainsFunc(list, func(l object) bool { return l.key() == o.key() })
		}))
	}
	changes, err := c.differ(ctx, p.name(), list, old...)
	if err != nil {
		return err
	}
	for i, ch := range late {
		*ch = changes[i]
	}
	p.known(Look{})
	p.owned(p.changes, olds)
	if err := c.try(ctx, p, p.changes, Look{}); err != nil {
		return err
	}
	return refusals(p.Spec.Name, p.Problems)
}

// run stores the revision as pending, carries the changes out between its
// hooks, waits, and marks it deployed.
func (j *putting) run(ctx context.Context, changes []change) error {
	for _, ch := range changes {
		if ch.unknown {
			return fmt.Errorf("the cluster does not know kind %s of %s", ch.GroupVersionKind(), ch.key())
		}
	}
	namespace := j.record.rel.Namespace
	if err := j.client.prune(ctx, namespace, j.list); err != nil {
		return err
	}
	if err := j.client.save(ctx, j.record); err != nil {
		return err
	}
	before, after, done := release.HookPreUpgrade, release.HookPostUpgrade, "Upgrade complete"
	if j.record.rel.Info.Status == release.StatusPendingInstall {
		before, after, done = release.HookPreInstall, release.HookPostInstall, "Install complete"
	}
	if err := j.runHooks(ctx, before); err != nil {
		return err
	}
	if err := j.client.carryOut(ctx, changes, j.began); err != nil {
		return err
	}
	if err := j.waiter.await(results(changes), j.wait.Timeout, j.waiter.options); err != nil {
		return err
	}
	if err := j.runHooks(ctx, after); err != nil {
		return err
	}
	j.record.rel.SetStatus(release.StatusDeployed, done)
	j.record.rel.Info.LastDeployed = helmtime.Now() // ready since now, not since it was begun
	if err := j.client.save(ctx, j.record); err != nil {
		return err
	}
	// It is ready and stored as such: what is left to do is the older records'.
	if err := j.client.supersede(ctx, namespace, j.record.rel.Name, j.list); err != nil {
		if ctx.Err() != nil {
			return err
		}
		j.client.warn("%s: revision %d is deployed, and an older one is called so still, until the next release: %v", j.record.rel.Name, j.record.rel.Version, err)
	}
	return nil
}

// end marks a revision that failed as such. A run that was told to end makes
// no call any more: whoever holds the lease says what became of it.
func (j *putting) end(ctx context.Context, s Spec, err error) (Outcome, error) {
	o := j.waiter.outcome()
	stored := j.record.secret != nil
	if stored {
		o.Revision = j.record.rel.Version
	}
	if err == nil {
		return o, nil
	}
	if stored && ctx.Err() == nil && j.record.rel.Info.Status != release.StatusDeployed {
		j.record.rel.SetStatus(release.StatusFailed, fmt.Sprintf("Release %q failed: %v", s.Name, err))
		if serr := j.client.save(ctx, j.record); serr != nil {
			j.client.warn("%v", serr)
		}
	}
	return o, applyError(ctx, s, o, err)
}
