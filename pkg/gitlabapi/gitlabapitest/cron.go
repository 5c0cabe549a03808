package gitlabapitest

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// cronTime is a line of cron in a time zone.
func cronTime(line, zone string) (cron.Schedule, map[string][]string) {
	problems := map[string][]string{}
	where, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		problems["cron_timezone"] = []string{"is invalid syntax"}
	}
	// The parser would take "@every 1h" and a zone of its own, which GitLab's does not.
	at, err := cron.ParseStandard(line)
	if err != nil || strings.HasPrefix(line, "@") || strings.Contains(line, "TZ=") {
		problems["cron"] = []string{"is invalid syntax"}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return inZone{at, where}, nil
}

type inZone struct {
	cron.Schedule
	where *time.Location
}

func (z inZone) Next(t time.Time) time.Time { return z.Schedule.Next(t.In(z.where)).UTC() }
