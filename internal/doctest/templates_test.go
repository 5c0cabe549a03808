// Package doctest holds the templates and the pages to the programs.
package doctest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"gitlab.com/slipway/slipway/pkg/tool"
)

const root = "../.."

// program returns the path of a built program.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: run the tests with make test", err)
		}
		t.Skip("needs the built programs: run make build")
	}
	return path
}

type job struct {
	Script    []string          `yaml:"script"`
	Variables map[string]string `yaml:"variables"`
}

// templates returns the jobs of each template, the header and what is no job left out.
func templates(t *testing.T) map[string]map[string]job {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "ci-templates", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	all := map[string]map[string]job{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		header, body, ok := strings.Cut(string(raw), "\n---\n")
		if !ok || !strings.Contains(header, "spec:") {
			t.Errorf("%s has no spec header", f)
			continue
		}
		// An interpolation is no YAML where it stands as a key or a bare value.
		body = regexp.MustCompile(`\$\[\[ inputs\.([a-z-]+) \]\]`).ReplaceAllString(body, "input-$1")
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(body), &doc); err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		jobs := map[string]job{}
		for name, v := range doc {
			m, ok := v.(map[string]any)
			if !ok || m["script"] == nil {
				continue
			}
			part, err := yaml.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			var j job
			if err := yaml.Unmarshal(part, &j); err != nil {
				t.Errorf("%s, job %s: %v", f, name, err)
			}
			jobs[name] = j
		}
		all[filepath.Base(f)] = jobs
	}
	return all
}

// TestTemplateVariablesAreFlags: every SLIPWAY_ variable that a template sets
// is a flag of the program that the job runs, and a job is one line.
func TestTemplateVariablesAreFlags(t *testing.T) {
	count := 0
	for file, jobs := range templates(t) {
		for name, j := range jobs {
			count++
			if len(j.Script) != 1 || len(strings.Fields(j.Script[0])) != 2 {
				t.Errorf("%s, job %s: the script is %q; a job is one line: the program and its verb", file, name, j.Script)
				continue
			}
			words := strings.Fields(j.Script[0])
			help, err := exec.Command(program(t, words[0]), words[1], "--help").Output()
			if err != nil {
				t.Errorf("%s, job %s: %s --help: %v", file, name, j.Script[0], err)
				continue
			}
			for variable := range j.Variables {
				if !hasFlag(string(help), words[0], variable) {
					t.Errorf("%s, job %s: %s is no flag of %q", file, name, variable, j.Script[0])
				}
			}
		}
	}
	if count < 8 {
		t.Errorf("only %d jobs were looked at", count)
	}
}

func hasFlag(help, program, variable string) bool {
	for _, m := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(help, -1) {
		if tool.EnvName(program, m[1]) == variable {
			return true
		}
	}
	return false
}

// TestExamplesIncludeWhatIsShipped: the files that the examples and the README include exist.
func TestExamplesIncludeWhatIsShipped(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "examples", "*", ".gitlab-ci.yml"))
	if err != nil || len(pages) < 4 {
		t.Fatalf("found %d examples: %v", len(pages), err)
	}
	for _, p := range append(pages, filepath.Join(root, "README.md")) {
		raw, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`file: (ci-templates/\S+)`).FindAllStringSubmatch(string(raw), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s includes %s: %v", p, m[1], err)
			}
		}
	}
}
