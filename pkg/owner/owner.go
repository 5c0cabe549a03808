// Package owner says who holds a lock or a half-done release, and whether that
// owner lives. It decides from what others observed; it asks nobody itself.
package owner

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"
)

// Renewal and expiry of a lease.
const (
	Renew  = 10 * time.Second // how often a live owner renews
	Expiry = 60 * time.Second // silence after which the lease is dead
)

// agesUnasked is how many expiries of silence make an owner too old to live, of
// whom GitLab could not be asked. A machine that stood still for a while has
// missed one, and its job goes on.
const agesUnasked = 2

// Owner is the identity that a lock or a release carries.
type Owner struct {
	Kind     string    `json:"kind"`     // job | person
	Instance string    `json:"instance"` // URL of the GitLab instance
	Project  int64     `json:"project,omitempty"`
	Pipeline int64     `json:"pipeline,omitempty"`
	Job      int64     `json:"job,omitempty"`
	User     string    `json:"user,omitempty"`
	URL      string    `json:"url,omitempty"`
	Start    time.Time `json:"start"`
	Phase    string    `json:"phase"`
}

// String returns the owner as a message shows it.
func (o Owner) String() string {
	if o.Kind == "job" {
		return fmt.Sprintf("job %d of pipeline %d (project %d), in phase %q since %s", o.Job, o.Pipeline, o.Project, o.Phase, o.Start.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%s, in phase %q since %s", o.User, o.Phase, o.Start.UTC().Format(time.RFC3339))
}

// Encode returns the owner as one line of JSON.
func (o Owner) Encode() (string, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("encoding the owner: %w", err)
	}
	return string(b), nil
}

// Decode reads what Encode wrote.
func Decode(s string) (Owner, error) {
	var o Owner
	if err := json.Unmarshal([]byte(s), &o); err != nil {
		return Owner{}, fmt.Errorf("reading the owner: %w", err)
	}
	return o, nil
}

// Observation is what is known of an owner.
type Observation struct {
	Renewed  time.Time     // last renewal of its lease; zero where there is none
	Expiry   time.Duration // of that lease; 0 is Expiry
	JobState string        // as GitLab's API says; "" where it was not or could not be asked
}

// AgeLimit is the silence after which the lease alone says that its owner has
// ended.
func AgeLimit(expiry time.Duration) time.Duration { return agesUnasked * cmp.Or(expiry, Expiry) }

// Verdict is what may be done about a thing that somebody owns.
type Verdict int

// The verdicts.
const (
	Alive   Verdict = iota // wait, then give up with exit code 8
	Dead                   // take over
	Unknown                // a person decides: exit code 9
)

// Judge decides from an observation whether the owner lives. Both must have
// ended: the lease, since a job that GitLab shows as canceled may still run,
// and the job, where the API could be asked. Where it could not, the lease must
// have been silent for an age, and the reason says that this decided. A 404 from
// the API is "unknown" (pass JobState "unknown"), not "gone".
func Judge(now time.Time, ob Observation) (Verdict, string) {
	silent := now.Sub(ob.Renewed)
	if !ob.Renewed.IsZero() && silent < cmp.Or(ob.Expiry, Expiry) {
		return Alive, fmt.Sprintf("its lease was renewed %s ago", silent.Round(time.Second))
	}
	switch ob.JobState {
	case "success", "failed", "canceled", "skipped":
		return Dead, fmt.Sprintf("its lease has ended and GitLab shows the job as %s", ob.JobState)
	case "created", "pending", "running", "preparing", "waiting_for_resource", "canceling":
		return Alive, fmt.Sprintf("GitLab shows the job as %s", ob.JobState)
	case "":
		age := AgeLimit(ob.Expiry)
		switch {
		case ob.Renewed.IsZero():
			return Unknown, "it has no lease, and GitLab was not asked"
		case silent < age:
			return Alive, fmt.Sprintf("its lease has ended, and GitLab could not be asked: without a token that may read jobs, it counts as ended after %s of silence", age)
		}
		return Dead, fmt.Sprintf("its lease has been silent for more than %s; GitLab could not be asked, so the lease and this age limit decide", age)
	default:
		return Unknown, fmt.Sprintf("GitLab says %q of the job", ob.JobState)
	}
}
