// Package tool is the frame of the five programs: streams, signals, flags from
// the environment, exit codes, and the one place that prints an error.
package tool

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/report"
)

// Streams are a program's standard streams. Out carries only the result;
// progress, sections and hints go to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Program describes one of the five programs.
type Program struct {
	Name     string // slipway-deploy
	Usage    string
	Commands []Command
}

// Command is a verb of a program. Its Run gets the parsed flags; positional
// arguments do not exist.
type Command struct {
	Name, Usage string
	Flags       []cli.Flag
	Run         func(ctx context.Context, run *Run, flags *cli.Context) error
}

// Run is what a verb works with: streams, environment, log and report.
type Run struct {
	Streams
	Env    func(string) string
	Log    *joblog.Log
	Report *report.Run
	JSON   bool // --output json
	// ReportDir is where the report goes, and what belongs to it.
	ReportDir string
}

// Step runs fn as a named step of the job: a section of the log with
// heartbeats, and a row of the report. fn's error is returned with the name.
func (r *Run) Step(ctx context.Context, name string, fn func(context.Context) error) error {
	end := r.Log.Section(name)
	defer end()
	done := r.Report.Step(name)
	err := fn(ctx)
	done(err)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Result writes the result of the run to stdout: v as JSON with --output json,
// text otherwise. The report keeps v in either case.
func (r *Run) Result(v any, text string) error {
	r.Report.Result = v
	if r.JSON {
		raw, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the result: %w", err)
		}
		text = string(raw)
	} else {
		text = joblog.Clean(text) // it may hold what a container said; JSON escapes it
	}
	// A job's stdout is in its log too.
	_, err := fmt.Fprintln(r.Out, r.Log.Mask(strings.TrimRight(text, "\n")))
	return err
}

// EnvName returns the variable that stands for a flag: SLIPWAY_DEPLOY_TIMEOUT
// for --timeout of slipway-deploy.
func EnvName(program, flag string) string {
	return strings.ToUpper(strings.ReplaceAll(program+"_"+flag, "-", "_"))
}

// Main runs a program and returns its exit code. env looks up a variable;
// version may be empty, then the build's own is used.
func Main(args []string, env func(string) string, s Streams, version string, p Program) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return Start(ctx, args, env, s, version, p)
}

// Start is Main under a context of the caller's.
func Start(ctx context.Context, args []string, env func(string) string, s Streams, version string, p Program) int {
	if version == "" {
		version = buildVersion()
	}
	f := frame{program: p, args: args, env: env, streams: s, version: version, log: joblog.New(s.Err, env("GITLAB_CI") == "true")}
	for _, name := range secretVariables {
		f.log.Redact(env(name))
	}
	err := f.app().RunContext(ctx, args)
	if err != nil && ctx.Err() != nil && CodeOf(err) == Failed {
		err = Exit(Cancelled, err)
	}
	f.print(err)
	return CodeOf(err)
}

type frame struct {
	program Program
	args    []string
	env     func(string) string
	streams Streams
	version string
	log     *joblog.Log
}

// print is the one place that prints an error. It goes through the log, so that
// a secret stands neither in it nor in a hint.
func (f frame) print(err error) {
	if err == nil {
		return
	}
	f.log.Printf("%s: error: %s", f.program.Name, f.log.Mask(err.Error()))
	for _, h := range HintsOf(err) {
		f.log.Printf("hint: %s", f.log.Mask(h))
	}
}

// app builds the cli.App and takes over what urfave/cli does on its own: it
// would call os.Exit for errors with ExitCode(), print usage errors to stdout
// and answer an unknown verb with code 3.
func (f frame) app() *cli.App {
	usage := func(_ *cli.Context, err error, _ bool) error {
		return Exit(Usage, err, fmt.Sprintf("see '%s --help'", f.program.Name))
	}
	app := &cli.App{
		Name: f.program.Name, Usage: f.program.Usage, Version: f.version,
		Reader: f.streams.In, Writer: f.streams.Out, ErrWriter: f.streams.Err,
		HideHelpCommand: true, OnUsageError: usage,
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			verbs := make([]string, 0, len(f.program.Commands))
			for _, cmd := range f.program.Commands {
				verbs = append(verbs, cmd.Name)
			}
			hint := "the verbs are " + strings.Join(verbs, ", ")
			if !c.Args().Present() {
				return Exit(Usage, errors.New("no verb given"), hint)
			}
			return Exit(Usage, fmt.Errorf("unknown verb %q", c.Args().First()), hint)
		},
	}
	for _, cmd := range f.program.Commands {
		app.Commands = append(app.Commands, &cli.Command{
			Name: cmd.Name, Usage: cmd.Usage, Flags: f.flags(cmd.Flags),
			HideHelpCommand: true, Action: f.action(cmd),
			OnUsageError: func(c *cli.Context, err error, sub bool) error {
				if all := f.problems(cmd); all != nil {
					return all
				}
				return usage(c, err, sub)
			},
		})
	}
	return app
}

