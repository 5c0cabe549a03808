package gitlabapitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// differences are the only places where an answer may have other keys than GitLab's documentation shows, and why.
// A key there is an object of testdata/shapes.yaml and the path inside it.
func differences() map[string]string {
	return map[string]string{
		"release.milestones":        "shown of a release that has some, and there are no milestones here",
		"release.evidences":         "no evidence is collected",
		"environment.cluster_agent": "there are no agents",
		"environment.last_deployment.deployable.failure_reason": "only a job that failed has a reason",
		"environment.last_deployment.approvals":                 "the environment needs none",
		"environment.last_deployment.approval_summary.rules":    "the environment needs none",
		"deployment.deployable.failure_reason":                  "only a job that failed has a reason",
		"deployment.approvals":                                  "the environment needs none",
		"deployment.approval_summary.rules":                     "the environment needs none",
		"deployments.deployable.failure_reason":                 "only a job that failed has a reason",
		"deployments.approvals":                                 "the environment needs none",
		"deployments.approval_summary.rules":                    "the environment needs none",
	}
}

// The answers to what the product asks have the keys of GitLab's documentation, inside and out, and no others.
func TestAnswersHaveTheDocumentedKeys(t *testing.T) {
	needRunner(t)
	config := testConfig(t, t.TempDir())
	config.Projects[3].TriggerToken = "glptt-0123456789"
	i := serve(t, config, listen(t))
	c, str := i.client, gitlab.Ptr[string]
	publish := `curl -sf --header "JOB-TOKEN: $CI_JOB_TOKEN" --upload-file out/a.txt "$CI_API_V4_URL/projects/77/packages/generic/orders/1.0.0/a.txt"`
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "build: {stage: build, tags: [small], allow_failure: true, script: ['mkdir out', 'echo a > out/a.txt', '" + publish + "', 'exit 3'], artifacts: {when: always, paths: [out/], expire_in: 1 week}}\n" +
		"ship: {stage: deploy, needs: [], script: ['mkdir out', 'echo b > out/b.txt'], artifacts: {paths: [out/]}, environment: {name: prod}}\n"})
	pl := i.latest(77)
	i.follow(pl.ID, nil)
	jobs := i.jobs(77, pl.ID)
	i.branchWith(c, 77, "change", "b", "two\n")
	mr := i.request(c, 77, "change")
	i.mergeable(77, mr.IID)
	i.follow(i.latest(77).ID, nil)
	must[*gitlab.Release](t)(c.Releases.CreateRelease(77, &gitlab.CreateReleaseOptions{TagName: str("v1"), Ref: str("main"), Assets: &gitlab.ReleaseAssetsOptions{Links: []*gitlab.ReleaseAssetLinkOptions{{Name: str("n"), URL: str("https://example.com")}}}}))

	shapes := documentedShapes(t)
	unused := differences()
	get := func(what, path string) any { return i.asked("GET", path, "", what) }
	const project = "/api/v4/projects/77/"
	answers := map[string]any{
		"deployments":               get("deployments", project+"deployments?environment=prod&status=success"),
		"environment":               get("environment", project+"environments/1"),
		"job":                       get("job", project+"jobs/"+id(jobs["build"].ID)),
		"jobs":                      get("jobs", project+"pipelines/"+id(pl.ID)+"/jobs?scope[]=failed"),
		"pipeline":                  get("pipeline", project+"pipelines/"+id(pl.ID)),
		"pipelines":                 get("pipelines", project+"pipelines"),
		"merge request":             get("merge request", project+"merge_requests/1"),
		"merge request's pipelines": get("merge request's pipelines", project+"merge_requests/1/pipelines"),
		"current user":              get("current user", "/api/v4/user"),
		"packages":                  get("packages", project+"packages"),
		"package files":             get("package files", project+"packages/1/package_files"),
		"commit":                    get("commit", project+"repository/commits/main"),
		"release":                   get("release", project+"releases/v1"),
		"new pipeline":              i.asked("POST", project+"pipeline", `{"ref":"main"}`, "new pipeline"),
		"triggered pipeline":        i.asked("POST", project+"trigger/pipeline", `{"ref":"main","token":"glptt-0123456789"}`, "triggered pipeline"),
	}
	first := mapOf(slices.Collect(each(answers["deployments"]))[0])
	answers["deployment"] = get("deployment", project+"deployments/"+fmt.Sprint(first["id"]))
	for what, keys := range shapes {
		got, ok := answers[what]
		if !ok {
			t.Errorf("nothing was asked for %q", what)
			continue
		}
		for _, wrong := range unlike(keys, got, what) {
			if unused[wrong.path] == "" && differences()[wrong.path] == "" {
				t.Errorf("%s: %s", wrong.path, wrong.what)
			}
			delete(unused, wrong.path)
		}
	}
	for path, reason := range unused {
		t.Errorf("%s is as GitLab shows it: no exception is needed (%s)", path, reason)
	}
}

// asked sends one call as the administrator and reads the answer.
func (i *instance) asked(method, path, body, what string) any {
	i.t.Helper()
	code, _, said := i.raw(method, path, body, "PRIVATE-TOKEN", adminToken)
	var got any
	if err := json.Unmarshal([]byte(said), &got); err != nil || code >= http.StatusBadRequest {
		i.t.Fatalf("%s: %d %s", what, code, said)
	}
	return got
}

func documentedShapes(t *testing.T) map[string][]any {
	t.Helper()
	data, err := os.ReadFile("testdata/shapes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]map[string]any
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	delete(file, "parts")
	out := map[string][]any{}
	for what, one := range file {
		keys, _ := one["keys"].([]any)
		if len(keys) == 0 || text(one, "page") == "" {
			t.Fatalf("%s has no keys, or no page that they are from", what)
		}
		out[what] = keys
	}
	return out
}

type difference struct{ path, what string }

// unlike compares an answer with a tree of keys: an object, or a list of them of which each has to fit.
func unlike(keys []any, got any, at string) []difference {
	var out []difference
	met := false
	for one := range each(got) {
		object, ok := one.(map[string]any)
		if !ok {
			break
		}
		met = true
		known := map[string]bool{}
		for _, key := range keys {
			name, isLeaf := key.(string)
			var inside []any
			for k, v := range mapOf(key) {
				name = k
				inside, _ = v.([]any)
			}
			known[name] = true
			value, has := object[name]
			switch {
			case !has:
				out = append(out, difference{at + "." + name, "documented, and not there"})
			case !isLeaf:
				out = append(out, unlike(inside, value, at+"."+name)...)
			}
		}
		for name := range object {
			if !known[name] {
				out = append(out, difference{at + "." + name, "there, and not documented"})
			}
		}
	}
	if !met {
		out = append(out, difference{at, fmt.Sprintf("has no object inside: %v", got)})
	}
	return out
}

// each yields the entries of a list, or the one thing that is none.
func each(v any) func(func(any) bool) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	return slices.Values(list)
}
