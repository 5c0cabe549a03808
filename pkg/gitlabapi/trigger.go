package gitlabapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Pipeline is a pipeline that was started.
type Pipeline struct {
	ID     int64
	Status string
	URL    string
}

// Trigger starts a pipeline of another project with inputs. token is the job
// token: GitLab takes it for a trigger token, and notes which job it was.
func (c *Client) Trigger(ctx context.Context, project any, token, ref string, inputs map[string]string) (Pipeline, error) {
	values := gitlab.PipelineInputsOption{}
	for name, value := range inputs {
		values[name] = gitlab.NewPipelineInputValue(value)
	}
	p, _, err := c.api.PipelineTriggers.RunPipelineTrigger(project, &gitlab.RunPipelineTriggerOptions{Ref: &ref, Token: &token, Inputs: values}, gitlab.WithContext(ctx))
	if unanswered(err) {
		return Pipeline{}, tool.Exit(tool.Broken, fmt.Errorf("starting a pipeline of project %v on %q: whether it was started is not known: %w", project, ref, err))
	}
	if err != nil {
		return Pipeline{}, fmt.Errorf("starting a pipeline of project %v on %q: %w", project, ref, Denied(err))
	}
	return Pipeline{ID: p.ID, Status: p.Status, URL: p.WebURL}, nil
}

// unanswered reports whether a call may have been done although it failed: it
// was sent, and GitLab's own answer to it never came.
func unanswered(err error) bool {
	if err == nil {
		return false
	}
	var answer *gitlab.ErrorResponse
	if errors.As(err, &answer) {
		return answer.StatusCode >= http.StatusInternalServerError
	}
	var connection *net.OpError
	return !errors.As(err, &connection) || connection.Op != "dial"
}
