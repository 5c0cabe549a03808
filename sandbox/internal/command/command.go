// Package command is the sandbox program's verbs.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"gitlab.com/slipway/slipway/pkg/tool"

	"gitlab.com/slipway/slipway/sandbox/internal/box"
	"gitlab.com/slipway/slipway/sandbox/internal/serve"
)

// Program is what the verbs work with.
type Program struct {
	Env      func(string) string
	Out, Err io.Writer
	mu       sync.Mutex
}

type verb struct {
	name, help string
	run        func(ctx context.Context, args []string) error
}

func (p *Program) verbs() []verb {
	return []verb{
		{"build", "build every heavy program into the user's cache", p.boxVerb("build", box.Build)},
		{"up", "start the sandbox, or make a running one complete", p.boxVerb("up", box.Up)},
		{"down", "stop every process of the sandbox and remove its folder", p.boxVerb("down", box.Down)},
		{"demo", "run the whole chain on the examples, and stop again (KEEP=1 keeps the sandbox)", p.boxVerb("demo", p.demo)},
		{"status", "what runs", p.boxVerb("status", p.status)},
		{"env", "print what to export to use the sandbox from a shell", p.boxVerb("env", p.exports)},
		{"tool", "build a tool of the repository into the cache and print its path (golangci-lint)", p.tool},
		{"serve", "be one of the sandbox's servers (used by up)", p.serve},
	}
}

// Run runs the verb that args begin with.
func (p *Program) Run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return p.usage(errors.New("no verb is given"))
	}
	if args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		_, err := fmt.Fprintln(p.Out, p.help())
		return err
	}
	for _, v := range p.verbs() {
		if v.name == args[0] {
			if err := v.run(ctx, args[1:]); !errors.Is(err, errHelp) {
				return err
			}
			return nil
		}
	}
	return p.usage(fmt.Errorf("no such verb: %q", args[0]))
}

func (p *Program) help() string {
	var s strings.Builder
	s.WriteString("usage: sandbox VERB [--dir FOLDER]\n       sandbox build|up [--dir FOLDER] [--node[=auto]]\n\n")
	for _, v := range p.verbs() {
		fmt.Fprintf(&s, "  %-8s %s\n", v.name, v.help)
	}
	s.WriteString("\nWith --node each cluster gets a real node, on Linux as root; --node=auto where this machine can run one.")
	s.WriteString("\nThe folder is .sandbox in the repository, or what SLIPWAY_SANDBOX says.")
	return s.String()
}

func (p *Program) usage(err error) error { return tool.Exit(tool.Usage, err, "see 'sandbox --help'") }

// parse reads the flags of a verb, which takes no arguments beside them but n.
func (p *Program) parse(set *flag.FlagSet, args []string, n int) error {
	set.SetOutput(io.Discard)
	err := set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		if _, err := fmt.Fprintln(p.Out, p.help()); err != nil {
			return err
		}
		return errHelp
	case err != nil:
		return p.usage(err)
	case set.NArg() != n:
		return p.usage(fmt.Errorf("%q takes %d arguments, %d are given", set.Name(), n, set.NArg()))
	}
	return nil
}

var errHelp = errors.New("help was printed")

// boxVerb is a verb on one sandbox.
func (p *Program) boxVerb(name string, do func(context.Context, box.Config) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		set := flag.NewFlagSet(name, flag.ContinueOnError)
		dir := set.String("dir", "", "the sandbox's folder")
		var nodes nodeFlag
		if name == "build" || name == "up" {
			set.Var(&nodes, "node", "real nodes as well; auto: where the machine can run them")
		}
		if err := p.parse(set, args, 0); err != nil {
			return err
		}
		cfg, err := p.config(*dir)
		if err != nil {
			return err
		}
		cfg.Node = nodes == "true"
		if nodes == "auto" {
			problem := box.NodeProblem(cfg)
			if cfg.Node = problem == nil; !cfg.Node {
				p.say("no real node, since %v", problem)
			}
		}
		return do(ctx, cfg)
	}
}

