// Package cmd reads the flags of slipway-terraform and joins its verbs with
// the session of the job.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/terraform/internal/apply"
	"gitlab.com/slipway/slipway/tools/terraform/internal/explain"
	"gitlab.com/slipway/slipway/tools/terraform/internal/plan"
	"gitlab.com/slipway/slipway/tools/terraform/internal/stack"
)

// Program returns slipway-terraform.
func Program() tool.Program {
	return tool.Program{
		Name:  "slipway-terraform",
		Usage: "plan and apply the Terraform stacks of a platform",
		Commands: []tool.Command{
			{Name: "plan", Usage: "plan a stack in an account and keep the plan, bound to its commit and landscape",
				Flags: append(common(), varFileFlag(), &cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit with 3 where changes are pending"}), Run: runPlan},
			{Name: "apply", Usage: "apply a kept plan, and read back that nothing is left to change",
				Flags: append(common(), varFileFlag()), Run: runApply},
			{Name: "explain", Usage: "print every effective value and where it comes from; changes nothing",
				Flags: append(common(), varFileFlag()), Run: runExplain},
		},
	}
}

func common() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dir", Usage: "`FOLDER` of the stack (required)"},
		&cli.StringFlag{Name: "account", Usage: "`ACCOUNT` of the landscape the stack is for (required)"},
		&cli.StringFlag{Name: "stack", Usage: "`NAME` of the stack in the key of its state (default: the path of --dir in its repository, with dots: stacks.network)"},
		&cli.StringFlag{Name: "out", Usage: "`FOLDER` of the plan (default: slipway-plan/<stack>-<account>)"},
		&cli.StringFlag{Name: "binary", Usage: "`PROGRAM` to run (default: terraform, then tofu, on PATH)"},
		&cli.DurationFlag{Name: "lock-timeout", Value: time.Minute, Usage: "how long to wait for the lock of the state"},
		session.LandscapeFlag(),
	}
}

func varFileFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "var-file", Usage: "`FILE` with values of the stack's variables (may be given several times)"}
}

// options reads the flags, and names all that is wrong with them at once.
func options(run *tool.Run, flags *cli.Context) (stack.Options, error) {
	o := stack.Options{Dir: flags.String("dir"), Account: flags.String("account"), Stack: flags.String("stack"),
		Out: flags.String("out"), LockTimeout: flags.Duration("lock-timeout")}
	var p tool.Problems
	p.Need(o.Dir, "dir")
	p.Need(o.Account, "account")
	if session.Landscape(flags, run.Env) == "" {
		p.Add("missing --landscape")
	}
	p.Check(o.LockTimeout >= 0, "--lock-timeout must not be negative, got %s", o.LockTimeout)
	if o.Dir != "" {
		if err := locate(&o, &p); err != nil {
			return o, err
		}
	}
	for _, f := range flags.StringSlice("var-file") {
		abs, err := filepath.Abs(f)
		if err != nil {
			return o, fmt.Errorf("resolving --var-file %q: %w", f, err)
		}
		_, err = os.Stat(abs)
		p.Check(err == nil, "--var-file %q cannot be read", f)
		o.VarFiles = append(o.VarFiles, abs)
	}
	binary, err := stack.FindBinary(flags.String("binary"))
	if err != nil {
		p.Add("%v", err)
	}
	o.Binary = binary
	if err := p.Err(); err != nil {
		return o, err
	}
	if o.Out == "" {
		o.Out = filepath.Join("slipway-plan", o.Stack+"-"+o.Account)
	}
	if o.Out, err = filepath.Abs(o.Out); err != nil {
		return o, fmt.Errorf("resolving --out: %w", err)
	}
	return o, nil
}

// locate finds the folder of the stack, and the stack's name where none is given.
func locate(o *stack.Options, p *tool.Problems) error {
	info, err := os.Stat(o.Dir)
	folder := err == nil && info.IsDir()
	p.Check(folder, "--dir %q is not a folder", o.Dir)
	abs, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("resolving --dir %q: %w", o.Dir, err)
	}
	o.Dir, o.Source = abs, stack.SourceOf(abs)
	switch {
	case o.Stack != "":
		p.Check(stack.ValidName(o.Stack), "--stack %q is not a name of lower-case letters, digits and dashes, with dots between", o.Stack)
	case folder:
		o.Stack = stack.NameOf(o.Source)
		p.Check(o.Stack != "", "missing --stack: the path of --dir in its repository, %q, gives no name", o.Source)
	}
	return nil
}

