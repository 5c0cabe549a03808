package command

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
)

func run(t *testing.T, env map[string]string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	p := &Program{Env: func(k string) string { return env[k] }, Out: &out, Err: &errs}
	err = p.Run(t.Context(), args)
	return out.String(), errs.String(), err
}

func TestUsage(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no verb":      {nil, "no verb is given"},
		"unknown verb": {[]string{"start"}, `no such verb: "start"`},
		"unknown flag": {[]string{"up", "--force"}, "flag provided but not defined: -force"},
		"an argument":  {[]string{"down", "now"}, `"down" takes 0 arguments, 1 are given`},
		"no part":      {[]string{"serve", "--config", "x"}, `"serve" takes 1 arguments, 0 are given`},
	} {
		stdout, _, err := run(t, nil, c.args...)
		if tool.CodeOf(err) != tool.Usage || err.Error() != c.want || len(tool.HintsOf(err)) == 0 || stdout != "" {
			t.Errorf("%s: %q, error %v (%d), hints %q", name, stdout, err, tool.CodeOf(err), tool.HintsOf(err))
		}
	}
}

func TestHelpNamesEveryVerb(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, {"up", "--help"}} {
		stdout, _, err := run(t, nil, args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		for _, v := range (&Program{}).verbs() {
			if !strings.Contains(stdout, "  "+v.name+" ") {
				t.Errorf("%v does not name %q", args, v.name)
			}
		}
	}
}

// Without a sandbox each verb says so and how to get one; `down` has nothing to do.
func TestWithoutSandbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	env := map[string]string{"SLIPWAY_SANDBOX": dir}
	if _, _, err := run(t, env, "status"); tool.CodeOf(err) != tool.Pending || !strings.Contains(err.Error(), dir) {
		t.Errorf("status: %v (%d)", err, tool.CodeOf(err))
	}
	if _, _, err := run(t, env, "env"); err == nil || len(tool.HintsOf(err)) == 0 {
		t.Errorf("env: %v", err)
	}
	if _, stderr, err := run(t, env, "down"); err != nil || !strings.Contains(stderr, "nothing to stop") {
		t.Errorf("down: %v, %q", err, stderr)
	}
}

func TestQuote(t *testing.T) {
	if got, want := quote(`/home/o'neil/$x`), `'/home/o'\''neil/$x'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
