package helmrelease

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"
)

// Revision is one revision of a release as it is stored.
type Revision struct {
	Number      int               `json:"revision"`
	Status      string            `json:"status"`
	Pending     bool              `json:"-"` // somebody is at work on it, or died over it
	Chart       string            `json:"chart"`
	Updated     time.Time         `json:"updated"`
	Description string            `json:"description"`
	Annotations map[string]string `json:"-"` // of its chart
	Manifest    string            `json:"-"`

	record *record
}

// Unreadable is the status of a revision whose record cannot be read.
const Unreadable = "unreadable"

// State is what is stored of a release: nil where there is none.
type State struct {
	Last     *Revision
	Deployed *Revision // the last that was ready
	Ever     bool      // some revision was ready, or may have been

	list []stored // all revisions, the newest first
}

// Same reports whether nothing was written to the release's records between
// the two readings.
func (s State) Same(o State) bool {
	return slices.Equal(s.list, o.list) && s.Last.written() == o.Last.written() && s.Deployed.written() == o.Deployed.written()
}

func (r *Revision) written() string {
	if r == nil || r.record == nil {
		return ""
	}
	return r.record.secret.ResourceVersion
}

// pending are the states that a run leaves behind when it dies. Of an
// uninstallation Helm itself says no such thing, and then refuses to upgrade.
func pending(s release.Status) bool { return s.IsPending() || s == release.StatusUninstalling }

// What Helm's descriptions say of revisions that were ready. A state alone
// does not: a failed revision that was upgraded from is superseded as well.
const rolledBack = "Rollback to "

// WasReady reports whether the revision is known to have been ready once.
func (r Revision) WasReady() bool {
	switch r.Status {
	case string(release.StatusDeployed):
		return true
	case string(release.StatusSuperseded):
		return r.Description == "Install complete" || r.Description == "Upgrade complete" || strings.HasPrefix(r.Description, rolledBack)
	}
	return false
}

// Origin returns the number of the revision that this one brought back, or its own.
func (r Revision) Origin() int {
	n := 0
	if _, err := fmt.Sscanf(r.Description, rolledBack+"%d", &n); err == nil && n > 0 && n < r.Number {
		return n
	}
	return r.Number
}

func revisionOf(rel *release.Release) *Revision {
	r := &Revision{Number: rel.Version, Status: string(rel.Info.Status), Pending: pending(rel.Info.Status),
		Updated: rel.Info.LastDeployed.Time, Description: rel.Info.Description, Manifest: rel.Manifest}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		r.Chart = rel.Chart.Metadata.Name + "-" + rel.Chart.Metadata.Version
		r.Annotations = rel.Chart.Metadata.Annotations
	}
	return r
}
