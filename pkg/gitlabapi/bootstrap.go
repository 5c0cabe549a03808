package gitlabapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

// Forbidden reports whether err is GitLab's refusal of our token.
func Forbidden(err error) bool {
	return gitlab.HasStatusCode(err, http.StatusForbidden) || gitlab.HasStatusCode(err, http.StatusUnauthorized)
}

// TrustSettings are the settings of a project that trust is built on.
type TrustSettings struct {
	Path              string
	SubjectComponents []string // what the sub of its ID tokens is made of
	JobsPush          bool     // its jobs' tokens may push to it
	VariablesRole     string   // who may give a pipeline variables: developer, maintainer, owner, no_one_allowed
	AllowListOn       bool     // job tokens of other projects need to be on the list
	Allowed           []int64  // the projects on the list, itself included
}

// TrustSettings reads the settings of a project. It takes a maintainer's token.
func (c *Client) TrustSettings(ctx context.Context, project int64) (TrustSettings, error) {
	var s TrustSettings
	p, _, err := c.api.Projects.GetProject(project, nil, gitlab.WithContext(ctx))
	if err != nil {
		return s, fmt.Errorf("reading project %d: %w", project, Denied(err))
	}
	s.Path, s.SubjectComponents, s.JobsPush = p.PathWithNamespace, p.CIIdTokenSubClaimComponents, p.CIPushRepositoryForJobTokenAllowed
	s.VariablesRole = p.CIPipelineVariablesMinimumOverrideRole
	scope, _, err := c.api.JobTokenScope.GetProjectJobTokenAccessSettings(project, gitlab.WithContext(ctx))
	if err != nil {
		return s, fmt.Errorf("reading the job token settings of project %d: %w", project, Denied(err))
	}
	s.AllowListOn = scope.InboundEnabled
	options := &gitlab.GetJobTokenInboundAllowListOptions{ListOptions: gitlab.ListOptions{PerPage: 100, Page: 1}}
	for {
		list, resp, err := c.api.JobTokenScope.GetProjectJobTokenInboundAllowList(project, options, gitlab.WithContext(ctx))
		if err != nil {
			return s, fmt.Errorf("reading the job token allow-list of project %d: %w", project, Denied(err))
		}
		for _, p := range list {
			s.Allowed = append(s.Allowed, p.ID)
		}
		if resp.NextPage == 0 {
			return s, nil
		}
		options.Page = resp.NextPage
	}
}

// SetSubjectComponents says what the sub of a project's ID tokens is made of.
func (c *Client) SetSubjectComponents(ctx context.Context, project int64, components []string) error {
	_, _, err := c.api.Projects.EditProject(project, &gitlab.EditProjectOptions{CIIdTokenSubClaimComponents: &components}, gitlab.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("setting the subject of ID tokens of project %d: %w", project, Denied(err))
	}
	return nil
}

// RefusePipelineVariables lets nobody give a pipeline of the project variables
// of its own. Such a variable wins over the pipeline's file, and could name
// another landscape or another instance to a job that has the project's rights.
// Inputs stay: the file declares what they may be.
func (c *Client) RefusePipelineVariables(ctx context.Context, project int64) error {
	_, _, err := c.api.Projects.EditProject(project, &gitlab.EditProjectOptions{
		CIPipelineVariablesMinimumOverrideRole: gitlab.Ptr(gitlab.CIPipelineVariablesNoOneAllowedRole)}, gitlab.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("refusing pipeline variables in project %d: %w", project, Denied(err))
	}
	return nil
}

// NoPipelineVariables reports whether nobody may give pipelines variables.
func (s TrustSettings) NoPipelineVariables() bool {
	return s.VariablesRole == gitlab.CIPipelineVariablesNoOneAllowedRole
}

// AllowJobPushes lets the tokens of a project's own jobs push to it.
func (c *Client) AllowJobPushes(ctx context.Context, project int64) error {
	_, _, err := c.api.Projects.EditProject(project, &gitlab.EditProjectOptions{CIPushRepositoryForJobTokenAllowed: gitlab.Ptr(true)}, gitlab.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("letting jobs of project %d push: %w", project, Denied(err))
	}
	return nil
}

// LimitJobTokens lets only the job tokens of projects on the allow-list in.
func (c *Client) LimitJobTokens(ctx context.Context, project int64) error {
	_, err := c.api.JobTokenScope.PatchProjectJobTokenAccessSettings(project, &gitlab.PatchProjectJobTokenAccessSettingsOptions{Enabled: true}, gitlab.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("switching on the job token allow-list of project %d: %w", project, Denied(err))
	}
	return nil
}

// AllowJobTokens puts a project on the job token allow-list of another.
func (c *Client) AllowJobTokens(ctx context.Context, project, target int64) error {
	_, _, err := c.api.JobTokenScope.AddProjectToJobScopeAllowList(project, &gitlab.JobTokenInboundAllowOptions{TargetProjectID: &target}, gitlab.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("letting job tokens of project %d into project %d: %w", target, project, Denied(err))
	}
	return nil
}

// PublishSnapshot publishes a snapshot in the platform project's packages:
// under its digest first, where it stays, and then as the current one.
func (c *Client) PublishSnapshot(ctx context.Context, s *landscape.Snapshot) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the snapshot: %w", err)
	}
	digest, err := s.Digest()
	if err != nil {
		return err
	}
	project := fmt.Sprint(s.GitLab.Platform.ID)
	version := strings.TrimPrefix(digest, "sha256:")
	_, err = c.PackageFile(ctx, project, SnapshotPackage, version, SnapshotFile)
	if err != nil && !NotFound(err) {
		return err
	}
	if NotFound(err) {
		if err := c.PutPackageFile(ctx, project, SnapshotPackage, version, SnapshotFile, raw); err != nil {
			return err
		}
	}
	return c.PutPackageFile(ctx, project, SnapshotPackage, Current, SnapshotFile, raw)
}

// PutPackageFile publishes a file of a generic package. Of several files with
// one name, GitLab gives out the newest.
func (c *Client) PutPackageFile(ctx context.Context, project, name, version, file string, raw []byte) error {
	_, _, err := c.api.GenericPackages.PublishPackageFile(project, name, version, file, bytes.NewReader(raw), nil, gitlab.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("publishing package file \"%s/%s/%s\": %w", name, version, file, Denied(err))
	}
	return nil
}
