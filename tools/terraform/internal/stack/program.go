package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
	tfjson "github.com/hashicorp/terraform-json"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Program runs terraform or tofu on a stack. Its output goes to the log.
type Program struct {
	options Options
	tf      *tfexec.Terraform
	log     io.Writer
}

// saving is how long the program may take to end what it has begun and to save
// its state, once it was told to stop. Killed before, it loses the state.
const saving = 10 * time.Minute

// Open returns the program for a stack. It runs nothing.
func Open(o Options, log io.Writer) (*Program, error) {
	tf, err := tfexec.NewTerraform(o.Dir, o.Binary)
	if err != nil {
		return nil, fmt.Errorf("preparing %q: %w", o.Binary, err)
	}
	env := maps.Clone(o.ChildEnv)
	env["TF_DATA_DIR"] = o.DataDir()
	if err := tf.SetEnv(env); err != nil {
		return nil, fmt.Errorf("preparing the environment of %q: %w", o.Binary, err)
	}
	if err := tf.SetWaitDelay(saving); err != nil {
		return nil, fmt.Errorf("preparing %q: %w", o.Binary, err)
	}
	return &Program{options: o, tf: tf, log: log}, nil
}

// quiet keeps the child's stdout out of the log: as JSON, plans and outputs
// show their secret values in the clear.
func (p *Program) quiet() {
	p.tf.SetStdout(io.Discard)
	p.tf.SetStderr(p.log)
}

// loud sends the child's stdout to the log. Its stderr comes back in the error.
func (p *Program) loud() {
	p.tf.SetStdout(p.log)
	p.tf.SetStderr(p.log)
}

// Version returns the program's version.
func (p *Program) Version(ctx context.Context) (string, error) {
	p.quiet()
	v, _, err := p.tf.Version(ctx, false)
	if err != nil {
		return "", fmt.Errorf("asking %q for its version: %w", p.options.Binary, err)
	}
	return v.String(), nil
}

// Init prepares the stack with the backend of its account.
func (p *Program) Init(ctx context.Context) error {
	p.loud()
	opts := []tfexec.InitOption{tfexec.Reconfigure(true)}
	for _, pair := range p.options.BackendConfig() {
		opts = append(opts, tfexec.BackendConfig(pair))
	}
	if err := p.tf.Init(ctx, opts...); err != nil {
		return p.explain(err)
	}
	return nil
}

// Validate checks the stack's files and names every mistake at once.
func (p *Program) Validate(ctx context.Context) error {
	p.quiet()
	out, err := p.tf.Validate(ctx)
	if err != nil {
		return p.explain(err)
	}
	var problems tool.Problems
	for _, d := range out.Diagnostics {
		if d.Severity != tfjson.DiagnosticSeverityError {
			continue
		}
		where := ""
		if d.Range != nil {
			where = fmt.Sprintf("%s:%d:%d: ", d.Range.Filename, d.Range.Start.Line, d.Range.Start.Column)
		}
		problems.Add("%s%s %s", where, d.Summary, d.Detail)
	}
	return problems.Err()
}

// Plan writes a plan into the file, or with "" only looks whether anything is
// left to change, and reports whether there are changes.
func (p *Program) Plan(ctx context.Context, file string) (bool, error) {
	p.loud()
	opts := []tfexec.PlanOption{tfexec.LockTimeout(p.options.LockTimeout.String())}
	if file != "" {
		opts = append(opts, tfexec.Out(file))
	}
	for _, f := range p.options.VarFiles {
		opts = append(opts, tfexec.VarFile(f))
	}
	for _, v := range p.options.Variables {
		opts = append(opts, tfexec.Var(v))
	}
	changes, err := p.tf.Plan(ctx, opts...)
	return changes, p.explain(err)
}

// Show reads a plan file.
func (p *Program) Show(ctx context.Context, file string) (*tfjson.Plan, error) {
	p.quiet()
	plan, err := p.tf.ShowPlanFile(ctx, file)
	if err != nil {
		return nil, p.explain(err)
	}
	return plan, nil
}

// Apply applies a plan file.
func (p *Program) Apply(ctx context.Context, file string) error {
	p.loud()
	return p.explain(p.tf.Apply(ctx, tfexec.DirOrPlan(file), tfexec.LockTimeout(p.options.LockTimeout.String())))
}

// Outputs returns how many outputs the stack has. Their values stay where they are.
func (p *Program) Outputs(ctx context.Context) (int, error) {
	p.quiet()
	out, err := p.tf.Output(ctx)
	if err != nil {
		return 0, p.explain(err)
	}
	return len(out), nil
}

// ErrStale says that the state has moved on since the plan was made.
var ErrStale = errors.New("the state has changed since the plan was made")

var lockField = regexp.MustCompile(`(?m)^\W*(ID|Path|Operation|Who|Version|Created|Info):[ \t]*(.*)$`)

var lockID = regexp.MustCompile(`^[0-9a-f-]{36}$`)

// explain turns what the program printed into an error with our exit code.
// There is no machine-readable form of these two. A lock of the state names no
// job: nobody can tell whether its holder lives.
func (p *Program) explain(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "Error acquiring the state lock"):
		var who []string
		id := "<ID>"
		for _, m := range lockField.FindAllStringSubmatch(text, -1) {
			if v := strings.TrimSpace(m[2]); v != "" {
				who = append(who, m[1]+" "+v)
				if m[1] == "ID" && lockID.MatchString(v) { // it becomes part of a command
					id = v
				}
			}
		}
		hints := []string{"wait for that run to end, or give more time with --lock-timeout", "where that run is dead for certain, give its lock up:"}
		return tool.Exit(tool.Undecidable, fmt.Errorf("the state is locked, and it cannot be told whether its holder lives: %s", strings.Join(who, ", ")),
			append(hints, p.options.ByHand("force-unlock "+id)...)...)
	case strings.Contains(text, "Saved plan is stale"):
		return tool.Exit(tool.Refused, ErrStale, "run slipway-terraform plan again")
	}
	return short(err)
}

var errorLine = regexp.MustCompile(`(?m)^\W*Error: (.*)$`)

// short keeps the head lines of what went wrong; the log has the whole text.
func short(err error) error {
	var heads []string
	for _, m := range errorLine.FindAllStringSubmatch(err.Error(), -1) {
		heads = append(heads, strings.TrimSpace(m[1]))
	}
	if len(heads) == 0 {
		return err
	}
	return childError{text: strings.Join(heads, "; "), err: err}
}

// childError has the head lines of the program's errors as its text.
type childError struct {
	text string
	err  error
}

func (e childError) Error() string { return e.text }
func (e childError) Unwrap() error { return e.err }
