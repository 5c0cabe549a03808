package helmrelease

import (
	"context"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/release"
)

// before are the manifests that were asked for, without definitions.
func (c *Client) before(ctx context.Context, s State, namespace string) ([][]object, error) {
	all, err := c.asked(ctx, s, namespace)
	return withoutCRDs(all), err
}

// withoutCRDs leaves the definitions of kinds out: they go their own way, and
// are never taken away.
func withoutCRDs(manifests [][]object) [][]object {
	var out [][]object
	for _, m := range manifests {
		out = append(out, slices.DeleteFunc(slices.Clone(m), isCRD))
	}
	return out
}

// asked are the manifests of the deployed revision and of all that was tried
// since then, in their order: each may have brought what none after it has.
func (c *Client) asked(ctx context.Context, s State, namespace string) ([][]object, error) {
	var out [][]object
	for _, r := range slices.Backward(s.list) {
		if s.Deployed != nil && r.number < s.Deployed.Number {
			continue
		}
		if r.status == string(release.StatusUninstalled) {
			out = nil
			continue
		}
		rec, err := c.recordOf(ctx, s, namespace, r.number)
		if err != nil {
			return nil, err
		}
		list, err := c.objects(rec.rel.Manifest, namespace)
		if err != nil {
			return nil, fmt.Errorf("reading revision %d: %w", r.number, err)
		}
		out = append(out, list)
	}
	return out, nil
}

// recordOf returns the record of a revision, and reads it where nobody has.
func (c *Client) recordOf(ctx context.Context, s State, namespace string, number int) (*record, error) {
	for _, r := range []*Revision{s.Deployed, s.Last} {
		if r != nil && r.Number == number {
			return r.record, nil
		}
	}
	return c.load(ctx, namespace, s.Last.record.rel.Name, number)
}
