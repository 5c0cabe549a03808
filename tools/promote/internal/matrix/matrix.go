// Package matrix is the verb matrix: which bundle is wanted and which runs,
// for each service in each gated environment.
package matrix

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"gitlab.com/slipway/slipway/pkg/envstate"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/state"
)

// Row is a service in an environment.
type Row struct {
	Service     string    `json:"service"`
	Environment string    `json:"environment"`
	Desired     string    `json:"desired,omitempty"`  // bundle
	Observed    string    `json:"observed,omitempty"` // bundle
	Status      string    `json:"status,omitempty"`   // of the last deployment
	Since       time.Time `json:"since,omitzero"`
	Settled     bool      `json:"settled"` // what runs is what is wanted
}

// Run prints the matrix of the files in dir.
func Run(run *tool.Run, dir string) error {
	// A folder that does not exist has no states either, and that is no answer.
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return tool.Exitf(tool.Usage, "--dir %q is not a folder", dir)
	}
	rows, err := Read(dir)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return run.Result([]Row{}, fmt.Sprintf("nothing has been promoted yet: %s holds no desired or observed state", dir))
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tENVIRONMENT\tDESIRED\tOBSERVED\tSTATUS\tSINCE\t")
	for _, r := range rows {
		note := ""
		if !r.Settled {
			note = "differs"
		}
		since := "-"
		if !r.Since.IsZero() {
			since = r.Since.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Service, r.Environment, short(r.Desired), short(r.Observed), cmp.Or(r.Status, "-"), since, note)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the matrix: %w", err)
	}
	return run.Result(rows, b.String())
}

// Read joins the desired and observed states under dir.
func Read(dir string) ([]Row, error) {
	rows := map[[2]string]*Row{}
	row := func(environment, service string) *Row {
		key := [2]string{environment, service}
		if rows[key] == nil {
			rows[key] = &Row{Service: service, Environment: environment}
		}
		return rows[key]
	}
	var p tool.Problems
	for _, kind := range []string{"desired", "observed"} {
		files, err := filepath.Glob(filepath.Join(dir, "*", "*."+kind+".yaml"))
		if err != nil {
			return nil, fmt.Errorf("looking for %s states: %w", kind, err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("reading %q: %w", file, err)
			}
			if kind == "desired" {
				d, err := envstate.ReadDesired(file, raw)
				p.Check(err == nil, "%v", err)
				row(d.Environment, d.Service).Desired = d.Bundle
				continue
			}
			o, err := state.ReadObserved(file, raw)
			p.Check(err == nil, "%v", err)
			r := row(o.Environment, o.Service)
			r.Observed, r.Status, r.Since = o.Bundle, o.Status, o.Since
		}
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	out := make([]Row, 0, len(rows))
	for _, r := range rows {
		r.Settled = r.Desired == r.Observed && r.Status == state.Deployed
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Environment, b.Environment))
	})
	return out, nil
}

// short returns the head of a bundle's digest.
func short(ref string) string {
	_, digest, ok := strings.Cut(ref, "@sha256:")
	if !ok || len(digest) < 12 {
		return cmp.Or(ref, "-")
	}
	return digest[:12]
}
