// Package stack is one Terraform stack in one account: what its files declare,
// where its state is, and the program that works on it.
package stack

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Options are what a verb needs to know of the stack it works on.
type Options struct {
	Dir, Stack, Account string
	Source              string // path of Dir in its repository; "" outside of one
	Out                 string // folder of the plan
	Binary              string // terraform or tofu
	VarFiles            []string
	Variables           []string // name=value, what the stack declares and the landscape knows
	LockTimeout         time.Duration
	Backend             landscape.Backend
	CustomEndpoint      bool
	Landscape           string // digest
	Commit              string
	ChildEnv            map[string]string // holds credentials: never printed
}

// Facts are what the files of a stack declare.
type Facts struct {
	Variables []string
}

var name = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$`)

// ValidName reports whether a stack may have the name.
func ValidName(s string) bool { return len(s) <= 100 && name.MatchString(s) }

// NameOf returns the name of the stack in a folder of a repository: its path
// there, with dots, so that no two stacks have one state. "" stands for a path
// that gives no name, because a folder's is none or has a dot itself.
func NameOf(source string) string {
	dotted := strings.ReplaceAll(source, "/", ".")
	if strings.Contains(source, ".") || !ValidName(dotted) {
		return ""
	}
	return dotted
}

// SourceOf returns the path of a folder, absolute, in the repository it lies
// in; "" for the top of one, and where there is none.
func SourceOf(dir string) string {
	for top := dir; ; top = filepath.Dir(top) {
		if _, err := os.Stat(filepath.Join(top, ".git")); err == nil {
			path, err := filepath.Rel(top, dir)
			if err != nil || path == "." {
				return ""
			}
			return filepath.ToSlash(path)
		}
		if top == filepath.Dir(top) {
			return ""
		}
	}
}

// Keys returns the keys of m in order.
func Keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// FindBinary returns the path of the program that works on stacks.
func FindBinary(want string) (string, error) {
	if want != "" {
		path, err := exec.LookPath(want)
		if err != nil {
			return "", fmt.Errorf("--binary %q cannot be run: %w", want, err)
		}
		return path, nil
	}
	for _, n := range []string{"terraform", "tofu"} {
		if path, err := exec.LookPath(n); err == nil {
			return path, nil
		}
	}
	return "", errors.New("neither terraform nor tofu is on PATH: install one, or name it with --binary")
}

// backendHint is what a stack must hold: its settings come from the landscape.
const backendHint = "add to the stack:  terraform { backend \"s3\" {} }  (left empty: its settings come from the landscape)"

// Inspect reads the stack's files and checks that it declares the S3 backend.
func Inspect(dir string) (Facts, error) {
	files, err := sources(dir)
	if err != nil {
		return Facts{}, err
	}
	if len(files) == 0 {
		return Facts{}, tool.Exit(tool.Usage, fmt.Errorf("folder %q holds no Terraform files", dir), "--dir names the folder of the stack's .tf files")
	}
	parser := hclparse.NewParser()
	var facts Facts
	var all hcl.Diagnostics
	backends := map[string]int{}
	for _, path := range files {
		file, diags := parse(parser, path)
		all = append(all, diags...)
		if file == nil {
			continue
		}
		content, _, diags := file.Body.PartialContent(rootSchema())
		all = append(all, diags...)
		for _, block := range content.Blocks {
			if block.Type == "variable" {
				facts.Variables = append(facts.Variables, block.Labels[0])
				continue
			}
			inner, _, diags := block.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "backend", LabelNames: []string{"type"}}, {Type: "cloud"}}})
			all = append(all, diags...)
			for _, b := range inner.Blocks {
				kind := b.Type
				if len(b.Labels) > 0 {
					kind = b.Labels[0]
				}
				backends[kind]++
			}
		}
	}
	if all.HasErrors() {
		return Facts{}, tool.Exit(tool.Usage, fmt.Errorf("reading stack %q: %s", dir, diagnostics(all)))
	}
	if backends["s3"] == 0 {
		if len(backends) > 0 {
			return Facts{}, tool.Exit(tool.Usage, fmt.Errorf("stack %q declares the backend %q, not \"s3\"", dir, Keys(backends)[0]), backendHint)
		}
		return Facts{}, tool.Exit(tool.Usage, fmt.Errorf("stack %q declares no backend: its state would stay in the job and be lost", dir), backendHint)
	}
	slices.Sort(facts.Variables)
	return facts, nil
}

func rootSchema() *hcl.BodySchema {
	return &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "terraform"}, {Type: "variable", LabelNames: []string{"name"}}}}
}

func parse(p *hclparse.Parser, path string) (*hcl.File, hcl.Diagnostics) {
	if strings.HasSuffix(path, ".json") {
		return p.ParseJSONFile(path)
	}
	return p.ParseHCLFile(path)
}

func sources(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading stack %q: %w", dir, err)
	}
	var files []string
	for _, e := range entries {
		for _, ext := range []string{".tf", ".tofu", ".tf.json", ".tofu.json"} {
			if !e.IsDir() && strings.HasSuffix(e.Name(), ext) {
				files = append(files, filepath.Join(dir, e.Name()))
				break
			}
		}
	}
	return files, nil
}

func diagnostics(all hcl.Diagnostics) string {
	var lines []string
	for _, d := range all {
		if d.Severity != hcl.DiagError {
			continue
		}
		where := ""
		if d.Subject != nil {
			where = fmt.Sprintf("%s:%d:%d: ", d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column)
		}
		lines = append(lines, where+d.Summary+" "+d.Detail)
	}
	return strings.Join(lines, "\n  ")
}

// Fill returns name=value for each declared variable that the landscape knows.
func (f Facts) Fill(known map[string]string) []string {
	var out []string
	for _, v := range f.Variables {
		if value, ok := known[v]; ok {
			out = append(out, v+"="+value)
		}
	}
	return out
}

// StateKey returns the key of the stack's state in its bucket.
func (o Options) StateKey() string { return o.Stack + "/terraform.tfstate" }

// Errored is where the program leaves a state that it could not save. It holds
// what the state holds.
func (o Options) Errored() string { return filepath.Join(o.Dir, "errored.tfstate") }

// BackendConfig returns the settings of the stack's backend, as name=value.
// None is secret: the credentials are in the environment of the child.
func (o Options) BackendConfig() []string {
	b := o.Backend
	pairs := []string{"bucket=" + b.Bucket, "key=" + o.StateKey(), "region=" + b.Region, "encrypt=true"}
	if b.KMSKey != "" {
		pairs = append(pairs, "kms_key_id="+b.KMSKey)
	}
	if b.Lock != "dynamodb" {
		pairs = append(pairs, "use_lockfile=true")
	}
	if b.Lock == "dynamodb" || b.Lock == "both" {
		pairs = append(pairs, "dynamodb_table="+b.LockTable)
	}
	if o.CustomEndpoint {
		pairs = append(pairs, "use_path_style=true")
	}
	return pairs
}

// ByHand returns the commands with which a person runs the program on the
// state, with the person's own rights, at the top of the repository.
func (o Options) ByHand(command string) []string {
	dir := o.Source
	if dir == "" {
		dir = o.Dir
	}
	program := fmt.Sprintf("%s -chdir=%s ", filepath.Base(o.Binary), dir)
	return []string{program + "init -reconfigure -backend-config=" + strings.Join(o.BackendConfig(), " -backend-config="), program + command}
}

// DataDir is where the program keeps modules and providers: a folder for each
// stack and account, so that two accounts may be planned in one checkout.
func (o Options) DataDir() string {
	return filepath.Join(o.Dir, ".terraform", "slipway-"+o.Stack+"-"+o.Account)
}

// PlanFile is the saved plan. It may hold secrets.
func (o Options) PlanFile() string { return filepath.Join(o.Out, "plan.tfplan") }