// flags adds the flags every verb has and names each flag's variable in its
// help. The variables are read by action, not by urfave/cli, since to that an
// empty variable counts as set.
func (f frame) flags(own []cli.Flag) []cli.Flag {
	all := append([]cli.Flag{}, own...)
	all = append(all,
		&cli.StringFlag{Name: "output", Value: "text", Usage: "`FORMAT` of the result on stdout: text or json"},
		&cli.StringFlag{Name: "report-dir", Value: "slipway-report", Usage: "`FOLDER` for the report"})
	return all
}

func (f frame) action(cmd Command) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := f.problems(cmd); err != nil {
			return err
		}
		if err := f.fromEnv(c); err != nil {
			return err
		}
		log := f.log
		run := &Run{
			Streams: Streams{In: f.streams.In, Out: f.streams.Out, Err: log},
			Env:     f.env, Log: log, JSON: c.String("output") == "json",
			Report: report.New(f.program.Name, cmd.Name, f.version), ReportDir: c.String("report-dir"),
		}
		for _, fl := range c.Command.Flags {
			if name := fl.Names()[0]; c.IsSet(name) {
				run.Report.Inputs[name] = log.Mask(fmt.Sprint(c.Value(name)))
			}
		}
		if err := report.Prepare(c.String("report-dir")); err != nil {
			return Exit(Usage, err, "--report-dir names a folder that can be written to; nothing was done")
		}
		err := cmd.Run(c.Context, run, c)
		// What a program wrote last without ending the line; a log that cannot be
		// written has nobody to tell.
		_ = log.Flush()
		code := CodeOf(err)
		if err != nil && c.Context.Err() != nil && code == Failed {
			code = Cancelled
		}
		text, hints := "", []string{}
		if err != nil {
			text = joblog.Clean(err.Error())
		}
		for _, h := range HintsOf(err) {
			hints = append(hints, joblog.Clean(h))
		}
		run.Report.Finish(code, Outcome(code), text, hints)
		if werr := run.Report.Write(c.String("report-dir"), log.Mask); werr != nil {
			code, err = unreported(code, err, werr)
		}
		return Exit(code, err)
	}
}

// unreported is the end of a run whose report cannot be written. What was done
// is done, but nobody can look at the evidence.
func unreported(code int, err, werr error) (int, error) {
	if err != nil {
		return code, errors.Join(err, werr)
	}
	return Broken, Hint(werr, "the run itself ended well; what it did stands in the log above alone")
}

// secretVariables hold credentials in a GitLab job: they never reach a log.
var secretVariables = []string{"CI_JOB_TOKEN", "SLIPWAY_ID_TOKEN", "SLIPWAY_GITLAB_TOKEN", "CI_REGISTRY_PASSWORD", "CI_DEPLOY_PASSWORD",
	"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITLAB_TOKEN"}

// problems finds everything that is wrong with the arguments of a verb and with
// the variables that stand for its flags. urfave/cli stops at the first.
func (f frame) problems(cmd Command) error {
	set := flag.NewFlagSet(cmd.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	names := []string{}
	for _, fl := range f.flags(cmd.Flags) {
		if err := fl.Apply(set); err != nil {
			return fmt.Errorf("reading the flags of %q: %w", cmd.Name, err)
		}
		names = append(names, fl.Names()[0])
	}
	var p Problems
	rest := f.args[min(len(f.args), slices.Index(f.args, cmd.Name)+1):]
	for len(rest) > 0 {
		err := set.Parse(rest)
		// What stopped the reading is left out, and the reading goes on.
		rest = set.Args()
		switch {
		case err != nil && !errors.Is(err, flag.ErrHelp):
			p.Add("%v", err)
			unknown := strings.HasPrefix(err.Error(), "flag provided but not defined")
			if unknown && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				rest = rest[1:] // the value of the unknown flag
			}
		case err == nil && len(rest) > 0:
			p.Add("unexpected argument %q: every input is a flag", rest[0])
			rest = rest[1:]
		}
	}
	given := map[string]bool{}
	set.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	for _, name := range names {
		variable := EnvName(f.program.Name, name)
		if value := f.env(variable); value != "" && !given[name] {
			if err := set.Set(name, value); err != nil {
				p.Add("variable %s: invalid value %q for --%s: %v", variable, value, name, err)
			}
		}
	}
	output := set.Lookup("output").Value.String()
	p.Check(output == "text" || output == "json", "--output must be text or json, got %q", output)
	if err := p.Err(); err != nil {
		return Hint(err, fmt.Sprintf("see '%s %s --help'", f.program.Name, cmd.Name))
	}
	return nil
}

// fromEnv sets each flag that was not given from its variable, where that is
// not empty.
func (f frame) fromEnv(c *cli.Context) error {
	for _, fl := range c.Command.Flags {
		name := fl.Names()[0]
		if value := f.env(EnvName(f.program.Name, name)); name != "help" && value != "" && !c.IsSet(name) {
			if err := c.Set(name, value); err != nil {
				return Exit(Usage, fmt.Errorf("setting --%s: %w", name, err))
			}
		}
	}
	return nil
}

// buildVersion is the version that the Go tool stamped into the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}

// Deadline returns ctx with the timeout, and an error text that names it.
func Deadline(ctx context.Context, timeout time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s took longer than %s", what, timeout))
}
