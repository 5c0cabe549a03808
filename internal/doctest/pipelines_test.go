package doctest

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/pkg/gitlabapi/gitlabapitest"
)

const adminToken = "glpat-admin-0123456789"

// world is a GitLab that has the shipped templates, and whose jobs find
// stand-ins for the programs: what is looked at is what the templates make of
// their inputs, in real pipelines. The programs have tests of their own.
type world struct {
	t        *testing.T
	endpoint string
	api      *gitlab.Client
}

const (
	service      = 77
	fork         = 99
	environments = 43
)

// standIn says what it was called with, and leaves behind what the templates
// hand on.
const standIn = `#!/bin/sh
{ echo "ran ${0##*/} $*"; env | grep '^SLIPWAY_' | sort | sed 's/^/with /'; } >&2
case "${0##*/} $*" in
"slipway-deploy bundle") echo "SLIPWAY_BUNDLE=bundle-of-$SLIPWAY_DEPLOY_DIR" >"$SLIPWAY_DEPLOY_DOTENV" ;;
"slipway-deploy apply")
  [ -z "${SLIPWAY_DEPLOY_DOTENV:-}" ] || echo "SLIPWAY_ENVIRONMENT_URL=https://orders-mr-${SLIPWAY_DEPLOY_MR:-none}.example.com" >"$SLIPWAY_DEPLOY_DOTENV"
  [ -z "${SLIPWAY_DEPLOY_ANNOTATIONS:-}" ] || echo '{"Slipway": []}' >"$SLIPWAY_DEPLOY_ANNOTATIONS"
  [ ! -e restored ] || exit 5 ;;
"slipway-backup drill") exit 7 ;;
"go build "*) echo program >app ;;
"crane auth "*) echo "registry gets $(wc -c) bytes, from $DOCKER_CONFIG" ;;
"crane append "*) echo 127.0.0.1:5000/base ;;
"crane mutate "*) [ ! -e refuse ] || exit 1; echo 127.0.0.1:5000/image@sha256:abc ;;
esac
`

func newWorld(t *testing.T) *world {
	t.Helper()
	runner := os.Getenv("SLIPWAY_GITLAB_CI_LOCAL")
	if runner == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("SLIPWAY_GITLAB_CI_LOCAL is not set: run the tests with make test")
		}
		t.Skip("needs gitlab-ci-local: run make test, or set SLIPWAY_GITLAB_CI_LOCAL to its command line")
	}
	bin := t.TempDir()
	for _, name := range []string{"slipway-bootstrap", "slipway-deploy", "slipway-promote", "slipway-backup", "crane", "go"} {
		write(t, filepath.Join(bin, name), standIn)
		if err := os.Chmod(filepath.Join(bin, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, endpoint: "http://" + listener.Addr().String()}
	server, err := gitlabapitest.New(gitlabapitest.Config{Root: t.TempDir(), ExternalURL: "https://gitlab.example.com", Endpoint: w.endpoint, Registry: "127.0.0.1:5000", AdminToken: adminToken,
		Projects: []gitlabapitest.Project{
			{ID: 10, Path: "slipway/slipway", DefaultBranch: "main", ProtectedBranches: []string{"main"}, Public: true},
			{ID: environments, Path: "nsflow/environments", DefaultBranch: "main", ProtectedBranches: []string{"main"}},
			{ID: service, Path: "nsflow/orders", DefaultBranch: "main", ProtectedBranches: []string{"main"}},
			{ID: fork, Path: "guest/orders", DefaultBranch: "main", ForkedFrom: service}},
		Runner: gitlabapitest.Runner{Command: strings.Fields(runner), Path: []string{bin}}})
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: server}
	go func() { _ = h.Serve(listener) }()
	t.Cleanup(func() { server.Close(); _ = h.Close() })
	if w.api, err = gitlab.NewClient(adminToken, gitlab.WithBaseURL(w.endpoint)); err != nil {
		t.Fatal(err)
	}
	templates := t.TempDir()
	if err := os.CopyFS(filepath.Join(templates, "ci-templates"), os.DirFS(filepath.Join(root, "ci-templates"))); err != nil {
		t.Fatal(err)
	}
	w.push(templates, "slipway/slipway", "1.0.0")
	return w
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// push makes dir the next commit of a project's main branch, with a tag where
// one is named.
func (w *world) push(dir, project, tag string) {
	w.t.Helper()
	remote := strings.Replace(w.endpoint, "://", "://oauth2:"+adminToken+"@", 1) + "/" + project + ".git"
	script := "git init --quiet -b main . && git add -A && git -c user.name=Bob -c user.email=bob@example.com commit --quiet -m next && git push --quiet " + remote + " main"
	if tag != "" {
		script += " && git tag " + tag + " && git push --quiet " + remote + " " + tag
	}
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("pushing to %s: %v\n%s", project, err, out)
	}
}

