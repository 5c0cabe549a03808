// Package mark is how our objects in a cluster are marked, and how what Velero
// says becomes findings.
package mark

import (
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// Labels of backups.
const (
	Schedule    = "slipway.dev/schedule"
	Environment = "slipway.dev/environment"
	Cluster     = "slipway.dev/cluster"
	Project     = "slipway.dev/project"
	Pipeline    = "slipway.dev/pipeline"
	Job         = "slipway.dev/job"
)

// Annotations of backups.
const (
	Namespaces = "slipway.dev/namespaces" // JSON: service to namespace
	Landscape  = "slipway.dev/landscape"  // digest of the snapshot
)

// Labels of what a drill makes.
const (
	Drill   = "slipway.dev/drill"   // the drill's name
	Expires = "slipway.dev/expires" // in ExpiresForm
	Service = "slipway.dev/service"
)

// ExpiresForm is a time in UTC as a label's value may be written.
const ExpiresForm = "20060102T150405Z"

// Time returns a time in UTC, or nil.
func Time(t *metav1.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// most is how many messages of Velero's become findings, of each kind.
const most = 50

// rootCA is in every namespace from its first moment: that a restore leaves it
// as it is, is right.
const rootCA = "ConfigMap:kube-root-ca.crt already exists"

// Messages notes Velero's errors and warnings as findings.
func Messages(run *tool.Run, object string, r velero.Results) {
	note := func(level string, list []string) {
		for i, text := range list {
			if i == most {
				run.Report.Find(report.Finding{Level: level, Class: "velero", Object: object, Message: "there are more; Velero's results file has all"})
				return
			}
			if strings.Contains(text, rootCA) {
				continue
			}
			run.Report.Find(report.Finding{Level: level, Class: "velero", Object: object, Message: text})
			run.Log.Printf("Velero's %s: %s", level, text)
		}
	}
	note("error", Flat(r.Errors))
	note("warning", Flat(r.Warnings))
}

// Flat returns all messages, in a stable order, each with where it is from.
func Flat(m velero.Messages) []string {
	out := slices.Concat(m.Velero, m.Cluster)
	for _, ns := range slices.Sorted(maps.Keys(m.Namespaces)) {
		for _, text := range m.Namespaces[ns] {
			out = append(out, ns+": "+text)
		}
	}
	return out
}
