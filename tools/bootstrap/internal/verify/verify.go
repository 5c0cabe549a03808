// Package verify checks that the live organisation is what the landscape says.
package verify

import (
	"context"
	"fmt"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/estate"
)

// Run reads the live organisation and ends with 3 where it differs, and with 7
// where a part of it could not be looked at. It changes nothing.
func Run(ctx context.Context, run *tool.Run, e *estate.Estate) error {
	found, err := e.Run(ctx, run, false)
	if err != nil {
		return err
	}
	for _, c := range found.Changes {
		run.Report.Find(report.Finding{Level: "error", Class: "drift", Object: c.Account + "/" + c.Resource, Message: c.String(), Next: "slipway-bootstrap apply"})
	}
	summary := found.Summary("missing", "different")
	if err := run.Result(found, found.Lines()+summary); err != nil {
		return err
	}
	if n := len(found.Changes); n > 0 {
		return tool.Exit(tool.Pending, fmt.Errorf("%d resources are not as the landscape says", n), "slipway-bootstrap apply mends them")
	}
	if found.Unseen > 0 {
		var next []string
		for _, f := range found.Findings {
			if f.Level == "warning" {
				next = append(next, f.Object+": "+f.Next)
			}
		}
		return tool.Exit(tool.Unproven, fmt.Errorf("%d things were not looked at; what was seen is as the landscape says", found.Unseen), next...)
	}
	return nil
}
