package gitlabapi

import (
	"context"
	"fmt"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// MergeRequest is what a job may need to know of a merge request.
type MergeRequest struct {
	State         string // opened | closed | locked | merged
	SourceProject int64
	SourceBranch  string
	SHA           string // of its newest commit
	URL           string
}

// MergeRequest returns a merge request of a project.
func (c *Client) MergeRequest(ctx context.Context, project, iid int64) (MergeRequest, error) {
	mr, _, err := c.api.MergeRequests.GetMergeRequest(project, iid, nil, gitlab.WithContext(ctx))
	if err != nil {
		return MergeRequest{}, fmt.Errorf("reading merge request !%d of project %d: %w", iid, project, Denied(err))
	}
	return MergeRequest{State: mr.State, SourceProject: mr.SourceProjectID, SourceBranch: mr.SourceBranch, SHA: mr.SHA, URL: mr.WebURL}, nil
}

// notePages bounds how many notes are looked through: 100 to a page.
const notePages = 20

// Note writes body as the one note of the merge request that begins with the
// marker: the caller's own earlier note is changed, and a first one is made. An
// earlier note that says the same is left alone, so that nobody is told again.
func (c *Client) Note(ctx context.Context, project, iid int64, marker, body string) error {
	me, _, err := c.api.Users.CurrentUser(gitlab.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("asking GitLab whose token this is: %w", Denied(err))
	}
	body = marker + "\n" + body
	opts := &gitlab.ListMergeRequestNotesOptions{ListOptions: gitlab.ListOptions{PerPage: 100, Page: 1}, OrderBy: gitlab.Ptr("created_at"), Sort: gitlab.Ptr("asc")}
	for range notePages {
		page, resp, err := c.api.Notes.ListMergeRequestNotes(project, iid, opts, gitlab.WithContext(ctx))
		if err != nil {
			return fmt.Errorf("listing the notes of merge request !%d of project %d: %w", iid, project, Denied(err))
		}
		for _, n := range page {
			// Anybody may write the marker into a note of their own.
			if n.System || n.Author.ID != me.ID || !strings.HasPrefix(n.Body, marker) {
				continue
			}
			if strings.TrimSpace(n.Body) == strings.TrimSpace(body) {
				return nil
			}
			if _, _, err := c.api.Notes.UpdateMergeRequestNote(project, iid, n.ID, &gitlab.UpdateMergeRequestNoteOptions{Body: &body}, gitlab.WithContext(ctx)); err != nil {
				return fmt.Errorf("changing note %d of merge request !%d of project %d: %w", n.ID, iid, project, Denied(err))
			}
			return nil
		}
		if resp.NextPage == 0 {
			break
		}
		opts.Page = resp.NextPage
	}
	if _, _, err := c.api.Notes.CreateMergeRequestNote(project, iid, &gitlab.CreateMergeRequestNoteOptions{Body: &body}, gitlab.WithContext(ctx)); err != nil {
		return fmt.Errorf("writing a note to merge request !%d of project %d: %w", iid, project, Denied(err))
	}
	return nil
}
