package cover

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/inventory"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

func secret(name, uid string) inventory.Object {
	return inventory.Object{Key: artifact.Key{Resource: "secrets", Namespace: "a", Name: name}, UID: uid}
}

func TestCompare(t *testing.T) {
	claim := inventory.Claim{Namespace: "a", Name: "d", Pods: []string{"p"}}
	for name, c := range map[string]struct {
		volumes []velero.VolumeInfo
		pods    []string
		want    string
	}{
		"covered":   {[]velero.VolumeInfo{{PVCNamespace: "a", PVCName: "d", Result: "succeeded"}}, []string{"p"}, ""},
		"failed":    {[]velero.VolumeInfo{{PVCNamespace: "a", PVCName: "d", Result: "failed"}}, []string{"p"}, "failed, result"},
		"no result": {[]velero.VolumeInfo{{PVCNamespace: "a", PVCName: "d"}}, []string{"p"}, "failed, result"},
		"skipped":   {[]velero.VolumeInfo{{PVCNamespace: "a", PVCName: "d", Skipped: true, SkippedReason: "nfs", Result: "succeeded"}}, []string{"p"}, "skipped, nfs"},
		"other ns":  {[]velero.VolumeInfo{{PVCNamespace: "b", PVCName: "d", Result: "succeeded"}}, []string{"p"}, "unmapped, Velero wrote down nothing"},
		"unmounted": {nil, nil, "no running pod mounts it"},
	} {
		t.Run(name, func(t *testing.T) {
			claim.Pods = c.pods
			got := Compare(&inventory.Inventory{Claims: []inventory.Claim{claim}}, &artifact.Artifact{Volumes: c.volumes})
			gaps := strings.Join(got.Gaps(), "\n")
			if c.want == "" && gaps != "" || !strings.Contains(gaps, c.want) {
				t.Errorf("gaps %q, want %q", gaps, c.want)
			}
		})
	}
}

func TestForget(t *testing.T) {
	excluded := secret("excluded", "5")
	excluded.Skipped = "label"
	before := &inventory.Inventory{Objects: []inventory.Object{secret("kept", "1"), secret("lost", "2"), secret("deleted", "3"), secret("replaced", "4"), excluded}}
	c := Compare(before, &artifact.Artifact{Items: map[artifact.Key]artifact.Item{secret("kept", "").Key: {}}})
	if c.Objects != 4 || len(c.Missing) != 3 || len(c.Skipped) != 1 {
		t.Fatalf("compared to %+v", c)
	}
	c.Forget(before, &inventory.Inventory{Objects: []inventory.Object{secret("kept", "1"), secret("lost", "2"), secret("replaced", "9")}})
	if fmt.Sprint(c.Missing) != "[secrets a/lost]" || fmt.Sprint(c.Gone) != "[secrets a/deleted secrets a/replaced]" || c.Objects != 2 {
		t.Errorf("missing %v, gone %v, %d objects", c.Missing, c.Gone, c.Objects)
	}
}

func TestRecoveryPoint(t *testing.T) {
	at := func(minute int) *metav1.Time {
		return &metav1.Time{Time: time.Date(2026, 11, 23, 10, minute, 0, 0, time.UTC)}
	}
	b := velero.Backup{Status: velero.BackupStatus{StartTimestamp: at(10), CompletionTimestamp: at(50)}}
	for name, c := range map[string]struct {
		volumes []velero.VolumeInfo
		minute  int
		what    string
	}{
		"no volume": {nil, 10, "the backup's start"},
		"snapshots": {[]velero.VolumeInfo{{PVCName: "late", StartTimestamp: at(30)}, {PVCName: "early", StartTimestamp: at(20)}}, 20, "/early"},
		"older":     {[]velero.VolumeInfo{{PVCName: "old", StartTimestamp: at(5)}}, 5, "/old"},
		"skipped":   {[]velero.VolumeInfo{{PVCName: "none", Skipped: true, StartTimestamp: at(5)}}, 10, "the backup's start"},
		"no stamp":  {[]velero.VolumeInfo{{PVCName: "none"}}, 10, "the backup's start"},
	} {
		got, what := RecoveryPoint(b, c.volumes)
		if got.Minute() != c.minute || !strings.Contains(what, c.what) {
			t.Errorf("%s: %s, %s; want minute %d, %s", name, got, what, c.minute, c.what)
		}
	}
}
