package datatest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

const veleroNamespace = "velero"

// velero are the objects of one kind by which the Velero of a cluster is asked.
func velero(t *testing.T, node *nodetest.Node, kind string) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(node.Rest)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(schema.GroupVersionResource{Group: "velero.io", Version: "v1", Resource: kind}).Namespace(veleroNamespace)
}

// Backup backs a namespace up, waits until that has ended, and returns the
// phase. The backup is named after the namespace and a word.
func Backup(t *testing.T, node *nodetest.Node, namespace, word string) (name, phase string) {
	t.Helper()
	name = namespace + "-" + word
	start := time.Now()
	created(t, velero(t, node, "backups"), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"includedNamespaces": []any{namespace}, "ttl": "1h", "storageLocation": "default", "snapshotVolumes": false},
	}})
	b := await(t, node, "backups", name, "it has ended", ended)
	phase, _, _ = unstructured.NestedString(b.Object, "status", "phase")
	t.Logf("MEASURED backup of %s: %s after %.1f s", namespace, phase, time.Since(start).Seconds())
	return name, phase
}

// Volumes returns for each volume that the backup has copied the file system
// of how many bytes it was. It fails the test where one was not copied.
func Volumes(t *testing.T, node *nodetest.Node, backup string) map[string]int64 {
	t.Helper()
	list, err := velero(t, node, "podvolumebackups").List(t.Context(), metav1.ListOptions{LabelSelector: "velero.io/backup-name=" + backup})
	if err != nil {
		t.Fatal(err)
	}
	bytes := map[string]int64{}
	for _, o := range list.Items {
		pod, _, _ := unstructured.NestedString(o.Object, "spec", "pod", "name")
		volume, _, _ := unstructured.NestedString(o.Object, "spec", "volume")
		phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
		message, _, _ := unstructured.NestedString(o.Object, "status", "message")
		if phase != "Completed" {
			t.Fatalf("the copy of %s/%s is %q: %s", pod, volume, phase, message)
		}
		n, _, _ := unstructured.NestedInt64(o.Object, "status", "progress", "totalBytes")
		bytes[pod+"/"+volume] = n
	}
	return bytes
}

// Arrived waits until the Velero of a cluster knows a backup.
func Arrived(t *testing.T, node *nodetest.Node, backup string) {
	t.Helper()
	await(t, node, "backups", backup, "it has come from the bucket", func(*unstructured.Unstructured) bool { return true })
}

// Restore restores a namespace of a backup into another one, or the same, and
// waits until that is Completed.
func Restore(t *testing.T, node *nodetest.Node, backup, from, to string) {
	t.Helper()
	spec := map[string]any{"backupName": backup, "includedNamespaces": []any{from}}
	if to != from {
		spec["namespaceMapping"] = map[string]any{from: to}
	}
	start := time.Now()
	made := created(t, velero(t, node, "restores"), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "velero.io/v1", "kind": "Restore", "metadata": map[string]any{"generateName": to[:min(len(to), 50)] + "-"}, "spec": spec,
	}})
	r := await(t, node, "restores", made.GetName(), "it has ended", ended)
	if phase, _, _ := unstructured.NestedString(r.Object, "status", "phase"); phase != "Completed" {
		t.Fatalf("the restore is %q: %v", phase, r.Object["status"])
	}
	t.Logf("MEASURED restore of %s into %s: %.1f s", from, to, time.Since(start).Seconds())
}

// Lose deletes a namespace and waits until it is gone.
func Lose(t *testing.T, node *nodetest.Node, namespace string) {
	t.Helper()
	// It is a test's cleanup as well.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	err := node.Client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return
	}
	if err != nil {
		t.Fatalf("deleting the namespace %q: %v", namespace, err)
	}
	list := cache.NewListWatchFromClient(node.Client.CoreV1().RESTClient(), "namespaces", "", fields.OneTermEqualSelector("metadata.name", namespace))
	gone := func(s cache.Store) (bool, error) { return len(s.List()) == 0, nil }
	if _, err := watchtools.UntilWithSync(ctx, list, nil, gone, func(e watch.Event) (bool, error) { return e.Type == watch.Deleted, nil }); err != nil {
		t.Fatalf("waiting for the namespace %q to be gone: %v", namespace, err)
	}
}

func created(t *testing.T, client dynamic.ResourceInterface, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	made, err := client.Create(t.Context(), o, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("making the %s %q: %v", o.GetKind(), o.GetName(), err)
	}
	return made
}

func ended(o *unstructured.Unstructured) bool {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	return slices.Contains([]string{"Completed", "PartiallyFailed", "Failed", "FailedValidation"}, phase)
}

// await watches an object until done says so and returns it.
func await(t *testing.T, node *nodetest.Node, kind, name, what string, done func(*unstructured.Unstructured) bool) *unstructured.Unstructured {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := velero(t, node, kind)
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	list := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return client.Watch(ctx, o)
		},
	}
	last := &unstructured.Unstructured{}
	_, err := watchtools.UntilWithSync(ctx, list, &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return false, apierrors.FromObject(e.Object)
		}
		last = o
		return e.Type != watch.Deleted && done(o), nil
	})
	if err != nil {
		t.Fatalf("waiting for %s %q until %s: %v; its status is %v", kind, name, what, err, fmt.Sprint(last.Object["status"]))
	}
	return last
}
