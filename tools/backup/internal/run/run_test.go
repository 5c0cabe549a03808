package run

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/yamlfile"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
	"gitlab.com/slipway/slipway/tools/backup/internal/mark"
)

func TestObject(t *testing.T) {
	o := Options{Name: "nightly", Schedule: config.Schedule{Environment: "dev", Keep: yamlfile.Duration(7 * 24 * time.Hour)},
		Owner: owner.Owner{Project: 43, Pipeline: 1234567890, Job: 12345678901}, ClusterID: "nonprod",
		Now: func() time.Time { return time.Date(2026, 11, 23, 22, 15, 1, 0, time.UTC) }}
	for volumes, want := range map[string][3]bool{"files": {true, false, false}, "snapshots": {false, true, false}, "moved": {false, true, true}} {
		o.Schedule.Volumes = volumes
		b, err := o.object(map[string]string{"orders": "orders-dev", "catalog": "catalog-dev"}, "default")
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]bool{*b.Spec.DefaultVolumesToFsBackup, *b.Spec.SnapshotVolumes, *b.Spec.SnapshotMoveData}; got != want {
			t.Errorf("%s: files, snapshots, moved are %v, want %v", volumes, got, want)
		}
		if b.Meta.Name != "nightly-20261123221501-1234567890-12345678901" || b.Spec.TTL != "168h0m0s" || strings.Join(b.Spec.IncludedNamespaces, " ") != "catalog-dev orders-dev" {
			t.Errorf("made %+v", b)
		}
		if b.Meta.Labels[mark.Schedule] != "nightly" || b.Meta.Labels[mark.Job] != "12345678901" || b.Meta.Annotations[mark.Namespaces] != `{"catalog":"catalog-dev","orders":"orders-dev"}` {
			t.Errorf("marked %v %v", b.Meta.Labels, b.Meta.Annotations)
		}
	}
	o.Owner = owner.Owner{}
	if b, err := o.object(nil, "default"); err != nil || b.Meta.Name != "nightly-20261123221501-by-hand" {
		t.Errorf("made %q, error %v", b.Meta.Name, err)
	}
}
