package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/diff"
)

// noteLimit is far below GitLab's million characters: a longer note is read by
// nobody, and the report has it all.
const noteLimit = 60_000

// note writes the comparison to the merge request of the pipeline, as one note
// that every later pipeline changes. Without a token that may, it says so: the
// comparison itself is done, and the report has it.
func note(ctx context.Context, run *tool.Run, s *session.Session, environment string, releases []diff.Release) {
	of := releases[0].Release + " in " + environment
	text := fmt.Sprintf("### What would change in %s\n\n%s\nAt commit %s.\n", environment, diff.Markdown(releases, noteLimit), short(s.Identity.Commit))
	written, why := writeNote(ctx, run, s, of, text)
	if written {
		run.Log.Printf("the note of the merge request says the same")
		return
	}
	run.Log.Printf("no note was written: %s; the comparison is in this log and in the report", why)
	run.Report.Find(report.Finding{Level: "warning", Class: "note", Object: of, Message: "no note was written: " + why})
}

func writeNote(ctx context.Context, run *tool.Run, s *session.Session, of, text string) (written bool, why string) {
	iid := s.CI.MergeRequest
	switch {
	case !s.CI.InJob || iid == 0:
		return false, "this is no pipeline of a merge request"
	case s.GitLab == nil || s.GitLab.AsJob():
		return false, "a job token may not write notes; a project access token in SLIPWAY_GITLAB_TOKEN may (role Reporter, scope api)"
	}
	mr, err := s.GitLab.MergeRequest(ctx, s.Identity.ProjectID, iid)
	if err == nil {
		err = ofBranch(s, mr.SourceProject, mr.SourceBranch, mr.SHA)
	}
	if err == nil {
		err = s.GitLab.Note(ctx, s.Identity.ProjectID, iid, "<!-- slipway-deploy diff: "+of+" -->", run.Log.Mask(text))
	}
	if err != nil {
		return false, err.Error()
	}
	return true, ""
}

// ofBranch checks that the merge request is that of the job's own branch, by
// the ID token: a variable chose its number. An older pipeline leaves the note
// to the newer one.
func ofBranch(s *session.Session, project int64, branch, sha string) error {
	if project != s.Identity.ProjectID || branch != s.Identity.Ref {
		return fmt.Errorf("merge request !%d is of branch %q, and this job of %q", s.CI.MergeRequest, branch, s.Identity.Ref)
	}
	if sha != s.Identity.Commit && sha != s.CI.MergeRequestSHA {
		return errors.New("the merge request has a newer commit, whose pipeline writes it")
	}
	return nil
}

// readingRole is the role that a job compares with. The deployment's own trusts
// the protected branch alone; elsewhere the service's review role reads, where
// the platform's tenancy lets it.
func readingRole(s *session.Session, t target) landscape.Role {
	if !s.CI.InJob || s.Identity.RefProtected || t.Role.Purpose != landscape.PurposeDeploy {
		return t.Role
	}
	for _, r := range s.Snapshot.Roles {
		if r.Purpose == landscape.PurposeReview && r.Service == t.Service && r.Account == t.Role.Account && slices.Contains(r.Clusters, t.Cluster) {
			return r
		}
	}
	return t.Role // AWS then says why not
}
