// Package cmd reads the flags of slipway-promote and joins its verbs with the
// session of the job.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/explain"
	"gitlab.com/slipway/slipway/tools/promote/internal/matrix"
	"gitlab.com/slipway/slipway/tools/promote/internal/promotion"
	"gitlab.com/slipway/slipway/tools/promote/internal/record"
	"gitlab.com/slipway/slipway/tools/promote/internal/request"
	"gitlab.com/slipway/slipway/tools/promote/internal/run"
)

// Program returns slipway-promote.
func Program() tool.Program {
	return tool.Program{
		Name:  "slipway-promote",
		Usage: "move a release bundle from environment to environment, through gates",
		Commands: []tool.Command{
			{Name: "request", Usage: "start the promotion of this pipeline's bundle in the environments project",
				Flags: []cli.Flag{serviceFlag("default: the one of this project"), bundleFlag(),
					&cli.StringFlag{Name: "to", Usage: "gated `ENVIRONMENT` (required)"}, session.LandscapeFlag()}, Run: within(most, runRequest)},
			{Name: "run", Usage: "verify the bundle, ask the gates and write the desired state",
				Flags: []cli.Flag{serviceFlag("required"), bundleFlag(), targetFlag("required"), fileFlag(), session.LandscapeFlag()}, Run: within(most, runRun)},
			{Name: "record", Usage: "keep what was observed after a deployment, and make the deployment record",
				Flags: []cli.Flag{serviceFlag("required"), bundleFlag(), targetFlag("required"),
					&cli.StringFlag{Name: "observed", Value: "observed.yaml", Usage: "`FILE` that slipway-deploy apply --observed wrote"},
					&cli.StringFlag{Name: "gate-report", Value: "slipway-report/gate/slipway-promote.json", Usage: "`FILE` that the gate's job left as its report"}, session.LandscapeFlag()}, Run: within(most, runRecord)},
			{Name: "matrix", Usage: "print which bundle is desired and which runs, from the files of the environments project",
				Flags: []cli.Flag{&cli.StringFlag{Name: "dir", Value: ".", Usage: "`FOLDER` of the environments project"}}, Run: runMatrix},
			{Name: "explain", Usage: "print the order and the gates that hold; changes nothing",
				Flags: []cli.Flag{targetFlag("default: all"), fileFlag(), session.LandscapeFlag()}, Run: within(most, runExplain)},
		},
	}
}

// most is how long a verb may take: each takes seconds, and a job that waits for
// a server that never answers holds the environment's resource group.
const most = 15 * time.Minute

// within ends a verb that takes too long, as worth a retry: each can be repeated.
func within(limit time.Duration, verb func(context.Context, *tool.Run, *cli.Context) error) func(context.Context, *tool.Run, *cli.Context) error {
	return func(ctx context.Context, r *tool.Run, flags *cli.Context) error {
		ctx, cancel := tool.Deadline(ctx, limit, "the verb")
		defer cancel()
		err := verb(ctx, r, flags)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && tool.CodeOf(err) == tool.Failed {
			return tool.Exit(tool.Temporary, err)
		}
		return err
	}
}

func serviceFlag(note string) cli.Flag {
	return &cli.StringFlag{Name: "service", Usage: "`SERVICE` of the landscape (" + note + ")"}
}

func bundleFlag() cli.Flag {
	return &cli.StringFlag{Name: "bundle", Usage: "release `BUNDLE` by digest (required; also SLIPWAY_BUNDLE, which slipway-deploy bundle sets)"}
}

func targetFlag(note string) cli.Flag {
	return &cli.StringFlag{Name: "target", Usage: "gated `ENVIRONMENT` (" + note + ")"}
}

func fileFlag() cli.Flag {
	return &cli.StringFlag{Name: "file", Value: "promotion.yaml", Usage: "`FILE` of order and gates, in the environments project"}
}

// bundleOf returns the flag, or what the job that made the bundle handed on.
func bundleOf(r *tool.Run, flags *cli.Context) string {
	if v := flags.String("bundle"); v != "" {
		return v
	}
	return r.Env("SLIPWAY_BUNDLE")
}

