package box

import (
	"os"
	"path/filepath"
	"testing"
)

// Each part's needs exist and lead nowhere in a circle; names and ports are
// given once.
func TestParts(t *testing.T) {
	parts := map[string]Part{}
	ports := map[string]string{}
	for _, p := range Parts(true) {
		if _, twice := parts[p.Name]; twice {
			t.Errorf("two parts are called %q", p.Name)
		}
		parts[p.Name] = p
		for _, port := range p.Ports {
			if other := ports[port]; other != "" {
				t.Errorf("%q and %q have the port %q", other, p.Name, port)
			}
			ports[port] = p.Name
		}
		if p.Command == nil && p.Ready == nil {
			t.Errorf("%q does nothing", p.Name)
		}
		if p.Command != nil && p.Ready == nil {
			t.Errorf("nobody waits for %q", p.Name)
		}
	}
	var visit func(name string, above map[string]bool)
	visit = func(name string, above map[string]bool) {
		if above[name] {
			t.Fatalf("%q needs itself", name)
		}
		above[name] = true
		defer delete(above, name)
		for _, need := range parts[name].Needs {
			if _, ok := parts[need]; !ok {
				t.Errorf("%q needs %q, which is no part", name, need)
				continue
			}
			visit(need, above)
		}
	}
	for name := range parts {
		visit(name, map[string]bool{})
	}
}

// Every program has a build folder with its sums.
func TestGoPrograms(t *testing.T) {
	b := &Box{Config: Config{Root: filepath.Join("..", "..", "..")}}
	for _, p := range append(goPrograms(), nodePrograms()...) {
		for _, f := range []string{"go.mod", "go.sum"} {
			if _, err := os.Stat(filepath.Join(b.buildDir(p.name), f)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestTerraformFits(t *testing.T) {
	for line, want := range map[string]bool{
		"Terraform v1.11.4": true, "Terraform v1.12.0-beta1": true, "Terraform v2.0.0": true, "OpenTofu v1.12.6": true,
		"Terraform v1.10.5": false, "Terraform v0.15.0": false, "": false, "Terraform": false, "Terraform vNext": false,
	} {
		if got := terraformFits(line); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}

// A command is another one when its arguments, its environment or what it
// reads at its start differ.
func TestSpecDigest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := func(s Spec) string {
		t.Helper()
		d, err := s.digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := Spec{Argv: []string{"kwok", "--a"}, Env: []string{"A=1"}, Inputs: []string{file}}
	first := digest(base)
	for name, other := range map[string]Spec{
		"arguments":   {Argv: []string{"kwok", "--b"}, Env: base.Env, Inputs: base.Inputs},
		"environment": {Argv: base.Argv, Env: []string{"A=2"}, Inputs: base.Inputs},
		"inputs":      {Argv: base.Argv, Env: base.Env},
	} {
		if digest(other) == first {
			t.Errorf("other %s make no difference", name)
		}
	}
	if digest(base) != first {
		t.Error("the same command has two digests")
	}
	if err := os.WriteFile(file, []byte(`{"a": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if digest(base) == first {
		t.Error("other content makes no difference")
	}
	if _, err := (Spec{Inputs: []string{file + ".none"}}).digest(); err == nil {
		t.Error("a missing file makes no error")
	}
}

func TestSnapshotLeavesTheRepositoryAlone(t *testing.T) {
	tree, repo := t.TempDir(), filepath.Join(t.TempDir(), "snapshot.git")
	g := snapshotGit{repo: repo, tree: tree}
	plain := snapshotGit{repo: filepath.Join(tree, ".git"), tree: tree}
	run := func(g snapshotGit, args ...string) string {
		t.Helper()
		out, err := g.run(t.Context(), nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run(g, "init", "-q", "--bare", repo)
	run(plain, "init", "-q", tree)
	for name, text := range map[string]string{".gitignore": "/bin/\n", "tracked": "1", "gone": "2", "untracked file": "3", "bin/tool": "4"} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(plain, "add", "tracked", "gone")
	if err := os.Remove(filepath.Join(tree, "gone")); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(tree, ".git", "index"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := g.snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := run(g, "ls-tree", "-r", "--name-only", name), ".gitignore\ntracked\nuntracked file"; got != want {
		t.Errorf("the snapshot has\n%s\nwant\n%s", got, want)
	}
	again, err := g.snapshot(t.Context())
	if err != nil || again != name {
		t.Errorf("the same tree is %s and then %s, %v", name, again, err)
	}
	after, err := os.ReadFile(filepath.Join(tree, ".git", "index"))
	if err != nil || string(after) != string(index) {
		t.Errorf("the repository's own index was changed, %v", err)
	}
}
