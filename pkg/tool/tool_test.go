package tool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/internal/scripttest"
	"gitlab.com/slipway/slipway/pkg/tool"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sample": func() {
		os.Exit(tool.Main(os.Args, os.Getenv, tool.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, "1.2.3", sample()))
	}})
}

func TestScripts(t *testing.T) { scripttest.Run(t, "testdata/script") }

// sample is a program with a verb for each way a run can end.
func sample() tool.Program {
	return tool.Program{Name: "sample", Usage: "end in every way", Commands: []tool.Command{
		{Name: "end", Usage: "end with a code",
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "code", Usage: "exit `CODE`"},
				&cli.StringFlag{Name: "name", Value: "default", Usage: "a `NAME`"},
				&cli.DurationFlag{Name: "wait", Usage: "a `DURATION`"},
			},
			Run: func(ctx context.Context, run *tool.Run, flags *cli.Context) error {
				err := run.Step(ctx, "greeting", func(context.Context) error {
					run.Log.Printf("token is %s", run.Env("CI_JOB_TOKEN"))
					return nil
				})
				if err != nil {
					return err
				}
				if code := flags.Int("code"); code != 0 {
					return tool.Exit(code, fmt.Errorf("ending %q: told to", flags.String("name")), "ask for 0")
				}
				name := flags.String("name")
				if name == "stranger" {
					name = "a\x1b[0Ksection_start:1:x\r\x1b[0Kb"
				}
				return run.Result(map[string]string{"name": name}, "name is "+name)
			}},
		{Name: "child", Usage: "end with a child's error",
			Run: func(ctx context.Context, _ *tool.Run, _ *cli.Context) error {
				return fmt.Errorf("running a child: %w", exec.CommandContext(ctx, "false").Run())
			}},
		{Name: "spoil", Usage: "put folders where the report goes", Flags: []cli.Flag{&cli.IntFlag{Name: "code", Usage: "exit `CODE`"}},
			Run: func(_ context.Context, run *tool.Run, flags *cli.Context) error {
				for _, ext := range []string{"json", "xml", "md", "html"} {
					if err := os.Mkdir(filepath.Join(flags.String("report-dir"), "sample."+ext), 0o755); err != nil && !os.IsExist(err) {
						return err
					}
				}
				if code := flags.Int("code"); code != 0 {
					return tool.Exitf(code, "told to end")
				}
				return run.Result(nil, "spoilt")
			}},
		{Name: "hint", Usage: "end with a hint that holds a secret",
			Run: func(_ context.Context, run *tool.Run, _ *cli.Context) error {
				return tool.Exit(tool.Refused, errors.New("not logged in"), "log in with "+run.Env("CI_DEPLOY_PASSWORD"))
			}},
		{Name: "mutter", Usage: "end in the middle of a line",
			Run: func(_ context.Context, run *tool.Run, _ *cli.Context) error {
				fmt.Fprint(run.Log, "the last words of a child")
				return errors.New("the child ended")
			}},
		{Name: "problems", Usage: "name every problem",
			Run: func(context.Context, *tool.Run, *cli.Context) error {
				var p tool.Problems
				p.Need("", "service")
				p.Check(false, "--timeout must be above zero, got %s", time.Duration(0))
				return p.Err()
			}},
	}}
}

func TestCodeOf(t *testing.T) {
	base := errors.New("cause")
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"nil":       {nil, tool.OK},
		"plain":     {base, tool.Failed},
		"wrapped":   {fmt.Errorf("a: %w", tool.Exit(tool.Held, base)), tool.Held},
		"hint":      {tool.Hint(tool.Exit(tool.Denied, base), "h"), tool.Denied},
		"cancelled": {fmt.Errorf("a: %w", context.Canceled), tool.Cancelled},
	} {
		if got := tool.CodeOf(c.err); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
	if tool.Exit(tool.Failed, nil) != nil || tool.Hint(nil, "h") != nil {
		t.Error("a nil error must stay nil")
	}
}
