package box

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// toolbox is a PATH with links to the programs that are named, or with
// scripts in their place.
func toolbox(t *testing.T, programs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func without(missing ...string) map[string]string {
	programs := map[string]string{}
	for _, p := range prerequisites() {
		programs[p.name] = ":"
	}
	for _, name := range missing {
		delete(programs, name)
	}
	return programs
}

func TestMissingToolsAreNamedAtOnce(t *testing.T) {
	b := &Box{Config: Config{Dir: t.TempDir(), Say: t.Logf, Env: func(string) string { return "" }}}
	toolbox(t, without())
	if err := b.checkTools(t.Context()); err != nil {
		t.Errorf("with everything there: %v", err)
	}
	toolbox(t, without("rsync", "npm"))
	err := b.checkTools(t.Context())
	if err == nil || tool.CodeOf(err) == 0 {
		t.Fatalf("err = %v", err)
	}
	for _, want := range []string{`"rsync" is not on PATH`, `"npm" is not on PATH`, "gitlab-ci-local"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if hints := strings.Join(tool.HintsOf(err), "\n"); !strings.Contains(hints, "apt-get install -y") || !strings.Contains(hints, "rsync") || !strings.Contains(hints, "npm") {
		t.Errorf("hints = %q", hints)
	}
}

// What a real node lacks is named with the rest, and only where a node is
// asked for.
func TestMissingForANode(t *testing.T) {
	nothing := func(string) string { return "" }
	toolbox(t, without("rsync"))
	err := (&Box{Config: Config{Dir: t.TempDir(), Say: t.Logf, Env: nothing, Node: true}}).checkTools(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	hints := strings.Join(tool.HintsOf(err), "\n")
	for _, p := range nodePrerequisites() {
		if !strings.Contains(err.Error(), strconv.Quote(p.name)+" is not on PATH") || !strings.Contains(hints, p.pkg) {
			t.Errorf("%q is not named: %v, hints %q", p.name, err, hints)
		}
	}
	if !strings.Contains(err.Error(), `"rsync"`) || os.Geteuid() != 0 && !strings.Contains(err.Error(), errNotRoot.Error()) {
		t.Errorf("not all is named: %v", err)
	}
	if NodeProblem(Config{Env: nothing}) == nil {
		t.Error("a node could run without containerd")
	}
	may := NodeProblem(Config{Env: func(k string) string { return map[string]string{"SANDBOX_INSTALL": "1"}[k] }})
	if (may == nil) != (os.Geteuid() == 0) {
		t.Errorf("where it may be installed: %v", may)
	}
}

// rsync is installed in CI, by root, and by nobody else.
func TestRsyncIsInstalledWhereItMayBe(t *testing.T) {
	for name, env := range map[string]map[string]string{"CI": {"CI": "true"}, "asked for": {"SANDBOX_INSTALL": "1"}, "not asked for": {}} {
		dir := t.TempDir()
		b := &Box{Config: Config{Dir: dir, Say: t.Logf, Env: func(k string) string { return env[k] }}}
		programs := without("rsync")
		programs["apt-get"] = `echo "$@" >>` + dir + "/calls"
		toolbox(t, programs)
		err := b.checkTools(t.Context())
		calls, _ := os.ReadFile(dir + "/calls")
		if install := os.Geteuid() == 0 && len(env) > 0; install != (err == nil) || install != (string(calls) == "update\ninstall -y --no-install-recommends rsync\n") {
			t.Errorf("%s: error %v, apt-get %q", name, err, calls)
		}
	}
}

func TestNeedsTofu(t *testing.T) {
	for script, want := range map[string]bool{
		`echo "Terraform v1.11.4"; echo "on linux_amd64"`: false, `echo "Terraform v1.9.8"`: true, "exit 1": true,
	} {
		toolbox(t, map[string]string{"terraform": script})
		if got := needsTofu(t.Context()); got != want {
			t.Errorf("%s: %t", script, got)
		}
	}
	toolbox(t, nil)
	if !needsTofu(t.Context()) {
		t.Error("without terraform none is built")
	}
}

func TestOwnNode(t *testing.T) {
	for version, want := range map[string]bool{"v20.20.2": true, "v22.0.0": false, "v24.1.0": false} {
		toolbox(t, map[string]string{"node": "echo " + version})
		if got, err := ownNode(t.Context()); err != nil || got != want {
			t.Errorf("%s: %t, %v", version, got, err)
		}
	}
	toolbox(t, map[string]string{"node": "echo no version"})
	if _, err := ownNode(t.Context()); err == nil {
		t.Error("a version that is none makes no error")
	}
}
