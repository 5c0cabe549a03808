package helmrelease

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gitlab.com/slipway/slipway/pkg/rollout"
)

// applyCRDs applies the definitions of a chart's crds folder, which Helm
// itself installs once and never upgrades, and waits until the server serves
// their kinds. A stored version cannot get lost: the server refuses that.
func (c *Client) applyCRDs(ctx context.Context, chart *Chart, timeout time.Duration) (changed bool, err error) {
	list := chart.c.CRDObjects()
	if len(list) == 0 {
		return false, nil
	}
	gvr := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	var applied []*unstructured.Unstructured
	for _, f := range list {
		docs, err := documents(string(f.File.Data))
		if err != nil {
			return changed, fmt.Errorf("reading %q of chart %q: %w", f.Filename, chart.Name(), err)
		}
		for _, u := range rollout.Objects(docs, "") {
			changed = true
			got, err := c.cluster.Dynamic().Resource(gvr).Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: "slipway-deploy", Force: true})
			if err != nil {
				return changed, fmt.Errorf("applying %q of chart %q: %w", u.GetName(), chart.Name(), err)
			}
			applied = append(applied, got)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not served after %s", timeout))
	defer cancel()
	if _, err := c.watcher.Wait(ctx, applied, rollout.Options{}); err != nil {
		return changed, fmt.Errorf("establishing the kinds of chart %q: %w", chart.Name(), err)
	}
	return changed, c.cluster.Refresh()
}
