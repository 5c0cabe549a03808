package velero

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/kube"
)

func transfer(t *testing.T, phase string, done, total int64) *unstructured.Unstructured {
	t.Helper()
	return &unstructured.Unstructured{Object: map[string]any{"kind": "PodVolumeBackup",
		"status": map[string]any{"phase": phase, "progress": map[string]any{"bytesDone": done, "totalBytes": total}}}}
}

func TestTransferred(t *testing.T) {
	for want, list := range map[string][]*unstructured.Unstructured{
		"":                                 nil,
		"0 of 0 bytes, 1 not yet taken up": {transfer(t, "", 0, 0)},
		"5 of 30 bytes, 2 InProgress":      {transfer(t, "InProgress", 2, 10), transfer(t, "InProgress", 3, 20)},
		"13 of 30 bytes, 1 Completed, 1 InProgress": {transfer(t, "Completed", 10, 10), transfer(t, "InProgress", 3, 20)},
	} {
		if got, err := transferred(list); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

// TestDataOnItsWay: that the data of a volume moves is progress of its backup
// or restore, which itself does not change meanwhile. No Velero looks after the
// test's namespace: the test is the server, and does the next step when it is
// told of the last.
func TestDataOnItsWay(t *testing.T) {
	sb := sandboxtest.Open(t)
	cluster, err := kube.New(kube.Config{Kubeconfig: sb.Clusters["nonprod"].Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	for kind, c := range map[string]struct {
		label       string
		data, whole schema.GroupVersionResource
		take        func(context.Context, *Client) (phase string, err error)
	}{
		"PodVolumeBackup": {"velero.io/backup-name", resource("podvolumebackups"), backups(), func(ctx context.Context, v *Client) (string, error) {
			if err := v.CreateBackup(ctx, Backup{Meta: Meta{Name: "it"}, Spec: BackupSpec{IncludedNamespaces: []string{"a"}}}); err != nil {
				return "", err
			}
			b, err := v.WaitBackup(ctx, "it")
			return b.Status.Phase, err
		}},
		"PodVolumeRestore": {"velero.io/restore-name", resource("podvolumerestores"), restores(), func(ctx context.Context, v *Client) (string, error) {
			if err := v.CreateRestore(ctx, Restore{Meta: Meta{Name: "it"}, Spec: RestoreSpec{BackupName: "b", IncludedNamespaces: []string{"a"}}}); err != nil {
				return "", err
			}
			r, err := v.WaitRestore(ctx, "it")
			return r.Status.Phase, err
		}},
	} {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			v := &Client{Cluster: cluster, Namespace: sb.Namespace(t, "nonprod"), Stall: time.Hour}
			set := func(gvr schema.GroupVersionResource, status map[string]any) {
				patch, err := json.Marshal(map[string]any{"status": status})
				if err == nil {
					_, err = cluster.Dynamic().Resource(gvr).Namespace(v.Namespace).Patch(ctx, "it", types.MergePatchType, patch, metav1.PatchOptions{})
				}
				if err != nil {
					t.Errorf("setting %s to %v: %v", gvr.Resource, status, err)
				}
			}
			v.Progress = func(format string, args ...any) {
				line := fmt.Sprintf(format, args...)
				t.Log(line)
				switch {
				case strings.Contains(line, "it: not yet taken up"):
					u, err := write(kind, map[string]any{"metadata": map[string]any{"name": "it", "labels": map[string]any{c.label: "it"}}, "spec": map[string]any{
						"backupStorageLocation": "l", "node": "n", "pod": map[string]any{}, "repoIdentifier": "r", "volume": "v", "snapshotID": "s", "sourceNamespace": "a", "uploaderType": "kopia"}})
					if err == nil {
						_, err = cluster.Dynamic().Resource(c.data).Namespace(v.Namespace).Create(ctx, u, metav1.CreateOptions{})
					}
					if err != nil {
						t.Error(err)
					}
				case strings.Contains(line, "0 of 0 bytes"):
					set(c.data, transfer(t, "InProgress", 1, 4).Object["status"].(map[string]any))
				case strings.Contains(line, "1 of 4 bytes"):
					set(c.whole, map[string]any{"phase": Completed})
				}
			}
			if phase, err := c.take(ctx, v); err != nil || phase != Completed {
				t.Errorf("ended %q, %v", phase, err)
			}
		})
	}
}

func TestNewest(t *testing.T) {
	b := func(name, phase string, minute int) Backup {
		out := Backup{Meta: Meta{Name: name}, Status: BackupStatus{Phase: phase}}
		if minute > 0 {
			out.Status.StartTimestamp = &metav1.Time{Time: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)}
		}
		return out
	}
	now := time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC)
	expired := b("expired", "Completed", 8)
	expired.Status.Expiration = &metav1.Time{Time: now}
	newest, worse := Newest([]Backup{b("old", "Completed", 1), b("bad", "PartiallyFailed", 9), b("running", "InProgress", 10), b("good", "Completed", 5), expired,
		b("failed", "Failed", 3), b("refused", "FailedValidation", 0)}, now)
	if newest == nil || newest.Meta.Name != "good" || fmt.Sprint(worse) != "[bad]" {
		t.Errorf("picked %v over %v", newest, worse)
	}
	if newest, _ := Newest([]Backup{b("bad", "PartiallyFailed", 9), b("new", "", 0)}, now); newest != nil {
		t.Errorf("picked %v", newest)
	}
}
