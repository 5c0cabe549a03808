package run

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/tool"
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

// TestMade: once a backup is there, no end says that nothing was changed.
func TestMade(t *testing.T) {
	for code, want := range map[int]int{tool.OK: tool.OK, tool.Failed: tool.Unproven, tool.Unproven: tool.Unproven, tool.Usage: tool.Usage, tool.Temporary: tool.Temporary, tool.Cancelled: tool.Cancelled} {
		var err error
		if code != tool.OK {
			err = tool.Exit(code, errors.New("reading back"), "look at the bucket")
		}
		got := made(err)
		if tool.CodeOf(got) != want || code != tool.OK && fmt.Sprint(tool.HintsOf(got)) != "[look at the bucket]" {
			t.Errorf("%d becomes %d with hints %v, want %d", code, tool.CodeOf(got), tool.HintsOf(got), want)
		}
	}
}
