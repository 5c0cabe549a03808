// Package archtest holds the tree to the rules of ARCHITECTURE.md.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "gitlab.com/slipway/slipway/"

// The layers of pkg/. session joins the adapters for one run.
var (
	leaves   = []string{"tool", "report", "cienv", "joblog", "landscape", "owner", "yamlfile", "envstate"}
	adapters = []string{"awsauth", "gitlabapi", "kube", "rollout", "seal", "bundle"}
	joiners  = []string{"session"}
)

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing packages: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

const root = "../.."

// inPkg returns the name below pkg/ that an import path is of, and whether it is.
func inPkg(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, module+"pkg/")
	name, _, _ := strings.Cut(rest, "/")
	return name, ok
}

// TestDependenciesRunOneWay: main -> internal/cmd -> internal/<verb> -> adapters -> leaves.
func TestDependenciesRunOneWay(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, imported := range p.Imports {
			if why := forbidden(p.ImportPath, imported); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, why)
			}
		}
	}
}

func forbidden(from, to string) string {
	fromTool, toTool := toolOf(from), toolOf(to)
	toName, toIsPkg := inPkg(to)
	fromName, fromIsPkg := inPkg(from)
	switch {
	case toTool != "" && fromTool != toTool:
		return "no tool is imported by another, nor by pkg"
	case strings.HasSuffix(from, "/"+fromTool) && toIsPkg && toName != "tool":
		return "main only hands over to internal/cmd and pkg/tool"
	case !fromIsPkg || !toIsPkg || fromName == toName:
		return ""
	case slices.Contains(leaves, fromName) && !slices.Contains(leaves, toName):
		return "a leaf imports leaves alone"
	case slices.Contains(adapters, fromName) && !slices.Contains(leaves, toName):
		return "adapters never import each other; cmd or session joins them"
	}
	return ""
}

func toolOf(path string) string {
	rest, ok := strings.CutPrefix(path, module+"tools/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// TestEveryPackageHasALayer: a new package under pkg/ is put into a layer here.
func TestEveryPackageHasALayer(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(root, "pkg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(slices.Concat(leaves, adapters, joiners), e.Name()) {
			t.Errorf("pkg/%s is in no layer", e.Name())
		}
		if slices.Contains([]string{"util", "common", "shared", "helpers", "types"}, e.Name()) {
			t.Errorf("pkg/%s: the name says nothing", e.Name())
		}
	}
}

// TestHeavyDependencies: only slipway-deploy links Helm, slipway-terraform
// links no Kubernetes client, and nothing of the product links what only the
// sandbox needs.
func TestHeavyDependencies(t *testing.T) {
	never := []string{"k8s.io/kubernetes/", "github.com/vmware-tanzu/velero", "github.com/xanzy/go-gitlab", "gitlab.com/slipway/slipway/internal/"}
	no := map[string][]string{
		"bootstrap": {"helm.sh/helm", "k8s.io/client-go"},
		"terraform": {"helm.sh/helm", "k8s.io/client-go"},
		"promote":   {"helm.sh/helm"},
		"backup":    {"helm.sh/helm"},
		"deploy":    {},
	}
	for name, heavy := range no {
		p := list(t, "./tools/"+name)[0]
		for _, dep := range p.Deps {
			for _, h := range append(append([]string{}, heavy...), never...) {
				if strings.HasPrefix(dep, h) {
					t.Errorf("slipway-%s links %s", name, dep)
				}
			}
		}
	}
}

// goFiles calls fn for each Go file of the root module that people wrote.
func goFiles(t *testing.T, fn func(path string, src []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && rel != "." || slices.Contains([]string{"examples", "bin", "demo-report"}, rel)) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err == nil {
			fn(rel, src)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFiles holds the budgets of a file, and what only main.go may do.
func TestFiles(t *testing.T) {
	goFiles(t, func(path string, src []byte) {
		lines := bytes.Count(src, []byte("\n"))
		isMain, isTest := filepath.Base(path) == "main.go", strings.HasSuffix(path, "_test.go")
		generated := bytes.Contains(src, []byte("Code generated"))
		if lines > 450 && !generated {
			t.Errorf("%s has %d lines; 450 are the most", path, lines)
		}
		if isMain && strings.HasPrefix(path, "tools/") && lines > 40 {
			t.Errorf("%s has %d lines; a main has 40 at the most", path, lines)
		}
		if isTest {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range misuse(file, path) {
			t.Errorf("%s: %s", path, problem)
		}
	})
}

// misuse finds what rules 1, 4 and 20 forbid, and reading CI_* outside cienv.
func misuse(file *ast.File, path string) []string {
	var all []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			all = append(all, "init: no state at package level")
		}
	}
	// A server that tests run is a program of its own.
	isMain := file.Name.Name == "main" || strings.HasPrefix(path, "pkg/gitlabapi/gitlabapitest/")
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch name := x.Name + "." + n.Sel.Name; name {
			case "os.Exit", "log.Fatal", "log.Fatalf", "fmt.Print", "fmt.Println", "fmt.Printf", "os.Getenv", "os.Stdout", "os.Stderr":
				if !isMain && strings.HasPrefix(path, "tools/") || !isMain && strings.HasPrefix(path, "pkg/") {
					all = append(all, name+" belongs into main.go")
				}
			case "time.Sleep":
				all = append(all, "time.Sleep: watch, or wait on a timer together with a context")
			}
		case *ast.BasicLit:
			text := strings.Trim(n.Value, "`\"")
			if strings.HasPrefix(text, "CI_") && strings.HasPrefix(path, "tools/") {
				all = append(all, "reads "+text+": only pkg/cienv knows CI_ variables")
			}
		}
		return true
	})
	return all
}
