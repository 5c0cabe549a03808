// Package check is the verb check: is a backup whole, by its bucket alone.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/cover"
	"gitlab.com/slipway/slipway/tools/backup/internal/mark"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// Result is what the bucket says of a backup.
type Result struct {
	Backup        string          `json:"backup"`
	Phase         string          `json:"phase"`
	Namespaces    []string        `json:"namespaces"`
	RecoveryPoint time.Time       `json:"recoveryPoint"`
	RecoveryFrom  string          `json:"recoveryFrom"`
	Age           string          `json:"age"`
	Objects       int             `json:"objects"`
	Claims        []cover.Claim   `json:"claims,omitempty"`
	Files         []artifact.File `json:"files"`
	Problems      []string        `json:"problems,omitempty"`
	Verdict       string          `json:"verdict"`
}

// Judge says what is wrong with an artifact: what cannot be read, how it
// ended, and the claims whose data it does not hold.
func Judge(a *artifact.Artifact) (claims []cover.Claim, problems []string) {
	problems = append(problems, a.Problems...)
	if s := a.Backup.Status; s.Phase != velero.Completed {
		problems = append(problems, fmt.Sprintf("the backup ended %q, with %d errors", s.Phase, s.Errors))
	}
	for key := range a.Items {
		if key.Resource == "persistentvolumeclaims" {
			claims = append(claims, cover.ClaimState(key.Namespace, key.Name, a.Volumes))
		}
	}
	all := cover.Coverage{Claims: sorted(claims)}
	return all.Claims, append(problems, all.Gaps()...)
}

// Run reads the backup out of the bucket and judges it.
func Run(ctx context.Context, run *tool.Run, store artifact.Store, prefix, name string, now func() time.Time) error {
	var a *artifact.Artifact
	err := run.Step(ctx, "read the backup", func(ctx context.Context) error {
		var err error
		a, err = artifact.Read(ctx, store, prefix, name)
		return err
	})
	if err != nil {
		return err
	}
	r := Result{Backup: name, Phase: a.Backup.Status.Phase, Namespaces: a.Backup.Spec.IncludedNamespaces, Objects: len(a.Items), Files: a.Files}
	r.Claims, r.Problems = Judge(a)
	r.RecoveryPoint, r.RecoveryFrom = cover.RecoveryPoint(a.Backup, a.Volumes)
	r.Age = now().Sub(r.RecoveryPoint).Round(time.Second).String()
	for _, p := range r.Problems {
		run.Report.Find(report.Finding{Level: "error", Class: "artifact", Object: name, Message: p})
		run.Log.Printf("problem: %s", p)
	}
	mark.Messages(run, name, a.Results)
	var bad error
	if len(r.Problems) > 0 {
		bad = tool.Exit(tool.Unproven, errors.New("backup "+name+" is not whole: "+strings.Join(r.Problems[:1], "")+more(len(r.Problems)-1)))
	}
	r.Verdict = tool.Outcome(tool.CodeOf(bad))
	if err := run.Result(r, r.text()); err != nil {
		return err
	}
	return bad
}

func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}

func (r *Result) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "backup          %s\nphase           %s\nnamespaces      %s\n", r.Backup, r.Phase, strings.Join(r.Namespaces, ", "))
	fmt.Fprintf(&s, "recovery point  %s: %s; %s ago\n", r.RecoveryPoint.Format(time.RFC3339), r.RecoveryFrom, r.Age)
	fmt.Fprintf(&s, "read            %d files, %d objects, %d claims\n", len(r.Files), r.Objects, len(r.Claims))
	fmt.Fprintf(&s, "verdict         %s", r.Verdict)
	return s.String()
}

func sorted(claims []cover.Claim) []cover.Claim {
	slices.SortFunc(claims, func(a, b cover.Claim) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return claims
}
