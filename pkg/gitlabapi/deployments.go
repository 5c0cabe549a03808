package gitlabapi

import (
	"context"
	"fmt"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// Deployment is a deployment record.
type Deployment struct {
	ID          int64
	Environment string
	SHA         string
	Ref         string
	Pipeline    int64     // of the job that deployed; 0 where the record was made through the API
	Status      string    // running | success | failed | canceled
	Finished    time.Time // of a record to make: when what it tells of was done
}

// deploymentPages bounds how far back records are read: 100 to a page.
const deploymentPages = 5

// Deployments returns the successful deployments of an environment, the newest
// first, and no more than the newest 500.
func (c *Client) Deployments(ctx context.Context, project any, environment string) ([]Deployment, error) {
	opts := &gitlab.ListProjectDeploymentsOptions{
		ListOptions: gitlab.ListOptions{PerPage: 100, Page: 1},
		OrderBy:     gitlab.Ptr("id"), Sort: gitlab.Ptr("desc"),
		Environment: &environment, Status: gitlab.Ptr("success"),
	}
	var all []Deployment
	for range deploymentPages {
		page, resp, err := c.api.Deployments.ListProjectDeployments(project, opts, gitlab.WithContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("listing the deployments of project %v in %q: %w", project, environment, Denied(err))
		}
		for _, d := range page {
			all = append(all, deployment(d))
		}
		if resp.NextPage == 0 {
			break
		}
		opts.Page = resp.NextPage
	}
	return all, nil
}

// Deploy makes a deployment record and returns it as read back. A record that
// says the same and is not older than d.Finished, where that is set, stands for
// this one: a run that died after its call, or whose reply was lost, made it.
func (c *Client) Deploy(ctx context.Context, project any, d Deployment) (Deployment, error) {
	standing, err := c.standing(ctx, project, d)
	if err != nil || standing.ID != 0 {
		return standing, err
	}
	made, _, err := c.api.Deployments.CreateProjectDeployment(project, &gitlab.CreateProjectDeploymentOptions{
		Environment: &d.Environment, Ref: &d.Ref, SHA: &d.SHA, Tag: gitlab.Ptr(false),
		Status: gitlab.Ptr(gitlab.DeploymentStatusValue(d.Status)),
	}, gitlab.WithContext(ctx))
	if err != nil {
		return Deployment{}, fmt.Errorf("recording the deployment of %q to %q in project %v: %w", d.SHA, d.Environment, project, Denied(err))
	}
	read, _, err := c.api.Deployments.GetProjectDeployment(project, made.ID, gitlab.WithContext(ctx))
	if err != nil {
		return Deployment{}, fmt.Errorf("reading back deployment %d of project %v: %w", made.ID, project, Denied(err))
	}
	got := deployment(read)
	if got.SHA != d.SHA || got.Environment != d.Environment || got.Status != d.Status {
		return got, fmt.Errorf("reading back deployment %d of project %v: it says %s of %q to %q", made.ID, project, got.Status, got.SHA, got.Environment)
	}
	return got, nil
}

// standing returns the record of an earlier attempt, or the zero value.
func (c *Client) standing(ctx context.Context, project any, d Deployment) (Deployment, error) {
	if d.Finished.IsZero() {
		return Deployment{}, nil
	}
	status := d.Status
	newest, _, err := c.api.Deployments.ListProjectDeployments(project, &gitlab.ListProjectDeploymentsOptions{
		ListOptions: gitlab.ListOptions{PerPage: 100}, OrderBy: gitlab.Ptr("id"), Sort: gitlab.Ptr("desc"), Environment: &d.Environment, Status: &status,
	}, gitlab.WithContext(ctx))
	if err != nil {
		return Deployment{}, fmt.Errorf("listing the deployments of project %v in %q: %w", project, d.Environment, Denied(err))
	}
	for _, one := range newest {
		if got := deployment(one); got.SHA == d.SHA && !got.Finished.Before(d.Finished) {
			return got, nil
		}
	}
	return Deployment{}, nil
}

func deployment(d *gitlab.Deployment) Deployment {
	out := Deployment{ID: d.ID, SHA: d.SHA, Ref: d.Ref, Pipeline: d.Deployable.Pipeline.ID, Status: d.Status}
	if d.Environment != nil {
		out.Environment = d.Environment.Name
	}
	// A record made through the API has no job; its last change is then the end.
	for _, t := range []*time.Time{d.Deployable.FinishedAt, d.UpdatedAt, d.CreatedAt} {
		if t != nil && !t.IsZero() {
			out.Finished = *t
			break
		}
	}
	return out
}