// follow waits for the end of a pipeline, and returns its jobs by name.
func (w *world) follow(project, pipeline int64) map[string]*gitlab.Job {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.endpoint+"/-/slipway/pipelines/"+strconv.FormatInt(pipeline, 10)+"/events", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("PRIVATE-TOKEN", adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil { // the stream ends with the pipeline
		w.t.Fatal(err)
	}
	list, _, err := w.api.Jobs.ListPipelineJobs(project, pipeline, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	jobs := map[string]*gitlab.Job{}
	for _, j := range list {
		jobs[j.Name] = j
	}
	return jobs
}

// newest follows the pipeline that the last push made.
func (w *world) newest(project int64) (int64, map[string]*gitlab.Job) {
	w.t.Helper()
	list, _, err := w.api.Pipelines.ListProjectPipelines(project, nil)
	if err != nil || len(list) == 0 {
		w.t.Fatalf("project %d has no pipeline: %v", project, err)
	}
	return list[0].ID, w.follow(project, list[0].ID)
}

func (w *world) log(project int64, j *gitlab.Job) string {
	w.t.Helper()
	if j == nil {
		return "there is no such job"
	}
	r, _, err := w.api.Jobs.GetTraceFile(project, j.ID)
	if err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// TestMonorepo: each of a monorepo's services gets its own bundle promoted.
func TestMonorepo(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".gitlab-ci.yml"), `stages: [deploy, release, promote]
include:
  - {project: slipway/slipway, ref: 1.0.0, file: ci-templates/microservice.yml, inputs: {prefix: orders-, service: orders, dir: orders, landscape: "gitlab:nsflow/platform"}}
  - {project: slipway/slipway, ref: 1.0.0, file: ci-templates/microservice.yml, inputs: {prefix: refunds-, service: refunds, dir: refunds}}
`)
	w.push(dir, "nsflow/orders", "")
	pipeline, jobs := w.newest(service)
	for _, one := range []string{"orders", "refunds"} {
		button := jobs[one+"-promote: [stage]"]
		if button == nil || button.Status != "manual" {
			t.Fatalf("%s has no button: %v\n%s", one, jobs, w.log(service, jobs[one+"-bundle"]))
		}
		if _, _, err := w.api.Jobs.PlayJob(service, button.ID, nil); err != nil {
			t.Fatal(err)
		}
	}
	jobs = w.follow(service, pipeline)
	for _, one := range []string{"orders", "refunds"} {
		log := w.log(service, jobs[one+"-promote: [stage]"])
		for _, want := range []string{"ran slipway-promote request", "with SLIPWAY_BUNDLE=bundle-of-" + one, "with SLIPWAY_PROMOTE_SERVICE=" + one, "with SLIPWAY_PROMOTE_TO=stage"} {
			if !strings.Contains(log, want) {
				t.Errorf("the button of %s lacks %q:\n%s", one, want, log)
			}
		}
	}
	for _, one := range []string{"orders", "refunds"} {
		// As landscape.Snapshot.GitLabEnvironment names it.
		if list, _, err := w.api.Deployments.ListProjectDeployments(service, &gitlab.ListProjectDeploymentsOptions{Environment: gitlab.Ptr(one + "-dev")}); err != nil || len(list) != 1 {
			t.Errorf("the environment %s-dev has the deployments %v, %v", one, list, err)
		}
	}
	if log := w.log(service, jobs["orders-deploy: [dev]"]); !strings.Contains(log, "with SLIPWAY_DEPLOY_LANDSCAPE=gitlab:nsflow/platform\n") {
		t.Errorf("the deployment does not get the landscape:\n%s", log)
	}
}

// TestDrillEndsWithSeven: a drill whose evidence is not good enough fails its
// pipeline, unless the project says otherwise; the sweep runs by its own rule.
func TestDrillEndsWithSeven(t *testing.T) {
	w := newWorld(t)
	for tolerate, want := range map[string]string{"": "failed", "tolerate-unproven: true, ": "success"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, ".gitlab-ci.yml"), `spec: {inputs: {task: {default: none}}}
---
stages: [drill]
include:
  - project: slipway/slipway
    ref: 1.0.0
    file: ci-templates/drill.yml
    inputs: {`+tolerate+`rule: '"$[[ inputs.task ]]" == "drill"', sweep-rule: '"$[[ inputs.task ]]" == "sweep" || "$[[ inputs.task ]]" == "both"'}
none: {stage: drill, script: ["true"]}
`)
		project := map[string]int64{"failed": environments, "success": service}[want]
		w.push(dir, map[string]string{"failed": "nsflow/environments", "success": "nsflow/orders"}[want], "")
		start := func(task string) (string, map[string]*gitlab.Job) {
			p, _, err := w.api.Pipelines.CreatePipeline(project, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main"),
				Inputs: gitlab.PipelineInputsOption{"task": gitlab.NewPipelineInputValue(task)}})
			if err != nil {
				t.Fatal(err)
			}
			jobs := w.follow(project, p.ID)
			if p, _, err = w.api.Pipelines.GetPipeline(project, p.ID); err != nil {
				t.Fatal(err)
			}
			return p.Status, jobs
		}
		status, jobs := start("drill")
		if status != want || jobs["drill"] == nil || jobs["drill"].Status != "failed" || jobs["drill"].AllowFailure != (want == "success") || jobs["sweep"] != nil {
			t.Errorf("with %q, the pipeline is %s, want %s: %v\n%s", tolerate, status, want, jobs, w.log(project, jobs["drill"]))
		}
		if status, jobs = start("sweep"); status != "success" || jobs["drill"] != nil || !strings.Contains(w.log(project, jobs["sweep"]), "ran slipway-backup sweep") {
			t.Errorf("the sweep's pipeline is %s: %v", status, jobs)
		}
	}
}

