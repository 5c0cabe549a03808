// Package cmd reads the flags of slipway-bootstrap and joins its verbs with
// AWS and GitLab.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/apply"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/compile"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/estate"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/plan"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/verify"
)

// Program returns slipway-bootstrap.
func Program() tool.Program {
	return tool.Program{
		Name:  "slipway-bootstrap",
		Usage: "make the accounts, trust, state backends and audit trail of a landscape",
		Commands: []tool.Command{
			{Name: "compile", Usage: "check the landscape offline, all problems at once, and write its snapshot",
				Flags: []cli.Flag{dirFlag(), &cli.StringFlag{Name: "out", Usage: "`FILE` for the snapshot"}}, Run: runCompile},
			{Name: "plan", Usage: "read the live organisation and list every change it needs",
				Flags: append(live(), &cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit with 3 where changes are pending"}), Run: runPlan},
			{Name: "apply", Usage: "make the changes, read each back, and publish the snapshot", Flags: live(), Run: runApply},
			{Name: "verify", Usage: "check that the live organisation is what the landscape says; exit with 3 where not, with 7 where it cannot look", Flags: live(), Run: runVerify},
		},
	}
}

func dirFlag() cli.Flag {
	return &cli.StringFlag{Name: "dir", Value: "landscape", Usage: "`FOLDER` of landscape.yaml and services/"}
}

func live() []cli.Flag {
	return []cli.Flag{dirFlag(), &cli.IntFlag{Name: "parallel", Value: 8, Usage: "`NUMBER` of accounts worked on at a time"}}
}

func runCompile(_ context.Context, run *tool.Run, flags *cli.Context) error {
	src, err := landscape.LoadDir(flags.String("dir"))
	if err != nil {
		return err
	}
	return compile.Run(run, compile.Options{Source: src, Out: flags.String("out")})
}

func runPlan(ctx context.Context, run *tool.Run, flags *cli.Context) error {
	e, err := open(ctx, run, flags)
	if err != nil {
		return err
	}
	return plan.Run(ctx, run, e, flags.Bool("detailed-exitcode"))
}

func runApply(ctx context.Context, run *tool.Run, flags *cli.Context) error {
	e, err := open(ctx, run, flags)
	if err != nil {
		return err
	}
	return apply.Run(ctx, run, e)
}

func runVerify(ctx context.Context, run *tool.Run, flags *cli.Context) error {
	e, err := open(ctx, run, flags)
	if err != nil {
		return err
	}
	return verify.Run(ctx, run, e)
}

// open reads the landscape and obtains the rights of the management account.
// Nothing is asked of AWS or GitLab before the files are sound.
func open(ctx context.Context, run *tool.Run, flags *cli.Context) (*estate.Estate, error) {
	var p tool.Problems
	n := flags.Int("parallel")
	p.Check(n >= 1 && n <= 64, "--parallel must be between 1 and 64, got %d", n)
	src, err := landscape.LoadDir(flags.String("dir"))
	if err := errors.Join(p.Err(), err); err != nil {
		return nil, err
	}
	if _, err := landscape.Compile(src, landscape.Known{}); err != nil {
		return nil, err
	}
	ci := cienv.Read(run.Env)
	gl, err := connect(ci, src.Landscape.GitLab)
	if err != nil {
		return nil, err
	}
	var cfg aws.Config
	var name, management string
	var id cienv.Identity
	err = run.Step(ctx, "credentials", func(ctx context.Context) error {
		if id, err = identify(ctx, run, ci, src.Landscape); err != nil {
			return err
		}
		if cfg, name, err = credentials(ctx, ci, id, src.Landscape); err != nil {
			return err
		}
		if management, err = caller(ctx, run, cfg, src.Landscape); err != nil && ci.InJob {
			p := src.Landscape.GitLab.PlatformProject
			return tool.Hint(err, fmt.Sprintf("the role bootstrap trusts jobs of project %d (%s) on its protected branch %s; this job is %s", p.ID, p.Path, landscape.Project(p).Trunk(), id.Subject),
				"the role is made by the first run, which is a person's")
		}
		return tool.Hint(err, "the first run is a person's, with administrator rights in the management account; it makes the role bootstrap for jobs")
	})
	if err != nil {
		return nil, err
	}
	facts := estate.NewFacts(src, management)
	patience := estate.DefaultPatience()
	cloud := estate.NewCloud(cfg, name, awsauth.CustomEndpoint(run.Env), facts, patience)
	phases, err := estate.Phases(cloud, gl)
	if err != nil {
		return nil, err
	}
	return &estate.Estate{Facts: facts, Phases: phases, Patience: patience, Parallel: flags.Int("parallel")}, nil
}

// connect returns a client of the landscape's GitLab, nil where no token is known.
func connect(ci cienv.CI, gl landscape.GitLabSource) (*gitlabapi.Client, error) {
	if ci.ServerURL != "" && ci.ServerURL != gl.URL {
		return nil, session.OtherInstance(ci.ServerURL, gl.URL)
	}
	if ci.JobToken == "" && ci.Token == "" {
		return nil, nil
	}
	return gitlabapi.New(gitlabapi.Config{URL: gl.URL, Endpoint: ci.Endpoint, JobToken: ci.JobToken, Token: ci.Token})
}

// identify verifies the ID token of a job; a person has none.
func identify(ctx context.Context, run *tool.Run, ci cienv.CI, l landscape.Landscape) (cienv.Identity, error) {
	if !ci.InJob {
		return cienv.Identity{}, nil
	}
	return session.Identify(ctx, run, ci, l.GitLab.URL, l.GitLab.Audience)
}

// credentials are a person's own, or in a job those of the role bootstrap.
func credentials(ctx context.Context, ci cienv.CI, id cienv.Identity, l landscape.Landscape) (aws.Config, string, error) {
	if !ci.InJob {
		name := "unknown"
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		cfg, err := awsauth.Config(ctx, awsauth.Source{Region: l.AWS.Region})
		return cfg, awsauth.PersonSession(name), err
	}
	management := l.Accounts[landscape.Management].ID
	if management == "" {
		return aws.Config{}, "", tool.Exit(tool.Usage, errors.New("accounts.management.id is not set, and a job cannot guess it"), "a person's first run names it")
	}
	name := awsauth.SessionName(id.ProjectID, id.PipelineID, id.JobID)
	cfg, err := awsauth.Config(ctx, awsauth.Source{Region: l.AWS.Region, Token: ci.IDToken, Role: landscape.RoleARN(management, "bootstrap"), Session: name})
	return cfg, name, err
}

// caller makes the first call, and returns the number of the management account.
func caller(ctx context.Context, run *tool.Run, cfg aws.Config, l landscape.Landscape) (string, error) {
	arn, err := awsauth.Check(ctx, cfg)
	if err != nil {
		return "", err
	}
	parts := strings.Split(arn, ":")
	if len(parts) < 6 {
		return "", fmt.Errorf("asking AWS who we are: the answer is %q", arn)
	}
	id := parts[4]
	run.Log.Printf("working as %s", arn)
	if want := l.Accounts[landscape.Management].ID; want != "" && want != id {
		return "", tool.Exit(tool.Denied, fmt.Errorf("these are credentials of account %s, and the management account is %s", id, want), "use credentials of the management account")
	}
	if l.Accounts[landscape.Management].ID == "" {
		run.Log.Printf("note: set accounts.management.id to %q in the landscape, so that jobs find their role", id)
	}
	return id, nil
}
