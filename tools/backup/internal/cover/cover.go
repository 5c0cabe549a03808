// Package cover compares what there was with what the backup holds.
package cover

import (
	"fmt"
	"time"

	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/inventory"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// States of a volume claim.
const (
	Covered  = "covered"
	Skipped  = "skipped"
	Failed   = "failed"
	Unmapped = "unmapped"
)

// Claim is a volume claim and what became of its data.
type Claim struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Size      string     `json:"size,omitempty"`
	Expected  string     `json:"expected,omitempty"`
	State     string     `json:"state"` // covered | skipped | failed | unmapped
	Method    string     `json:"method,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Snapshot  *time.Time `json:"snapshot,omitempty"`
}

// Coverage is the comparison.
type Coverage struct {
	Objects int            `json:"objects"` // that had to be there
	Missing []artifact.Key `json:"missing,omitempty"`
	Skipped []string       `json:"skipped,omitempty"`
	Gone    []artifact.Key `json:"gone,omitempty"` // deleted while the backup was taken
	Claims  []Claim        `json:"claims,omitempty"`
}

// Compare holds an inventory against an artifact.
func Compare(inv *inventory.Inventory, a *artifact.Artifact) Coverage {
	var c Coverage
	for _, o := range inv.Objects {
		if o.Skipped != "" {
			c.Skipped = append(c.Skipped, o.Key.String()+": "+o.Skipped)
			continue
		}
		c.Objects++
		if _, ok := a.Items[o.Key]; !ok {
			c.Missing = append(c.Missing, o.Key)
		}
	}
	for _, x := range inv.Claims {
		claim := ClaimState(x.Namespace, x.Name, a.Volumes)
		claim.Size, claim.Expected = x.Size, x.Expected
		if claim.State == Unmapped && len(x.Pods) == 0 {
			claim.Reason += "; no running pod mounts it"
		}
		c.Claims = append(c.Claims, claim)
	}
	return c
}

// Forget moves what has gone since out of what is missing: now is what there
// is after the backup.
func (c *Coverage) Forget(before, now *inventory.Inventory) {
	is, was := map[artifact.Key]string{}, map[artifact.Key]string{}
	for _, o := range now.Objects {
		if o.Skipped == "" {
			is[o.Key] = o.UID
		}
	}
	for _, o := range before.Objects {
		was[o.Key] = o.UID
	}
	var missing []artifact.Key
	for _, key := range c.Missing {
		if is[key] == was[key] {
			missing = append(missing, key)
		} else {
			c.Gone = append(c.Gone, key)
		}
	}
	c.Missing = missing
	c.Objects -= len(c.Gone)
}

// ClaimState says what became of a claim's data, by what Velero wrote down.
func ClaimState(namespace, name string, volumes []velero.VolumeInfo) Claim {
	c := Claim{Namespace: namespace, Name: name, State: Unmapped, Reason: "Velero wrote down nothing about its data"}
	for _, v := range volumes {
		if v.PVCNamespace != namespace || v.PVCName != name {
			continue
		}
		c.Method = v.BackupMethod
		switch {
		case v.Skipped:
			c.State, c.Reason = Skipped, v.SkippedReason
		case v.Result != "succeeded":
			c.State, c.Reason = Failed, fmt.Sprintf("result %q", v.Result)
		default:
			c.State, c.Reason = Covered, ""
			if v.StartTimestamp != nil {
				at := v.StartTimestamp.UTC()
				c.Snapshot = &at
			}
		}
		return c
	}
	return c
}

// Gaps are the sentences about what the backup does not hold.
func (c *Coverage) Gaps() []string {
	var out []string
	for _, key := range c.Missing {
		out = append(out, key.String()+" is not in the backup")
	}
	for _, x := range c.Claims {
		if x.State != Covered {
			out = append(out, fmt.Sprintf("the data of claim %s/%s is not in the backup: %s, %s", x.Namespace, x.Name, x.State, x.Reason))
		}
	}
	return out
}

// RecoveryPoint is the moment that a restore goes back to: the start of the
// oldest volume snapshot, or, without volumes, the start of the backup. It is
// never the backup's end.
func RecoveryPoint(b velero.Backup, volumes []velero.VolumeInfo) (at time.Time, what string) {
	if b.Status.StartTimestamp != nil {
		at, what = b.Status.StartTimestamp.UTC(), "the backup's start"
	}
	found := false
	for _, v := range volumes {
		if v.Skipped || v.StartTimestamp == nil || found && !v.StartTimestamp.Time.Before(at) {
			continue
		}
		at, found = v.StartTimestamp.UTC(), true
		what = fmt.Sprintf("the start of the oldest volume snapshot, claim %s/%s", v.PVCNamespace, v.PVCName)
	}
	return at, what
}
