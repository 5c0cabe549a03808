package estate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// gitlabAccount is where GitLab's resources stand in the list of accounts.
const gitlabAccount = "gitlab"

// subComponents are what the sub of an ID token is made of, in the order that
// the trust policies have it.
func subComponents() []string { return []string{"project_id", "ref_protected", "ref_type", "ref"} }

// project is a GitLab project's part of the trust: how its ID tokens name it,
// whose job tokens it lets in, and whether its jobs may push to it.
type project struct {
	client  *gitlabapi.Client // nil where no token is known
	project landscape.Project
	allows  []int64
	push    bool // the project's own jobs write to it

	missing      []int64
	subject, may bool
	inbound      bool
	fixed        bool // no pipeline gets variables from outside
}

// Account returns gitlab.
func (*project) Account() string { return gitlabAccount }

// Name returns the resource's name.
func (r *project) Name() string { return "project " + r.project.Path }

// byHand says what a person has to set where our token may not.
func (r *project) byHand(why string) resource.Observation {
	ids := make([]string, len(r.allows))
	for i, id := range r.allows {
		ids[i] = fmt.Sprint(id)
	}
	next := fmt.Sprintf("set SLIPWAY_GITLAB_TOKEN to a maintainer's token with the scope api, or set by hand: ci_id_token_sub_claim_components = %s; ci_pipeline_variables_minimum_override_role = no_one_allowed; job token allow-list with projects %s",
		strings.Join(subComponents(), ", "), strings.Join(ids, ", "))
	if r.push {
		next += "; pushes by job tokens allowed"
	}
	return resource.Observation{Unseen: true, Findings: []report.Finding{{Level: "warning", Class: "gitlab-unchecked", Object: r.project.Path,
		Message: fmt.Sprintf("the settings of project %s (%d) were not looked at: %s", r.project.Path, r.project.ID, why), Next: next}}}
}

// Observe reads the project's settings.
func (r *project) Observe(ctx context.Context) (resource.Observation, error) {
	if r.client == nil {
		return r.byHand("no token is known"), nil
	}
	if r.client.AsJob() {
		return r.byHand("a job token may not read them"), nil
	}
	var o resource.Observation
	s, err := r.client.TrustSettings(ctx, r.project.ID)
	if gitlabapi.NotFound(err) || gitlabapi.Forbidden(err) {
		return r.byHand(err.Error()), nil
	}
	if err != nil {
		return o, err
	}
	if s.Path != r.project.Path {
		o.Findings = append(o.Findings, report.Finding{Level: "warning", Class: "renamed", Object: r.project.Path,
			Message: fmt.Sprintf("project %d is %q in GitLab and %q in the landscape", r.project.ID, s.Path, r.project.Path), Next: "correct the path in the landscape"})
	}
	r.subject = slices.Equal(s.SubjectComponents, subComponents())
	r.may = s.JobsPush || !r.push
	r.inbound = s.AllowListOn
	r.fixed = s.NoPipelineVariables()
	r.missing = nil
	for _, id := range r.allows {
		if !slices.Contains(s.Allowed, id) {
			r.missing = append(r.missing, id)
		}
	}
	o.Differ(!r.subject, "subject of ID tokens")
	o.Differ(!r.inbound, "job token allow-list on")
	o.Differ(!r.fixed, "no pipeline variables from outside")
	o.Differ(len(r.missing) > 0, fmt.Sprintf("job tokens of projects %v", r.missing))
	o.Differ(!r.may, "pushes by its own jobs")
	return o, nil
}

// Apply sets what Observe found wrong. Projects that somebody else allowed stay.
func (r *project) Apply(ctx context.Context) error {
	if r.client == nil {
		return errors.New("no token is known")
	}
	if !r.subject {
		if err := r.client.SetSubjectComponents(ctx, r.project.ID, subComponents()); err != nil {
			return err
		}
	}
	if !r.inbound {
		if err := r.client.LimitJobTokens(ctx, r.project.ID); err != nil {
			return err
		}
	}
	if !r.fixed {
		if err := r.client.RefusePipelineVariables(ctx, r.project.ID); err != nil {
			return err
		}
	}
	for _, id := range r.missing {
		if err := r.client.AllowJobTokens(ctx, r.project.ID, id); err != nil {
			return err
		}
	}
	if r.may {
		return nil
	}
	return r.client.AllowJobPushes(ctx, r.project.ID)
}

// publication is the snapshot, as the other programs read it.
type publication struct {
	client *gitlabapi.Client
	facts  *Facts
}

// Account returns gitlab.
func (publication) Account() string { return gitlabAccount }

// Name returns the resource's name.
func (publication) Name() string { return "landscape snapshot" }

// Observe compares the published snapshot with the one that is compiled now.
func (r publication) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	s, err := r.facts.Snapshot()
	if err != nil {
		return o, err
	}
	digest, err := s.Digest()
	if err != nil {
		return o, err
	}
	if r.client == nil {
		o.Unseen = true
		o.Findings = []report.Finding{{Level: "warning", Class: "not-published", Object: digest, Message: "the snapshot is not published: no GitLab token is known",
			Next: "set CI_SERVER_URL and SLIPWAY_GITLAB_TOKEN, or let the platform project's pipeline publish it"}}
		return o, nil
	}
	raw, err := r.client.Snapshot(ctx, fmt.Sprint(s.GitLab.Platform.ID))
	if gitlabapi.NotFound(err) {
		return resource.Absent(digest), nil
	}
	if err != nil {
		return o, err
	}
	published, err := landscape.ReadSnapshot(raw)
	if err != nil {
		o.Differ(true, digest)
		return o, nil //nolint:nilerr // what is no snapshot is to be replaced
	}
	got, err := published.Digest()
	o.Differ(got != digest, digest)
	return o, err
}

// Apply publishes the snapshot by its digest, and then as the current one.
func (r publication) Apply(ctx context.Context) error {
	s, err := r.facts.Snapshot()
	if err != nil {
		return err
	}
	return r.client.PublishSnapshot(ctx, s)
}
