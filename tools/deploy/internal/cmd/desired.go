package cmd

import (
	"context"
	"errors"
	"fmt"

	"gitlab.com/slipway/slipway/pkg/envstate"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// wanted refuses what is not the desired state of a gated environment now. It
// is read at the tip of the protected branch that the ID token names: a job of
// an older pipeline, started again or overtaken by a newer promotion, has what
// was desired once, and a variable may say anything.
func wanted(ctx context.Context, s *session.Session, o options, t target) error {
	if s.Identity.ProjectID != s.Snapshot.GitLab.Environments.ID || !s.Identity.RefProtected || s.Identity.RefType != "branch" {
		return tool.Exit(tool.Denied, fmt.Errorf("environment %q is deployed to by jobs of %s on a protected branch; this job is %q", t.Environment, s.Snapshot.GitLab.Environments.Path, s.Identity.Subject))
	}
	if s.GitLab == nil {
		return tool.Exitf(tool.Denied, "reading the desired state of %q: the job has no token for GitLab", t.Environment)
	}
	file := envstate.DesiredFile(t.Environment, t.Service)
	raw, err := s.GitLab.File(ctx, s.Identity.ProjectID, s.Identity.Ref, file)
	if err != nil {
		return err
	}
	const hint = "press the promotion button: its gate writes the desired state, which this job then holds to"
	if raw == nil {
		return tool.Exit(tool.Refused, fmt.Errorf("nothing is desired of %q in %q: %s has no %q", t.Service, t.Environment, s.Snapshot.GitLab.Environments.Path, file), hint)
	}
	desired, err := envstate.ReadDesired(file, raw)
	if err != nil {
		return tool.Exit(tool.Refused, err)
	}
	return compare(desired, o, t, hint)
}

// compare holds the bundle and the configuration at hand to the desired state.
func compare(desired envstate.Desired, o options, t target, hint string) error {
	values, err := valuesFile(o.values)
	if err != nil {
		return err
	}
	var differ []error
	for _, c := range []struct{ what, desired, have string }{
		{"service", desired.Service, t.Service},
		{"environment", desired.Environment, t.Environment},
		{"bundle", desired.Bundle, o.bundle.String()},
		{"configuration", desired.Configuration, envstate.Revision(values)},
	} {
		if c.desired != c.have {
			differ = append(differ, fmt.Errorf("the %s desired is %q, and this job has %q", c.what, c.desired, c.have))
		}
	}
	if len(differ) > 0 {
		return tool.Exit(tool.Refused, fmt.Errorf("deploying %q to %q: %w", t.Service, t.Environment, errors.Join(differ...)), hint)
	}
	return nil
}
