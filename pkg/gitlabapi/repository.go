package gitlabapi

import (
	"context"
	"fmt"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// Commit is who wrote a commit.
type Commit struct {
	ID          string
	AuthorName  string
	AuthorEmail string
}

// Commit returns a commit of a project.
func (c *Client) Commit(ctx context.Context, project any, sha string) (Commit, error) {
	got, _, err := c.api.Commits.GetCommit(project, sha, nil, gitlab.WithContext(ctx))
	if err != nil {
		return Commit{}, fmt.Errorf("reading commit %q of project %v: %w", sha, project, Denied(err))
	}
	return Commit{ID: got.ID, AuthorName: got.AuthorName, AuthorEmail: got.AuthorEmail}, nil
}

// File returns a file of a project's repository at a ref, or nil where the ref
// has none.
func (c *Client) File(ctx context.Context, project any, ref, path string) ([]byte, error) {
	raw, _, err := c.api.RepositoryFiles.GetRawFile(project, path, &gitlab.GetRawFileOptions{Ref: &ref}, gitlab.WithContext(ctx))
	if NotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %q of project %v at %q: %w", path, project, ref, Denied(err))
	}
	return raw, nil
}