// TestExampleBuildFailsWhereItsToolDoes: the example's build logs in without
// the password on a command line, and does not hand on an image that it has not.
func TestExampleBuildFailsWhereItsToolDoes(t *testing.T) {
	w := newWorld(t)
	for _, refused := range []bool{false, true} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples", "orders"))); err != nil {
			t.Fatal(err)
		}
		project, path := int64(service), "nsflow/orders"
		if refused {
			project, path = environments, "nsflow/environments"
			write(t, filepath.Join(dir, "refuse"), "")
		}
		w.push(dir, path, "")
		_, jobs := w.newest(project)
		log := w.log(project, jobs["build"])
		if want := map[bool]string{false: "success", true: "failed"}[refused]; jobs["build"] == nil || jobs["build"].Status != want {
			t.Errorf("the build is not %s:\n%s", want, log)
		}
		if !strings.Contains(log, "ran crane auth login 127.0.0.1:5000 --username gitlab-ci-token --password-stdin\n") ||
			!strings.Contains(log, "/.docker\n") || strings.Contains(log, "registry gets 0 bytes") {
			t.Errorf("the log-in is not as it should be:\n%s", log)
		}
	}
}

// TestLandscapeIsCheckedInMergeRequests: a merge request's pipeline compiles the
// landscape and does nothing else.
func TestLandscapeIsCheckedInMergeRequests(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".gitlab-ci.yml"), "stages: [bootstrap]\ninclude: [{project: slipway/slipway, ref: 1.0.0, file: ci-templates/bootstrap.yml}]\n")
	w.push(dir, "nsflow/orders", "")
	if _, jobs := w.newest(service); jobs["bootstrap"] == nil || jobs["bootstrap"].Status != "success" || len(jobs) != 1 {
		t.Errorf("the default branch has the jobs %v", jobs)
	}
	str := gitlab.Ptr[string]
	if _, _, err := w.api.Commits.CreateCommit(service, &gitlab.CreateCommitOptions{Branch: str("change"), StartBranch: str("main"), CommitMessage: str("change"),
		Actions: []*gitlab.CommitActionOptions{{Action: gitlab.Ptr(gitlab.FileCreate), FilePath: str("x"), Content: str("x")}}}); err != nil {
		t.Fatal(err)
	}
	mr, _, err := w.api.MergeRequests.CreateMergeRequest(service, &gitlab.CreateMergeRequestOptions{SourceBranch: str("change"), TargetBranch: str("main"), Title: str("change")})
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := w.api.MergeRequests.CreateMergeRequestPipeline(service, mr.IID)
	if err != nil {
		t.Fatal(err)
	}
	jobs := w.follow(service, p.ID)
	if log := w.log(service, jobs["bootstrap-compile"]); len(jobs) != 1 || !strings.Contains(log, "ran slipway-bootstrap compile") {
		t.Errorf("the merge request has the jobs %v:\n%s", jobs, log)
	}
}
