// Package doctest holds the templates and the pages to the programs.
package doctest

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
	Extends   string            `yaml:"extends"`
	Variables map[string]string `yaml:"variables"`
	Timeout   string            `yaml:"timeout"`
	IDTokens  map[string]any    `yaml:"id_tokens"`
	Rules     []struct {
		If string `yaml:"if"`
	} `yaml:"rules"`
	Retry struct {
		Codes []int `yaml:"exit_codes"`
	} `yaml:"retry"`
	Dependencies []string `yaml:"dependencies"`
	Artifacts    struct {
		Paths   []string `yaml:"paths"`
		Reports struct {
			JUnit string `yaml:"junit"`
		} `yaml:"reports"`
	} `yaml:"artifacts"`
}

type template struct {
	inputs map[string]struct {
		Default any `yaml:"default"`
	}
	jobs map[string]job // what is no job left out
}

// templates returns the templates by file. In a job, an input that is filled in
// reads input-<name>.
func templates(t *testing.T) map[string]template {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "ci-templates", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	all := map[string]template{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		header, body, ok := strings.Cut(string(raw), "\n---\n")
		var spec struct {
			Spec struct {
				Inputs map[string]struct {
					Default any `yaml:"default"`
				} `yaml:"inputs"`
			} `yaml:"spec"`
		}
		if err := yaml.Unmarshal([]byte(header), &spec); !ok || err != nil || len(spec.Spec.Inputs) == 0 {
			t.Errorf("%s has no spec header with inputs: %v", f, err)
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
			if m, ok := v.(map[string]any); ok && m["script"] != nil {
				jobs[name] = jobOf(t, f+", job "+name, doc, m)
			}
		}
		all[filepath.Base(f)] = template{spec.Spec.Inputs, jobs}
	}
	return all
}

// jobOf reads a job, with what it lacks taken from the one that it extends.
func jobOf(t *testing.T, where string, doc, own map[string]any) job {
	t.Helper()
	merged := map[string]any{}
	if base, ok := own["extends"].(string); ok {
		extended, _ := doc[base].(map[string]any)
		maps.Copy(merged, extended)
	}
	maps.Copy(merged, own)
	var j job
	part, err := yaml.Marshal(merged)
	if err == nil {
		err = yaml.Unmarshal(part, &j)
	}
	if err != nil {
		t.Errorf("%s: %v", where, err)
	}
	return j
}

// TestTemplateVariablesAreFlags: every SLIPWAY_ variable that a template sets
// is a flag of the program that the job runs, and a job is one line.
func TestTemplateVariablesAreFlags(t *testing.T) {
	count := 0
	for file, tpl := range templates(t) {
		for name, j := range tpl.jobs {
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
			landscape := tool.EnvName(words[0], "landscape")
			if hasFlag(string(help), words[0], landscape) && j.Variables[landscape] != "input-landscape" {
				t.Errorf("%s, job %s: %s is %q, not the input landscape", file, name, landscape, j.Variables[landscape])
			}
			for variable := range j.Variables {
				if variable == "GIT_STRATEGY" { // a word to the runner
					continue
				}
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

// TestTemplateJobsAreWhole: every job shows GitLab the report its program
// writes, and is tried again where the program says that it is worth it.
func TestTemplateJobsAreWhole(t *testing.T) {
	// compile asks nobody, and what is left of an apply is a person's to look at.
	once := []string{"slipway-bootstrap compile", "slipway-terraform apply"}
	// These take nothing from jobs before them.
	alone := []string{"bootstrap.yml, job input-prefixbootstrap", "terraform.yml, job input-prefixterraform-plan", "release-set.yml, job input-prefixrelease-set"}
	for file, tpl := range templates(t) {
		for name, j := range tpl.jobs {
			where := file + ", job " + name
			program, _, _ := strings.Cut(j.Script[0], " ")
			if want := j.Variables[tool.EnvName(program, "report-dir")] + "/" + program + ".xml"; j.Artifacts.Reports.JUnit != want {
				t.Errorf("%s: the junit report is %q, and the program writes %q", where, j.Artifacts.Reports.JUnit, want)
			}
			// What a job downloaded is another's, and may be for fewer people.
			if own := j.Variables[tool.EnvName(program, "report-dir")] + "/"; !slices.Contains(j.Artifacts.Paths, own) || slices.Contains(j.Artifacts.Paths, "slipway-report/") {
				t.Errorf("%s: the artifacts are %v; the job's own report is %s", where, j.Artifacts.Paths, own)
			}
			if slices.Contains(alone, where) && (j.Dependencies == nil || len(j.Dependencies) > 0) {
				t.Errorf("%s: it takes nothing from the jobs before it, and downloads %v", where, j.Dependencies)
			}
			if want := !slices.Contains(once, j.Script[0]); slices.Equal(j.Retry.Codes, []int{tool.Temporary}) != want {
				t.Errorf("%s: retries on the exit codes %v", where, j.Retry.Codes)
			}
			for _, r := range j.Rules {
				if !narrow(r.If, j) {
					t.Errorf("%s: the rule %q lets it run on other branches, or with a fork's code and an ID token", where, r.If)
				}
			}
		}
	}
}

// narrow reports whether a rule keeps a job to the default branch, or to merge
// requests: where the job has an ID token, to those of the project itself.
func narrow(rule string, j job) bool {
	const merge = `$CI_PIPELINE_SOURCE == "merge_request_event"`
	return strings.HasPrefix(rule, "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH") ||
		strings.HasPrefix(rule, merge+" && $CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID && ") ||
		rule == merge && len(j.IDTokens) == 0
}

// TestTemplatesOutlastTheirPrograms: GitLab kills a job that the program would
// have ended itself, with its clean-up, if the job has less time.
func TestTemplatesOutlastTheirPrograms(t *testing.T) {
	const cleanUp = 15 * time.Minute
	own := regexp.MustCompile(`--timeout .*\(default: ([0-9hms]+)\)`)
	count := 0
	for file, tpl := range templates(t) {
		for name, j := range tpl.jobs {
			words := strings.Fields(j.Script[0])
			help, err := exec.Command(program(t, words[0]), words[1], "--help").Output()
			if err != nil {
				t.Errorf("%s, job %s: %v", file, name, err)
			}
			m := own.FindStringSubmatch(string(help))
			if m == nil {
				continue
			}
			count++
			limit, err := time.ParseDuration(m[1])
			if err != nil {
				t.Fatal(err)
			}
			given, _ := tpl.inputs[strings.TrimPrefix(j.Timeout, "input-")].Default.(string)
			if got, err := time.ParseDuration(strings.ReplaceAll(given, " ", "")); err != nil || got < limit+cleanUp {
				t.Errorf("%s, job %s: the job has %q (%v), the program alone takes up to %s", file, name, given, err, limit)
			}
		}
	}
	if count < 3 {
		t.Errorf("only %d jobs have a program with a --timeout: its help was not read", count)
	}
}

// TestSchedulesDoNotStartEverything: no two templates of the environments
// project run by the same default, so that a schedule starts what it is for.
func TestSchedulesDoNotStartEverything(t *testing.T) {
	for _, file := range []string{"backup.yml", "drill.yml"} {
		rule, ok := templates(t)[file].inputs["rule"]
		if !ok || rule.Default != nil {
			t.Errorf("%s: the input rule has the default %v; the project says what starts the job", file, rule.Default)
		}
	}
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
