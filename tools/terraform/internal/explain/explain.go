// Package explain is the verb explain: every effective value, and where it
// comes from.
package explain

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/terraform/internal/stack"
)

// Facts are what the verb shows beside the options.
type Facts struct {
	AccountID string
	Role      landscape.Role
	Landscape string
	Source    func(flag, fallback string) string
}

// Row is one effective value.
type Row struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// Run prints the rows.
func Run(run *tool.Run, o stack.Options, f Facts) error {
	rows := []Row{
		{"dir", o.Dir, f.Source("dir", "default")},
		{"account", o.Account + " (" + f.AccountID + ")", f.Source("account", "default")},
		{"stack", o.Stack, f.Source("stack", "path of --dir in its repository")},
		{"out", o.Out, f.Source("out", "default")},
		{"binary", o.Binary, f.Source("binary", "PATH")},
		{"lock-timeout", o.LockTimeout.String(), f.Source("lock-timeout", "default")},
		{"landscape", o.Landscape, f.Source("landscape", "variable SLIPWAY_LANDSCAPE") + " (" + f.Landscape + ")"},
		{"commit", o.Commit, "verified ID token, or CI_COMMIT_SHA outside of a job"},
		{"role", f.Role.ARN, "landscape (for plan; apply takes the account's role of purpose apply)"},
	}
	for _, pair := range o.BackendConfig() {
		name, value, _ := strings.Cut(pair, "=")
		source := "landscape"
		switch name {
		case "key":
			source = "stack"
		case "use_path_style":
			source = "AWS_ENDPOINT_URL is set"
		case "encrypt":
			source = "always"
		}
		rows = append(rows, Row{"backend." + name, value, source})
	}
	for _, file := range o.VarFiles {
		rows = append(rows, Row{"var-file", file, f.Source("var-file", "default")})
	}
	for _, pair := range o.Variables {
		name, value, _ := strings.Cut(pair, "=")
		rows = append(rows, Row{"var." + name, value, "landscape, since the stack declares it"})
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, r.Value, r.Source)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return run.Result(rows, b.String())
}
