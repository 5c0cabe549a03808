package velero

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// transfers are where Velero says how far the data of volumes is, and the label
// by which those of one backup or restore are found. While a volume is on its
// way, for hours where it is large, the object itself does not change.
func transfers(gvr schema.GroupVersionResource) (label string, kinds []schema.GroupVersionResource) {
	moved := schema.GroupVersion{Group: "velero.io", Version: "v2alpha1"}
	if gvr == restores() {
		return "velero.io/restore-name", []schema.GroupVersionResource{resource("podvolumerestores"), moved.WithResource("datadownloads")}
	}
	return "velero.io/backup-name", []schema.GroupVersionResource{resource("podvolumebackups"), moved.WithResource("datauploads")}
}

// follow watches the transfers of a backup or restore until ctx ends, and tells
// of each change. A cluster that does not know or show them has no such
// progress; the wait goes on without.
func (c *Client) follow(ctx context.Context, gvr schema.GroupVersionResource, name string, changed func(line string)) {
	label, kinds := transfers(gvr)
	var all sync.WaitGroup
	for _, kind := range kinds {
		all.Go(func() {
			last := ""
			err := c.Cluster.UntilList(ctx, kind, c.Namespace, metav1.ListOptions{LabelSelector: label + "=" + name}, func(list []*unstructured.Unstructured) (bool, error) {
				line, err := transferred(list)
				if line != last && err == nil {
					last = line
					changed(fmt.Sprintf("%s of %s: %s", kind.Resource, name, line))
				}
				return false, err
			})
			if ctx.Err() == nil && !apierrors.IsNotFound(err) {
				c.Progress("the data of volumes is not followed: %v", c.explain(err))
			}
		})
	}
	all.Wait()
}

// transferred says how far the transfers of a list are, or nothing where it is
// empty. It changes with each of them that changes.
func transferred(list []*unstructured.Unstructured) (string, error) {
	var total, done int64
	phases := map[string]int{}
	for _, u := range list {
		var t struct {
			Status struct {
				Phase    string
				Progress struct{ TotalBytes, BytesDone int64 }
			}
		}
		if err := read(u, &t); err != nil {
			return "", err
		}
		total, done = total+t.Status.Progress.TotalBytes, done+t.Status.Progress.BytesDone
		phases[phase(t.Status.Phase)]++
	}
	if len(list) == 0 {
		return "", nil
	}
	line := fmt.Sprintf("%d of %d bytes", done, total)
	for _, p := range slices.Sorted(maps.Keys(phases)) {
		line += fmt.Sprintf(", %d %s", phases[p], p)
	}
	return line, nil
}
