package run

import (
	"context"
	"fmt"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/envstate"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/gate"
	"gitlab.com/slipway/slipway/tools/promote/internal/gitrepo"
	"gitlab.com/slipway/slipway/tools/promote/internal/state"
)

// write commits the desired state. It refuses where the configuration or the
// desired state moved on after the gates were asked: what was decided is no
// longer what would be deployed.
func (o *Options) write(ctx context.Context, run *tool.Run, repo *gitrepo.Repo, b *bundle.Bundle, results []gate.Result) error {
	file := envstate.DesiredFile(o.Target, o.Service)
	values := envstate.ValuesFile(o.Target, o.Service)
	atPipeline, err := repo.ReadAt(ctx, o.Identity.Commit, values)
	if err != nil {
		return tool.Hint(err, "the pipeline's commit must be on the branch it runs for")
	}
	revision := envstate.Revision(atPipeline)
	previous, err := repo.Read(file)
	if err != nil {
		return err
	}
	if previous != nil {
		old, err := envstate.ReadDesired(file, previous)
		if err != nil {
			return tool.Exit(tool.Usage, err, "the file belongs to slipway-promote: restore its last version")
		}
		if old.Bundle == o.Bundle && old.Configuration == revision {
			return o.done(run, results, revision, "")
		}
	}
	desired := envstate.Desired{APIVersion: "slipway/v1", Kind: "Desired", Service: o.Service, Environment: o.Target, Bundle: o.Bundle,
		Configuration: revision, Commit: b.Config.Commit, By: o.Identity.User, Pipeline: o.Identity.PipelineID, At: o.Now().UTC(), Gates: state.Gates(results)}
	raw, err := desired.Encode()
	if err != nil {
		return err
	}
	message := fmt.Sprintf("promote %s to %s\n\nBundle: %s\nConfiguration: %s\nBy: %s\nPipeline: %d\n", o.Service, o.Target, o.Bundle, revision, o.Identity.User, o.Identity.PipelineID)
	commit, err := repo.Commit(ctx, message, func(context.Context) (map[string][]byte, error) {
		tip, err := repo.Read(values)
		if err != nil {
			return nil, err
		}
		if now := envstate.Revision(tip); now != revision {
			return nil, tool.Exit(tool.Refused, fmt.Errorf("%q has changed since this pipeline started: %s is there now, and %s would be deployed", values, now, revision),
				"press the button again: a new pipeline takes the new configuration")
		}
		standing, err := repo.Read(file)
		if err != nil {
			return nil, err
		}
		if string(standing) != string(previous) {
			return nil, tool.Exitf(tool.Temporary, "another promotion of %q to %q was written meanwhile", o.Service, o.Target)
		}
		return map[string][]byte{file: raw}, nil
	})
	if err != nil {
		return err
	}
	return o.done(run, results, revision, commit)
}

func (o *Options) done(run *tool.Run, results []gate.Result, revision, commit string) error {
	text := fmt.Sprintf("%s in %s: desired state written as %s, %d gates passed", o.Service, o.Target, commit, len(results))
	if commit == "" {
		text = fmt.Sprintf("%s in %s: this bundle and configuration are desired already, nothing to commit", o.Service, o.Target)
	}
	return run.Result(Result{o.Service, o.Target, o.Bundle, revision, state.Gates(results), commit}, text)
}