// need names every missing flag at once.
func need(r *tool.Run, flags *cli.Context, names ...string) error {
	var p tool.Problems
	for _, name := range names {
		value := flags.String(name)
		switch name {
		case "bundle":
			value = bundleOf(r, flags)
		case "landscape":
			value = session.Landscape(flags, r.Env)
		}
		p.Need(value, name)
	}
	return p.Err()
}

func open(ctx context.Context, r *tool.Run, flags *cli.Context) (*session.Session, error) {
	var s *session.Session
	err := r.Step(ctx, "read the landscape", func(ctx context.Context) error {
		var err error
		s, err = session.Open(ctx, r, session.Options{Landscape: session.Landscape(flags, r.Env)})
		return err
	})
	return s, err
}

// openJob is open for the verbs that only a job can do.
func openJob(ctx context.Context, r *tool.Run, flags *cli.Context) (*session.Session, error) {
	s, err := open(ctx, r, flags)
	if err != nil {
		return nil, err
	}
	if !s.CI.InJob || s.GitLab == nil || s.CI.JobToken == "" {
		return nil, tool.Exit(tool.Denied, errors.New("this verb is for jobs: there is no job token in CI_JOB_TOKEN"), "the shipped templates promote.yml and promotion.yml call it")
	}
	return s, nil
}

func runRequest(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	if err := need(r, flags, "bundle", "to", "landscape"); err != nil {
		return err
	}
	s, err := openJob(ctx, r, flags)
	if err != nil {
		return err
	}
	return request.Run(ctx, r, request.Options{Service: flags.String("service"), Bundle: bundleOf(r, flags), To: flags.String("to"),
		ProjectID: s.Identity.ProjectID, JobToken: s.CI.JobToken, Snapshot: s.Snapshot, GitLab: s.GitLab})
}

func runRun(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	if err := need(r, flags, "service", "bundle", "target", "landscape"); err != nil {
		return err
	}
	s, err := openJob(ctx, r, flags)
	if err != nil {
		return err
	}
	j := job{run: r, session: s}
	return run.Run(ctx, r, run.Options{Service: flags.String("service"), Bundle: bundleOf(r, flags), Target: flags.String("target"), File: flags.String("file"),
		RegistryHost: j.registry(), Identity: s.Identity, Email: j.email(), Snapshot: s.Snapshot, Now: j.now,
		GitLab: s.GitLab, Fetch: j.fetch, Verify: j.verifier(flags.String("target")), Clone: j.clone})
}

func runRecord(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	if err := need(r, flags, "service", "bundle", "target", "landscape"); err != nil {
		return err
	}
	s, err := openJob(ctx, r, flags)
	if err != nil {
		return err
	}
	j := job{run: r, session: s}
	return record.Run(ctx, r, record.Options{Service: flags.String("service"), Bundle: bundleOf(r, flags), Target: flags.String("target"),
		Observed: flags.String("observed"), Gate: flags.String("gate-report"), Ref: s.Snapshot.Services[flags.String("service")].Project.Trunk(), Identity: s.Identity, Snapshot: s.Snapshot,
		GitLab: s.GitLab, Fetch: j.fetch, Clone: j.clone})
}

func runMatrix(_ context.Context, r *tool.Run, flags *cli.Context) error {
	return matrix.Run(r, flags.String("dir"))
}

func runExplain(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	if err := need(r, flags, "landscape"); err != nil {
		return err
	}
	s, err := open(ctx, r, flags)
	if err != nil {
		return err
	}
	file := flags.String("file")
	raw, err := os.ReadFile(file)
	if err != nil {
		return tool.Exit(tool.Usage, fmt.Errorf("reading %q: %w", file, err), "--file names the promotion.yaml of the environments project")
	}
	p, err := promotion.Read(file, raw, s.Snapshot)
	if err != nil {
		return err
	}
	if target := flags.String("target"); target != "" {
		inOrder := slices.ContainsFunc(p.Order, func(w promotion.Wave) bool { return slices.Contains(w, target) })
		if !inOrder || !s.Snapshot.Environments[target].Gated {
			return tool.Exitf(tool.Usage, "--target: %q is not a gated environment of the order", target)
		}
	}
	return explain.Run(r, p, s.Snapshot, file, flags.String("target"))
}
