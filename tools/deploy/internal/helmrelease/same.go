package helmrelease

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
)

// compare finds out whether what is rendered is what is stored.
func (p *Plan) compare() {
	d := p.State.Deployed
	if d == nil || d != p.State.Last || len(slices.DeleteFunc(slices.Clone(p.State.list), func(r stored) bool { return !r.deployed() })) > 1 {
		return
	}
	was := d.record.rel
	p.same = strings.TrimSpace(was.Manifest) == strings.TrimSpace(p.rel.Manifest) && equal(hooksOf(was), hooksOf(p.rel)) &&
		equal(valuesOf(was), valuesOf(p.rel)) && was.Chart != nil && equal(origin(was.Chart), origin(p.rel.Chart))
	p.different = p.same && !maps.Equal(was.Chart.Metadata.Annotations, renewed(was.Chart, p.rel.Chart))
}

// noted are the annotations of the chart that say what a revision was made of.
const noted = "slipway.dev/"

// Annotations of the stored chart that say how far a rollback may go.
const (
	MigrationsAnnotation = noted + "migrations" // expand | contract
	BackupAnnotation     = noted + "backup"     // taken before the revision was released
)

// origin is what a stored chart says of itself, without our own notes.
func origin(c *chart.Chart) map[string]any {
	out := map[string]any{"name": c.Metadata.Name, "version": c.Metadata.Version, "app": c.Metadata.AppVersion}
	for k, v := range c.Metadata.Annotations {
		if !strings.HasPrefix(k, noted) {
			out["annotation "+k] = v
		}
	}
	return out
}

// renewed are the annotations of a chart with the notes of what it is made of
// now. What its revision did to the data stays noted: the next commit may say
// nothing of it any more, and the data is as it became.
func renewed(was, now *chart.Chart) map[string]string {
	out := map[string]string{}
	maps.Copy(out, now.Metadata.Annotations)
	if m := was.Metadata.Annotations[MigrationsAnnotation]; m == "contract" {
		out[MigrationsAnnotation] = m
	}
	if b := was.Metadata.Annotations[BackupAnnotation]; b != "" {
		out[BackupAnnotation] = b
	}
	return out
}

// NoteOrigin writes what the release is made of now into the record of the
// revision that runs, whose objects are the same. It changes nothing else.
func (c *Client) NoteOrigin(ctx context.Context, p *Plan) (*Revision, error) {
	r := p.State.Deployed.record
	r.rel.Chart.Metadata.Annotations = renewed(r.rel.Chart, p.rel.Chart)
	maps.Copy(r.rel.Labels, p.rel.Labels)
	r.rel.Info.LastDeployed = helmtime.Now() // what it is made of runs since now
	if err := c.save(ctx, r); err != nil {
		return nil, err
	}
	rev := revisionOf(r.rel)
	rev.record = r
	return rev, nil
}

func valuesOf(rel *release.Release) map[string]any {
	if rel.Config == nil {
		return map[string]any{}
	}
	return rel.Config
}

// hooksOf are the hooks without what their last run left.
func hooksOf(rel *release.Release) []release.Hook {
	out := []release.Hook{}
	for _, h := range rel.Hooks {
		one := *h
		one.LastRun = release.HookExecution{}
		if len(one.DeletePolicies) == 0 { // Helm's default, written when it ran
			one.DeletePolicies = []release.HookDeletePolicy{release.HookBeforeHookCreation}
		}
		out = append(out, one)
	}
	return out
}

func equal(a, b any) bool {
	x, xerr := json.Marshal(a)
	y, yerr := json.Marshal(b)
	return xerr == nil && yerr == nil && bytes.Equal(x, y)
}
