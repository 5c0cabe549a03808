package doctest

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// own is a job of this repository's pipeline.
type own struct {
	Name  string `json:"name"`
	Stage string `json:"stage"`
	When  string `json:"when"`
}

// ownPipeline returns the jobs of this repository's pipeline, by name, as
// gitlab-ci-local lists them once the file has passed GitLab's schema.
func ownPipeline(t *testing.T, variables ...string) map[string]own {
	t.Helper()
	runner := strings.Fields(os.Getenv("SLIPWAY_GITLAB_CI_LOCAL"))
	if len(runner) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("SLIPWAY_GITLAB_CI_LOCAL is not set: run the tests with make test")
		}
		t.Skip("needs gitlab-ci-local: run make test, or set SLIPWAY_GITLAB_CI_LOCAL to its command line")
	}
	dir := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(root, ".gitlab-ci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".gitlab-ci.yml"), string(raw))
	init := exec.Command("sh", "-ec", "git init --quiet -b main . && git remote add origin https://gitlab.com/slipway/slipway.git && git symbolic-ref refs/remotes/origin/HEAD refs/remotes/origin/main && git add -A && git -c user.name=Bob -c user.email=bob@example.com commit --quiet -m all")
	init.Dir = dir
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args := append(runner[1:], "--list-json")
	for _, v := range variables {
		args = append(args, "--variable", v)
	}
	var errors strings.Builder
	list := exec.Command(runner[0], args...)
	list.Dir, list.Stderr = dir, &errors
	out, err := list.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errors.String())
	}
	var jobs []own
	if err := json.Unmarshal(out[max(0, strings.Index(string(out), "[\n")):], &jobs); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	byName := map[string]own{}
	for _, j := range jobs {
		if j.When != "never" {
			byName[j.Name] = j
		}
	}
	return byName
}

// TestOwnPipeline: only a protected tag publishes, and only what was tested.
func TestOwnPipeline(t *testing.T) {
	for _, variables := range [][]string{{"CI_COMMIT_TAG="}, {"CI_COMMIT_TAG=1.0.0", "CI_COMMIT_REF_PROTECTED=false"}} {
		if names := slices.Sorted(maps.Keys(ownPipeline(t, variables...))); !slices.Equal(names, []string{"test"}) {
			t.Errorf("with %v the pipeline has the jobs %v", variables, names)
		}
	}
	jobs := ownPipeline(t, "CI_COMMIT_TAG=1.0.0", "CI_COMMIT_REF_PROTECTED=true")
	for name, stage := range map[string]string{"test": "test", "programs": "build", "release": "release"} {
		if jobs[name].Stage != stage {
			t.Errorf("job %s of a protected tag is in the stage %q, want %q", name, jobs[name].Stage, stage)
		}
	}
	images := 0
	for name, j := range jobs {
		if strings.HasPrefix(name, "images: ") && j.Stage == "release" {
			images++
		}
	}
	if images != 2 {
		t.Errorf("%d images are made: %v", images, jobs)
	}
}

// TestImagesThatAreNamedArePublished: what the templates and the examples run
// in is what a tag publishes.
func TestImagesThatAreNamedArePublished(t *testing.T) {
	pipeline, err := os.ReadFile(filepath.Join(root, ".gitlab-ci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`IMAGE: \$CI_REGISTRY_IMAGE(\S*)`).FindAllStringSubmatch(string(pipeline), -1) {
		names = append(names, "registry.gitlab.com/slipway/slipway"+m[1])
	}
	var files []string
	for _, pattern := range []string{"ci-templates/*.yml", "examples/*/.gitlab-ci.yml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	named := 0
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(registry\.gitlab\.com/\S+):\d+\.\d+\.\d+`).FindAllStringSubmatch(string(raw), -1) {
			named++
			if !slices.Contains(names, m[1]) {
				t.Errorf("%s names the image %s; published are %v", f, m[1], names)
			}
		}
		if strings.Contains(string(raw), "\nbuild:\n") && !strings.Contains(string(raw), "  image: ") {
			t.Errorf("%s: the build has no image", f)
		}
	}
	if named < 11 {
		t.Errorf("only %d images were found", named)
	}
}
