package gitlabapi

import (
	"context"
	"fmt"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// JobState returns the state of a job, as GitLab shows it. A job token may not
// ask for another job's: the caller needs a token with read rights.
func (c *Client) JobState(ctx context.Context, project, job int64) (string, error) {
	j, _, err := c.api.Jobs.GetJob(project, job, gitlab.WithContext(ctx))
	if err != nil {
		return "", fmt.Errorf("asking GitLab for job %d of project %d: %w", job, project, Denied(err))
	}
	return j.Status, nil
}
