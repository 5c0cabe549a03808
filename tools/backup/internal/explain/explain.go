// Package explain is the verb explain: what backup.yaml and drill.yaml come to
// under the landscape, and where each value is from.
package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
)

// Row is one effective value.
type Row struct {
	Subject string `json:"subject"`
	Name    string `json:"name"`
	Value   string `json:"value"`
	Source  string `json:"source"`
}

// later is what is said of fields that this version cannot do.
const later = "not done by this version of slipway-backup: "

// Backup returns the rows of backup.yaml.
func Backup(b *config.Backup, s *landscape.Snapshot, file string) []Row {
	var rows []Row
	for _, name := range slices.Sorted(maps.Keys(b.Schedules)) {
		x := b.Schedules[name]
		subject := "schedule " + name
		env := s.Environments[x.Environment]
		rows = append(rows, Row{subject, "environment", x.Environment, file}, Row{subject, "cluster", env.Clusters[0], "landscape"})
		if len(env.Clusters) > 1 {
			rows = append(rows, Row{subject, "other clusters", later + strings.Join(env.Clusters[1:], ", "), "landscape"})
		}
		for _, service := range config.ServicesOf(s, x) {
			ns, err := s.Namespace(x.Environment, service, "")
			if err != nil {
				ns = err.Error()
			}
			rows = append(rows, Row{subject, "namespace of " + service, ns, "landscape"})
		}
		rows = append(rows, Row{subject, "volumes", x.Volumes, file}, Row{subject, "keep", x.Keep.Std().String(), file},
			Row{subject, "every", x.Every.Std().String() + "; started by the pipeline schedule, not by Velero", file})
		role := "none in the landscape"
		if r, err := s.RoleFor(landscape.PurposeBackup, "", x.Environment); err == nil {
			role = r.Name
		}
		rows = append(rows, Row{subject, "role", role, "landscape"})
	}
	for _, x := range b.Baseline {
		rows = append(rows, Row{"baseline", x.Service + " " + x.Store, later + "a backup of the service ends with 7", file})
	}
	if b.RPO > 0 {
		rows = append(rows, Row{"rpo", "gap between good backups", b.RPO.Std().String() + "; a longer one is a warning", file})
	}
	return rows
}

// Drill returns the rows of drill.yaml.
func Drill(d *config.Drill, file string) []Row {
	const subject = "drill"
	rows := []Row{{subject, "source", "the newest completed backup of " + d.Source.Schedule, file}, {subject, "cluster", d.Target.Cluster, file},
		{subject, "namespaces", d.Target.Namespaces + ", {date} in UTC to the second", file}, {subject, "ttl", d.Target.TTL.Std().String(), file}}
	if d.Objectives.RPO > 0 {
		rows = append(rows, Row{subject, "objective rpo", d.Objectives.RPO.Std().String(), file})
	}
	if d.Objectives.RTO > 0 {
		rows = append(rows, Row{subject, "objective rto", d.Objectives.RTO.Std().String(), file})
	}
	if d.Objectives.WorseBy > 0 {
		rows = append(rows, Row{subject, "objective worseBy", later + "unproven", file})
	}
	for _, c := range d.Checks {
		value := later + "unproven"
		if c.Ready != nil {
			value = "evaluated, stable for " + c.Ready.Stable.Std().String()
		}
		rows = append(rows, Row{subject, "check " + c.Name(), value, file})
	}
	return append(rows, Row{subject, "data", "unproven: no check of this version compares data, so a drill ends with 7", "slipway-backup"})
}

// Print writes the rows as a table, or as JSON.
func Print(run *tool.Run, rows []Row) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Subject, r.Name, r.Value, r.Source)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return run.Result(rows, b.String())
}
