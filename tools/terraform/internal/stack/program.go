package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/hashicorp/terraform-exec/tfexec"
	tfjson "github.com/hashicorp/terraform-json"

	"gitlab.com/slipway/slipway/pkg/awsauth"
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
	return untouched(p.explain(p.tf.Init(ctx, opts...)))
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
	return changes, untouched(p.explain(err))
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

// Apply applies a plan file. An error without a code of ours came on its way.
func (p *Program) Apply(ctx context.Context, file string) error {
	p.loud()
	return applied(p.explain(p.tf.Apply(ctx, tfexec.DirOrPlan(file), tfexec.LockTimeout(p.options.LockTimeout.String()))))
}

// applied keeps an apply from ending with 75: a job that starts by itself once
// more is for what only reads. Where the lock was not to be had, nothing was
// applied.
func applied(err error) error {
	if tool.CodeOf(err) == tool.Temporary {
		return tool.Exit(tool.Failed, err, "nothing was applied: run slipway-terraform apply again")
	}
	return err
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
// There is no machine-readable form of it.
func (p *Program) explain(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch all := blocks(text); {
	// Only as the first error: the output of a provisioner may hold one as well.
	case len(all) > 0 && strings.HasPrefix(all[0], "Error acquiring the state lock"):
		return p.noLock(err, text, all[0])
	case strings.Contains(text, "Saved plan is stale"):
		return tool.Exit(tool.Refused, ErrStale, "run slipway-terraform plan again")
	}
	return short(err)
}

// noLock tells a lock that another holds from one that could not be asked for.
// A lock of the state names no job: nobody can tell whether its holder lives.
func (p *Program) noLock(err error, text, block string) error {
	var who []string
	id := ""
	for _, m := range lockField.FindAllStringSubmatch(text, -1) {
		if v := strings.TrimSpace(m[2]); v != "" {
			who = append(who, m[1]+" "+v)
			if m[1] == "ID" && lockID.MatchString(v) { // it becomes part of a command
				id = v
			}
		}
	}
	if id == "" {
		_, cause, _ := strings.Cut(block, "Error message: ")
		cause, _, _ = strings.Cut(cause, " acquires a state lock")
		cause = strings.TrimSuffix(strings.TrimSuffix(cause, " Terraform"), " OpenTofu")
		// It gets a code of ours whatever the cause: without the lock nothing was applied.
		err = untouched(childError{text: "taking the lock of the state: " + cause, err: err})
		return tool.Exit(tool.CodeOf(err), err)
	}
	hints := []string{"wait for that run to end, or give more time with --lock-timeout", "where that run is dead for certain, give its lock up:"}
	return tool.Exit(tool.Undecidable, childError{text: "the state is locked, and it cannot be told whether its holder lives: " + strings.Join(who, ", "), err: err},
		append(hints, p.options.ByHand("force-unlock "+id)...)...)
}

// untouched gives an error of a step that changes nothing the code for what
// AWS refused, or for what may pass. What passes alone is worth a retry: a
// mistake beside it would still be there.
func untouched(err error) error {
	var own *tool.Error
	var child childError
	if errors.As(err, &own) || !errors.As(err, &child) {
		return err
	}
	all := blocks(child.err.Error())
	is := func(code int) func(string) bool { return func(block string) bool { return codeOf(block) == code } }
	switch {
	case slices.ContainsFunc(all, is(tool.Denied)):
		return tool.Exit(tool.Denied, err)
	case len(all) > 0 && !slices.ContainsFunc(all, func(block string) bool { return codeOf(block) != tool.Temporary }):
		return tool.Exit(tool.Temporary, err)
	}
	return err
}

// blocks are the errors the program printed, each with its text on one line:
// it breaks lines wherever they are full.
func blocks(text string) []string {
	var out []string
	starts := errorLine.FindAllStringSubmatchIndex(text, -1)
	for i, m := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		words := strings.Fields(strings.ReplaceAll(text[m[2]:end], "│", " "))
		out = append(out, strings.Join(words, " "))
	}
	return out
}

var (
	awsStatus = regexp.MustCompile(`(?i)\bstatus ?code: (\d{3})\b`)
	awsCode   = regexp.MustCompile(`\bapi error (\w+):`)
	// noAnswers are the words of Go's network and HTTP clients.
	noAnswers = regexp.MustCompile(`connection refused|connection reset by peer|no such host|i/o timeout|TLS handshake timeout|network is unreachable|no route to host|` +
		`server misbehaving|Client\.Timeout exceeded|context deadline exceeded|unexpected EOF|(?:429 Too Many Requests|50[0234] (?:Internal Server Error|Bad Gateway|Service Unavailable|Gateway Timeout))`)
)

// codeOf is the exit code for an error of the program: Denied, Temporary or
// else Failed.
func codeOf(block string) int {
	status, code := "", ""
	if m := awsStatus.FindStringSubmatch(block); m != nil {
		status = m[1]
	}
	if m := awsCode.FindStringSubmatch(block); m != nil {
		code = m[1]
	}
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	_, passing := retry.DefaultRetryableErrorCodes[code]
	switch {
	case throttled || passing || status == "429" || strings.HasPrefix(status, "5"):
		return tool.Temporary
	case status == "403" || awsauth.Refusal(code): // some services refuse with 400
		return tool.Denied
	case noAnswers.MatchString(block):
		return tool.Temporary
	}
	return tool.Failed
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