// prepare reads the flags, the landscape and the stack, and fills in what the
// landscape says of the account. It changes nothing and asks AWS nothing.
func prepare(ctx context.Context, run *tool.Run, flags *cli.Context, purpose string) (*session.Session, stack.Options, landscape.Role, error) {
	o, err := options(run, flags)
	if err != nil {
		return nil, o, landscape.Role{}, err
	}
	var s *session.Session
	err = run.Step(ctx, "read the landscape", func(ctx context.Context) error {
		s, err = session.Open(ctx, run, session.Options{Landscape: session.Landscape(flags, run.Env)})
		return err
	})
	if err != nil {
		return nil, o, landscape.Role{}, err
	}
	role, err := fill(&o, s, run.Env, purpose)
	return s, o, role, err
}

func fill(o *stack.Options, s *session.Session, env func(string) string, purpose string) (landscape.Role, error) {
	account, ok := s.Snapshot.Accounts[o.Account]
	if !ok {
		return landscape.Role{}, tool.Exit(tool.Usage, fmt.Errorf("the landscape has no account %q", o.Account),
			"it has "+strings.Join(stack.Keys(s.Snapshot.Accounts), ", "))
	}
	if account.Backend == nil {
		return landscape.Role{}, tool.Exit(tool.Usage, fmt.Errorf("account %q has no state backend in the landscape's snapshot", o.Account),
			"slipway-bootstrap apply makes it and publishes the snapshot")
	}
	role, err := s.Snapshot.RoleIn(purpose, o.Account)
	if err != nil {
		return role, tool.Exit(tool.Usage, err, "slipway-bootstrap makes it for every account but management")
	}
	found, err := stack.Inspect(o.Dir)
	if err != nil {
		return role, err
	}
	o.Backend = *account.Backend
	o.CustomEndpoint = awsauth.CustomEndpoint(env)
	o.Landscape = s.Digest
	o.Commit = s.CI.Commit
	if s.CI.InJob {
		o.Commit = s.Identity.Commit // the verified one
	}
	o.Variables = found.Fill(map[string]string{"account": o.Account, "account_id": account.ID, "region": s.Snapshot.Region, "landscape": s.Snapshot.Name})
	return role, nil
}

// open prepares a run and obtains the credentials of the role for its child.
func open(ctx context.Context, run *tool.Run, flags *cli.Context, purpose string) (stack.Options, error) {
	s, o, role, err := prepare(ctx, run, flags, purpose)
	if err != nil {
		return o, err
	}
	err = run.Step(ctx, "assume role "+role.Name, func(ctx context.Context) error {
		cfg, err := s.AWS(ctx, role)
		if err != nil {
			return err
		}
		keys, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return fmt.Errorf("obtaining AWS credentials: %w", awsauth.Denied(err))
		}
		if keys.AccessKeyID == "" {
			return tool.Exit(tool.Denied, errors.New("the AWS configuration holds no credentials"))
		}
		run.Log.Redact(keys.SecretAccessKey)
		run.Log.Redact(keys.SessionToken)
		o.ChildEnv = stack.ChildEnv(run.Env, stack.Credentials{ID: keys.AccessKeyID, Secret: keys.SecretAccessKey, Token: keys.SessionToken}, s.Snapshot.Region)
		run.Log.Printf("working as %s until %s", role.Name, until(keys.CanExpire, keys.Expires))
		return nil
	})
	return o, err
}

func until(expires bool, at time.Time) string {
	if !expires {
		return "they are withdrawn"
	}
	return at.UTC().Format(time.RFC3339)
}

func runPlan(ctx context.Context, run *tool.Run, flags *cli.Context) error {
	o, err := open(ctx, run, flags, landscape.PurposePlan)
	if err != nil {
		return err
	}
	return plan.Run(ctx, run, plan.Options{Options: o, DetailedExitCode: flags.Bool("detailed-exitcode")})
}

func runApply(ctx context.Context, run *tool.Run, flags *cli.Context) error {
	o, err := open(ctx, run, flags, landscape.PurposeApply)
	if err != nil {
		return err
	}
	return apply.Run(ctx, run, o)
}

func runExplain(ctx context.Context, run *tool.Run, flags *cli.Context) error {
	s, o, role, err := prepare(ctx, run, flags, landscape.PurposePlan)
	if err != nil {
		return err
	}
	account := s.Snapshot.Accounts[o.Account]
	source := func(flag, fallback string) string { return sourceOf(run.Env, flags, flag, fallback) }
	return explain.Run(run, o, explain.Facts{
		AccountID: account.ID, Role: role, Landscape: session.Landscape(flags, run.Env),
		Source: source,
	})
}

// sourceOf says where the value of a flag came from.
func sourceOf(env func(string) string, flags *cli.Context, flag, fallback string) string {
	variable := tool.EnvName("slipway-terraform", flag)
	switch {
	case env(variable) != "" && env(variable) == fmt.Sprint(flags.Value(flag)):
		return "variable " + variable
	case flags.IsSet(flag):
		return "flag --" + flag
	default:
		return fallback
	}
}
