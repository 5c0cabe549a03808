// Package explain is the verb explain: the order and the gates that hold, and
// where each comes from.
package explain

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/gate"
	"gitlab.com/slipway/slipway/tools/promote/internal/promotion"
)

// Row is one effective value.
type Row struct {
	Environment string `json:"environment"`
	Name        string `json:"name"`
	Value       string `json:"value"`
	Source      string `json:"source"`
}

// Run prints the rows of all gated environments of the order, or of target.
func Run(run *tool.Run, p *promotion.Promotion, s *landscape.Snapshot, file, target string) error {
	var rows []Row
	var waves []string
	for _, w := range p.Order {
		waves = append(waves, strings.Join(w, "+"))
	}
	rows = append(rows, Row{"*", "order", strings.Join(waves, " > "), file})
	for _, wave := range p.Order {
		for _, env := range wave {
			if e := s.Environments[env]; e.Gated && (target == "" || env == target) {
				rows = append(rows, gates(p, e, env, file)...)
			}
		}
	}
	if p.Lanes.Hotfix != nil || p.Lanes.Configuration != nil {
		rows = append(rows, Row{"*", "lanes", "declared; this version of slipway-promote runs none of them", file})
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Environment, r.Name, r.Value, r.Source)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return run.Result(rows, b.String())
}

// gates asks the gates themselves what they are, so that this cannot drift from
// what run evaluates.
func gates(p *promotion.Promotion, e landscape.Environment, env, file string) []Row {
	before, _ := p.Before(env, slices.Concat(waves(p)...))
	rows := []Row{{env, "before", strings.Join(before, ", "), file}}
	for _, r := range gate.Evaluate(gate.Subject{Target: env, Gate: p.Gates[env], Before: before, NeedsSafe: e.BackupBefore}) {
		source, value := file, "evaluated"
		if r.Gate == "order" {
			source = "always"
		}
		if r.Gate == "backupBefore" {
			source = "landscape"
		}
		if r.Reason == gate.CannotEvaluate {
			value = "refuses: " + r.Reason
		}
		rows = append(rows, Row{env, r.Gate, value, source})
	}
	return rows
}

func waves(p *promotion.Promotion) [][]string {
	out := make([][]string, len(p.Order))
	for i, w := range p.Order {
		out[i] = w
	}
	return out
}
