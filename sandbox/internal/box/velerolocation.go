package box

import (
	"context"
	"fmt"
	"net"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func crdResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

func locationResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "velero.io", Version: "v1", Resource: "backupstoragelocations"}
}

// location is a place in the bucket where a cluster finds backups.
type location struct {
	name, prefix string
	readOnly     bool
}

// storageLocations are a cluster's own location, and in prod that of nonprod
// to restore from.
func storageLocations(cluster string) []location {
	own := location{name: "default", prefix: cluster}
	if cluster == "nonprod" {
		return []location{own}
	}
	return []location{own, {name: "nonprod", prefix: "nonprod", readOnly: true}}
}

// s3URL is the object store's address that the cluster's Velero and, where
// there is a real node, its agent there both reach.
func (b *Box) s3URL(cluster string) string {
	if !b.Node {
		return "http://" + b.addr("s3")
	}
	return "http://" + net.JoinHostPort(b.networks[cluster].Host().String(), b.port("s3"))
}

// locationsDefined waits until the API server knows what a location is.
func (b *Box) locationsDefined(ctx context.Context, cluster string) error {
	client, err := b.dynamic(cluster)
	if err != nil {
		return err
	}
	if err := b.watchOne(ctx, client.Resource(crdResource()), "backupstoragelocations.velero.io", func(o *unstructured.Unstructured) bool {
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
				return true
			}
		}
		return false
	}); err != nil {
		return fmt.Errorf("waiting for Velero's resource definitions: %w", err)
	}
	return nil
}

func (b *Box) storageLocation(ctx context.Context, a *applier, cluster string, l location) error {
	mode := "ReadWrite"
	if l.readOnly {
		mode = "ReadOnly"
	}
	return a.unstructured(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
		"metadata": map[string]any{"name": l.name, "namespace": veleroNamespace},
		"spec": map[string]any{
			"provider": "aws", "default": !l.readOnly, "accessMode": mode,
			"objectStorage": map[string]any{"bucket": backupBucket, "prefix": l.prefix},
			"config":        map[string]any{"region": region, "s3Url": b.s3URL(cluster), "s3ForcePathStyle": "true", "checksumAlgorithm": ""},
		},
	}})
}

func (b *Box) locationsAvailable(ctx context.Context, cluster string) error {
	client, err := b.dynamic(cluster)
	if err != nil {
		return err
	}
	if err := answers(ctx, "http://"+b.addr(veleroPart(cluster)+"-metrics")+"/metrics"); err != nil {
		return err
	}
	for _, l := range storageLocations(cluster) {
		last := "none"
		err := b.watchOne(ctx, client.Resource(locationResource()).Namespace(veleroNamespace), l.name, func(o *unstructured.Unstructured) bool {
			last, _, _ = unstructured.NestedString(o.Object, "status", "phase")
			// What an earlier server said of the location does not count.
			text, _, _ := unstructured.NestedString(o.Object, "status", "lastValidationTime")
			at, err := time.Parse(time.RFC3339, text)
			return last == "Available" && err == nil && time.Since(at) < 10*time.Second
		})
		if err != nil {
			return fmt.Errorf("waiting for the storage location %q to be available, its phase is %q: %w", l.name, last, err)
		}
	}
	return nil
}