// nodeFlag is true, false or auto. Given without a value it is true.
type nodeFlag string

func (f *nodeFlag) String() string   { return string(*f) }
func (f *nodeFlag) IsBoolFlag() bool { return true }
func (f *nodeFlag) Set(s string) error {
	if s != "true" && s != "false" && s != "auto" {
		return errors.New("it is true, false or auto")
	}
	*f = nodeFlag(s)
	return nil
}

func (p *Program) config(dir string) (box.Config, error) {
	root, err := box.FindRoot()
	if err != nil {
		return box.Config{}, err
	}
	if dir == "" {
		dir = p.Env("SLIPWAY_SANDBOX")
	}
	if dir == "" {
		dir = filepath.Join(root, ".sandbox")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return box.Config{}, fmt.Errorf("finding the sandbox's folder: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return box.Config{}, fmt.Errorf("finding the sandbox's own program: %w", err)
	}
	return box.Config{Root: root, Dir: dir, Self: self, Env: p.Env, Say: p.say}, nil
}

func (p *Program) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.Err, "sandbox: "+format+"\n", args...)
}

func (p *Program) serve(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("serve", flag.ContinueOnError)
	config := set.String("config", "", "file with the part's configuration")
	if err := p.parse(set, args, 1); err != nil {
		return err
	}
	return serve.Run(ctx, set.Arg(0), *config, p.Err)
}

// tool prints the path of a tool of the repository.
func (p *Program) tool(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("tool", flag.ContinueOnError)
	if err := p.parse(set, args, 1); err != nil {
		return err
	}
	cfg, err := p.config("")
	if err != nil {
		return err
	}
	path, err := box.Tool(ctx, cfg, set.Arg(0))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.Out, path)
	return err
}

func (p *Program) status(_ context.Context, cfg box.Config) error {
	states, err := box.Status(cfg)
	if err != nil {
		return err
	}
	dead := 0
	for _, s := range states {
		word := "runs"
		if !s.Alive {
			word = "is not running"
			dead++
		}
		fmt.Fprintf(p.Out, "%-32s %-16s %s\n", s.Part, word, s.Detail)
	}
	if dead > 0 {
		return tool.Exit(tool.Pending, fmt.Errorf("%d of %d parts do not run", dead, len(states)), "run: sandbox up")
	}
	return nil
}

func (p *Program) exports(_ context.Context, cfg box.Config) error {
	raw, err := os.ReadFile(filepath.Join(cfg.Dir, "sandbox.json"))
	if err != nil {
		return tool.Hint(fmt.Errorf("reading the sandbox's description: %w", err), "start it: sandbox up")
	}
	var d box.Description
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("reading the sandbox's description: %w", err)
	}
	for _, kv := range [][2]string{
		{"SLIPWAY_SANDBOX", cfg.Dir}, {"KUBECONFIG", d.Clusters["nonprod"].Kubeconfig},
		{"AWS_ENDPOINT_URL", d.AWS.Endpoint}, {"AWS_REGION", d.AWS.Region}, {"AWS_ACCESS_KEY_ID", d.AWS.AccessKey}, {"AWS_SECRET_ACCESS_KEY", d.AWS.SecretKey},
		{"SLIPWAY_MOTO_SERVER", d.Commands.Moto}, {"SLIPWAY_GITLAB_CI_LOCAL", d.Commands.GitLabCILocal}, {"SLIPWAY_S3_GATEWAY", d.Commands.S3Gateway},
	} {
		fmt.Fprintf(p.Out, "export %s=%s\n", kv[0], quote(kv[1]))
	}
	_, err = fmt.Fprintf(p.Out, "export PATH=%s:\"$PATH\"\n", quote(d.Bin))
	return err
}

// quote makes a word of the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
