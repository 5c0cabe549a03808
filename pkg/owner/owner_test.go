package owner_test

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/owner"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	fresh, stale, old := now.Add(-20*time.Second), now.Add(-owner.Expiry), now.Add(-owner.AgeLimit(0))
	for name, c := range map[string]struct {
		renewed time.Time
		state   string
		want    owner.Verdict
	}{
		"fresh lease":                           {fresh, "", owner.Alive},
		"fresh lease of a canceled job":         {fresh, "canceled", owner.Alive},
		"stale lease, job ended":                {stale, "failed", owner.Dead},
		"stale lease, job runs":                 {stale, "running", owner.Alive},
		"stale lease, GitLab not asked":         {stale, "", owner.Alive},
		"just before the age limit":             {old.Add(time.Second), "", owner.Alive},
		"at the age limit":                      {old, "", owner.Dead},
		"old lease, job runs":                   {old, "running", owner.Alive},
		"old lease, GitLab does not know":       {old, "unknown", owner.Unknown},
		"stale lease, GitLab does not know":     {stale, "unknown", owner.Unknown},
		"no lease, GitLab not asked":            {time.Time{}, "", owner.Unknown},
		"no lease, job ended":                   {time.Time{}, "success", owner.Dead},
		"no lease, a state nobody has heard of": {time.Time{}, "dreaming", owner.Unknown},
	} {
		if got, why := owner.Judge(now, owner.Observation{Renewed: c.renewed, JobState: c.state}); got != c.want || why == "" {
			t.Errorf("%s: verdict %v (%s), want %v", name, got, why, c.want)
		}
	}
	short := owner.Observation{Renewed: now.Add(-4 * time.Second), Expiry: time.Second}
	if got, why := owner.Judge(now, short); got != owner.Dead || !strings.Contains(why, "2s") || !strings.Contains(why, "age limit") {
		t.Errorf("a lease of one second: verdict %v (%s)", got, why)
	}
}

func TestEncodeDecode(t *testing.T) {
	o := owner.Owner{Kind: "job", Instance: "https://gitlab.example.com", Project: 77, Pipeline: 5, Job: 9, Phase: "upgrade", Start: time.Unix(1e9, 0).UTC()}
	text, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := owner.Decode(text)
	if err != nil || back != o {
		t.Errorf("read back %+v, %v", back, err)
	}
	if _, err := owner.Decode("{"); err == nil {
		t.Error("half an owner was read")
	}
}
