package gitlabapitest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// clientCalls are the calls of GitLab's Go client, as its source has them: by service and method, the HTTP methods
// and paths of each, parameters as ":".
func clientCalls(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "gitlab.com/gitlab-org/api/client-go/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	var parsed []*ast.File
	templates := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if ok && len(v.Values) == 1 {
				if call, ok := v.Values[0].(*ast.CallExpr); ok && name(call.Fun) == "route" {
					template, _ := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
					templates[v.Names[0].Name] = template
				}
			}
			return true
		})
	}
	calls := map[string][]string{}
	for _, f := range parsed {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil && fn.Body != nil {
				calls[receiver(fn)+"."+fn.Name.Name] = requests(fn, templates)
			}
		}
	}
	return calls
}

func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func receiver(fn *ast.FuncDecl) string {
	of := fn.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	return name(of)
}

// requests pairs the method and the route that one function of the client uses; a GET where it names no method.
func requests(fn *ast.FuncDecl, templates map[string]string) []string {
	method := "GET"
	var paths []string
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if m, ok := strings.CutPrefix(n.Sel.Name, "Method"); ok && name(n.X) == "http" {
				method = strings.ToUpper(m)
			}
		case *ast.Ident:
			if template, ok := templates[n.Name]; ok {
				paths = append(paths, plain(regexp.MustCompile(`%[sdv]`).ReplaceAllString(template, ":")))
			}
		}
		return true
	})
	for i, p := range paths {
		paths[i] = method + " " + p
	}
	return paths
}

// plain writes every parameter of a path as ":".
func plain(path string) string {
	return regexp.MustCompile(`:[a-z_]*|\*`).ReplaceAllString(strings.Trim(path, "/"), ":")
}

// Every route this server answers is a call of the real client, method and path, so that none is an invention.
func TestRoutesAreGitLabs(t *testing.T) {
	known := map[string]bool{
		"PUT projects/:/packages/generic/:/:/:": true, // the client puts this one's path together by itself
		"POST projects/:/terraform/state/:":     true, // this one only Terraform calls, as GitLab's documentation has it
	}
	for _, calls := range clientCalls(t) {
		for _, c := range calls {
			known[c] = true
		}
	}
	seen := map[string]bool{}
	for _, e := range endpoints() {
		route := e.method + " " + plain(e.path)
		if !known[route] {
			t.Errorf("%s %s is no call of the client", e.method, e.path)
		}
		if seen[route] {
			t.Errorf("%s %s is in the table twice", e.method, e.path)
		}
		seen[route] = true
	}
	for _, c := range []string{"GET projects/:/merge_requests/:/nonsense", "PATCH projects/:"} {
		if known[c] {
			t.Errorf("%s is taken for a call of the client", c)
		}
	}
}

// Every call that the product makes of the client is one that this server answers.
func TestServesTheProductsCalls(t *testing.T) {
	calls := clientCalls(t)
	var served []string
	for _, e := range endpoints() {
		served = append(served, e.method+" "+plain(e.path))
	}
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	use := regexp.MustCompile(`\.api\.([A-Z]\w+)\.([A-Z]\w+)\(`)
	found := 0
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range use.FindAllStringSubmatch(string(src), -1) {
			found++
			want := calls[m[1]+"Service."+m[2]]
			if m[2] == "PublishPackageFile" {
				want = []string{"PUT projects/:/packages/generic/:/:/:"}
			}
			if len(want) == 0 {
				t.Errorf("%s: the client has no call %s.%s", file, m[1], m[2])
			}
			for _, one := range want {
				if !slices.Contains(served, one) {
					t.Errorf("%s: %s.%s asks for %s, which is not served", file, m[1], m[2], one)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d calls of the product were found", found)
	}
}
