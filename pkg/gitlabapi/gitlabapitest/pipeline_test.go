package gitlabapitest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestPipelineRunsJobsAndHandsOver(t *testing.T) {
	i := startWithRunner(t)
	dir := t.TempDir()
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": `
stages: [build, deploy]
build:
  stage: build
  image: none
  id_tokens:
    SLIPWAY_ID_TOKEN: {aud: https://gitlab.example.com}
  script:
    - echo "SLIPWAY_BUNDLE=repo@sha256:$CI_PROJECT_ID" > bundle.env
    - echo $CI_JOB_TOKEN
    - printf '%s' "$SLIPWAY_ID_TOKEN" > ` + dir + `/token
    - printf '%s' "$CI_JOB_TOKEN" > ` + dir + `/jobtoken
    - test "$PWD" = "$CI_PROJECT_DIR" && test "$GITLAB_CI $CI_COMMIT_REF_PROTECTED $CI_PIPELINE_SOURCE" = "true true push"
    - test -z "$AWS_ACCESS_KEY_ID"
    - mkdir out && echo made > out/file
  artifacts:
    paths: [out]
    reports: {dotenv: bundle.env}
promote:
  stage: deploy
  when: manual
  environment: {name: stage, url: "https://$CI_PROJECT_NAME.example.com"}
  needs: [{job: build, artifacts: true}]
  script:
    - echo "bundle is $SLIPWAY_BUNDLE by $GITLAB_USER_LOGIN"
    - cat out/file
`})
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
	pl := i.latest(77)
	events := i.follow(pl.ID, nil)
	jobs := i.jobs(77, pl.ID)
	if jobs["build"].Status != "success" || jobs["promote"].Status != "manual" {
		t.Fatalf("build %s, promote %s\n%v\n%s", jobs["build"].Status, jobs["promote"].Status, events, i.log(77, jobs["build"].ID))
	}
	log := i.log(77, jobs["build"].ID)
	token, _ := os.ReadFile(filepath.Join(dir, "jobtoken"))
	if strings.Contains(log, string(token)) || !strings.Contains(log, "[MASKED]") || !strings.Contains(log, "Job succeeded") {
		t.Errorf("log shows the token, or not its mask:\n%s", log)
	}
	if _, _, err := i.as("").Jobs.GetJobTokensJob(nil, gitlab.WithHeader("JOB-TOKEN", string(token))); err == nil {
		t.Error("the job token outlives its job")
	}
	i.checkToken(filepath.Join(dir, "token"))
	if left, _ := filepath.Glob(i.path("builds", "*", "*", "env")); len(left) > 0 {
		t.Errorf("secrets are left behind: %v", left)
	}

	// The button, pressed by someone who may not, and by someone who may.
	if _, resp, err := i.as(developerToken).Jobs.PlayJob(77, jobs["promote"].ID, nil); err == nil || resp.StatusCode != 403 {
		t.Errorf("a developer ran a job on a protected branch: %v", err)
	}
	if _, _, err := i.as(releaseToken).Jobs.PlayJob(77, jobs["promote"].ID, nil); err != nil {
		t.Fatal(err)
	}
	i.follow(pl.ID, nil)
	log = i.log(77, jobs["promote"].ID)
	if !strings.Contains(log, "bundle is repo@sha256:77 by rita") || !strings.Contains(log, "made") {
		t.Fatalf("the manual job did not get what the earlier one made:\n%s", log)
	}
	deployments, _, err := i.client.Deployments.ListProjectDeployments(77, &gitlab.ListProjectDeploymentsOptions{Environment: gitlab.Ptr("stage")})
	if err != nil || len(deployments) != 1 || deployments[0].Status != "success" || deployments[0].Environment.ExternalURL != "https://orders.example.com" {
		t.Errorf("deployments: %+v, %v", deployments, err)
	}
	if got, _, err := i.client.Jobs.DownloadSingleArtifactsFile(77, jobs["build"].ID, "out/file"); err != nil {
		t.Error(err)
	} else if data := make([]byte, 4); func() bool { _, _ = got.Read(data); return string(data) != "made" }() {
		t.Errorf("artifact is %q", data)
	}
	if p, _, err := i.client.Pipelines.GetPipeline(77, pl.ID); err != nil || p.Status != "success" {
		t.Errorf("pipeline %v, %v", p, err)
	}
}

func (i *instance) checkToken(file string) {
	i.t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		i.t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(string(raw), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		i.t.Fatal(err)
	}
	var keys jose.JSONWebKeySet
	i.get("/oauth/discovery/keys", &keys)
	var claims map[string]any
	if err := parsed.Claims(keys, &claims); err != nil {
		i.t.Fatal(err)
	}
	for name, want := range map[string]any{
		"iss": "https://gitlab.example.com", "aud": "https://gitlab.example.com", "sub": "project_id:77:ref_protected:true:ref_type:branch:ref:main",
		"project_id": "77", "ref_protected": "true", "runner_id": 1.0, "pipeline_source": "push", "user_login": "root", "runner_environment": "self-hosted",
	} {
		if claims[name] != want {
			i.t.Errorf("claim %s is %v, want %v", name, claims[name], want)
		}
	}
	if _, ok := claims["job_id"].(string); !ok {
		i.t.Errorf("job_id is %T, want text", claims["job_id"])
	}
}

func TestJobStatesComeFromProcesses(t *testing.T) {
	i := startWithRunner(t)
	dir := t.TempDir()
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": `
stages: [one, two, three]
killed program: {stage: one, script: ["sh -c 'kill -9 $$'"], allow_failure: true}
tolerated: {stage: one, script: ["exit 7"], allow_failure: {exit_codes: [7]}}
not tolerated: {stage: one, script: ["exit 8"], allow_failure: {exit_codes: [7]}}
killed shell:
  stage: one
  script:
    - ps -o ppid= -p $PPID > ` + dir + `/outer
    - exec sleep 300
  after_script: ["echo after"]
later: {stage: two, script: ["true"]}
cleanup: {stage: three, when: always, script: ["true"]}
retried: {stage: one, script: ["test -e ` + dir + `/second || { touch ` + dir + `/second; exit 75; }"], retry: {max: 2, exit_codes: 75}}
`})
	pl := i.latest(77)
	running := map[string]bool{}
	i.follow(pl.ID, func(e event) bool {
		running[e.Name] = running[e.Name] || e.Status == "running"
		return e.Name == "killed shell" && e.Status == "running"
	})
	outer := i.waitFor(filepath.Join(dir, "outer"))
	pid, err := strconv.Atoi(strings.TrimSpace(outer))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	i.follow(pl.ID, nil)
	for name, want := range map[string]string{"killed program": "failed", "tolerated": "failed", "not tolerated": "failed", "killed shell": "failed", "later": "skipped", "cleanup": "success", "retried": "success"} {
		j := i.jobs(77, pl.ID)[name]
		if j.Status != want {
			t.Errorf("%s is %s (%s), want %s\n%s", name, j.Status, j.FailureReason, want, i.log(77, j.ID))
		}
	}
	s := i.Server
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, want := range map[string]int{"killed program": 137, "tolerated": 7, "not tolerated": 8, "killed shell": -1} {
		for _, j := range s.st.pipelineJobs(pl.ID) {
			if j.Definition.Name != name {
				continue
			}
			got := -1
			if j.ExitCode != nil {
				got = *j.ExitCode
			}
			if got != want {
				t.Errorf("%s: exit code %d, want %d", name, got, want)
			}
		}
	}
	if got := s.st.Pipelines[pl.ID].Status; got != "failed" {
		t.Errorf("pipeline is %s", got)
	}
}

// waitFor reads a file as soon as a job has written a line to it.
func (i *instance) waitFor(file string) string {
	i.t.Helper()
	tick := newTicker()
	defer tick.Stop()
	for range tick.C {
		if data, err := os.ReadFile(file); err == nil && strings.HasSuffix(string(data), "\n") {
			return string(data)
		}
	}
	return ""
}

func TestCancelEndsTheProcesses(t *testing.T) {
	i := startWithRunner(t)
	file := filepath.Join(t.TempDir(), "pid")
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "long: {script: ['echo $$ > " + file + "', 'sleep 300']}\nnext: {stage: deploy, script: ['true']}\n"})
	pl := i.latest(77)
	pid, _ := strconv.Atoi(strings.TrimSpace(i.waitFor(file)))
	if _, _, err := i.client.Pipelines.CancelPipelineBuild(77, pl.ID); err != nil {
		t.Fatal(err)
	}
	i.follow(pl.ID, nil)
	for name, j := range i.jobs(77, pl.ID) {
		if j.Status != "canceled" {
			t.Errorf("%s is %s", name, j.Status)
		}
	}
	if startTime(pid) != "" {
		t.Errorf("process %d is still there", pid)
	}
}

// What a job has put out of its process group ends with it all the same, as it would with a job's container.
func TestDetachedProcessesEndWithTheirJob(t *testing.T) {
	i := startWithRunner(t)
	file := filepath.Join(t.TempDir(), "pid")
	detach := "setsid bash -c 'echo $$ > " + file + "; exec sleep 300' >/dev/null 2>&1 &"
	wait := "until [ -s " + file + " ]; do sleep 0.05; done"
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "long:\n  script:\n    - |\n      " + detach + "\n      " + wait + "\n      [ $CI_PIPELINE_SOURCE = push ] || sleep 300\n"})
	gone := func(what string) {
		t.Helper()
		pid, _ := strconv.Atoi(strings.TrimSpace(i.waitFor(file)))
		if pid == 0 || startTime(pid) != "" {
			t.Errorf("%s: process %d is still there", what, pid)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	pl := i.latest(77)
	i.follow(pl.ID, nil)
	if j := i.jobs(77, pl.ID)["long"]; j.Status != "success" {
		t.Fatalf("%s\n%s", j.Status, i.log(77, j.ID))
	}
	gone("the job has ended")
	pl2, _, err := i.client.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main")})
	if err != nil {
		t.Fatal(err)
	}
	i.waitFor(file)
	if _, _, err := i.client.Pipelines.CancelPipelineBuild(77, pl2.ID); err != nil {
		t.Fatal(err)
	}
	i.follow(pl2.ID, nil)
	gone("the job was cancelled")
}

func TestIncludeWithInputs(t *testing.T) {
	i := startWithRunner(t)
	i.push("slipway/slipway", map[string]string{"ci-templates/deploy.yml": `
spec:
  inputs:
    environment: {options: [dev, stage]}
    stage: {default: test}
---
"deploy $[[ inputs.environment ]]":
  stage: $[[ inputs.stage ]]
  script: ["echo to $[[ inputs.environment ]]"]
`})
	config := `
spec:
  inputs:
    environment: {default: stage, options: [stage, prod]}
    count: {type: number, default: 1}
---
include:
  - {project: slipway/slipway, file: /ci-templates/deploy.yml, ref: main, inputs: {environment: dev}}
  - {project: nsflow/platform, file: private.yml}
show: {script: ["echo target $[[ inputs.environment ]] $[[ inputs.count ]]"]}
`
	i.push("nsflow/platform", map[string]string{"private.yml": "private: {script: ['true']}\n"})
	i.push("nsflow/environments", map[string]string{".gitlab-ci.yml": config})
	pl, _, err := i.client.Pipelines.CreatePipeline(43, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main"), Inputs: gitlab.PipelineInputsOption{
		"environment": gitlab.NewPipelineInputValue("prod"), "count": gitlab.NewPipelineInputValue(3)}})
	if err != nil {
		t.Fatal(err)
	}
	i.follow(pl.ID, nil)
	jobs := i.jobs(43, pl.ID)
	if jobs["deploy dev"] == nil || jobs["deploy dev"].Status != "success" || jobs["private"] == nil || !strings.Contains(i.log(43, jobs["show"].ID), "target prod 3") {
		t.Fatalf("jobs: %v\n%s", jobs, i.log(43, jobs["show"].ID))
	}
	for name, input := range map[string]gitlab.PipelineInputsOption{
		"not in the list of allowed options": {"environment": gitlab.NewPipelineInputValue("dev")},
		"not defined":                        {"nonsense": gitlab.NewPipelineInputValue("x")},
		"is not a number":                    {"count": gitlab.NewPipelineInputValue("many")},
	} {
		before := i.latest(43).ID
		_, resp, err := i.client.Pipelines.CreatePipeline(43, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main"), Inputs: input})
		if err == nil || resp.StatusCode != 400 || !strings.Contains(err.Error(), name) || i.latest(43).ID != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, resp, err := i.as(developerToken).Pipelines.CreatePipeline(43, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main")}); err == nil || resp.StatusCode != 400 || !strings.Contains(err.Error(), "sufficient permission") {
		t.Errorf("a developer made a pipeline on a protected branch: %v", err)
	}
	// An include's input outside its options fails a push's pipeline, with the reason.
	i.push("nsflow/catalog", map[string]string{".gitlab-ci.yml": "include: [{project: slipway/slipway, file: ci-templates/deploy.yml, inputs: {environment: moon}}]\n"})
	bad, _, err := i.client.Pipelines.GetPipeline(78, i.latest(78).ID)
	if err != nil || bad.Status != "failed" || !strings.Contains(bad.YamlErrors, "moon") {
		t.Errorf("%v %+v", err, bad)
	}
}

// A pipeline includes what its user may read, and no more: whether a project is hidden or is not there, it is not told.
func TestIncludesAreOfReadableProjects(t *testing.T) {
	i := startWithRunner(t)
	i.push("nsflow/platform", map[string]string{"private.yml": "private: {script: ['true']}\n"})
	level := func(n int64) { // of dora, in the project that is included
		i.mu.Lock()
		defer i.mu.Unlock()
		i.st.Projects[42].Members[7] = int(n)
	}
	config := "include: [{project: %s, file: private.yml}]\nown: {script: ['true']}\n"
	refuses := func(who, project string) {
		t.Helper()
		pl := must[*gitlab.Pipeline](t)(i.client.Pipelines.GetPipeline(77, i.latest(77).ID))
		want := "Project `" + project + "` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined."
		if pl.Status != "failed" || pl.YamlErrors != want {
			t.Errorf("%s: the pipeline is %s: %s", who, pl.Status, pl.YamlErrors)
		}
	}
	dir := i.commitFiles("nsflow/orders", map[string]string{".gitlab-ci.yml": fmt.Sprintf(config, "nsflow/platform")})
	as := i.url("nsflow/orders", "dora", developerToken)
	for n, who := range map[int64]string{0: "a stranger", guest: "a guest"} {
		level(n)
		mustGit(t, dir, "push", "--quiet", as, "HEAD:refs/heads/of-"+strings.ReplaceAll(who, " ", "-"))
		refuses(who, "nsflow/platform")
	}
	level(reporter)
	mustGit(t, dir, "push", "--quiet", as, "HEAD:refs/heads/of-a-reporter")
	if jobs := i.jobs(77, i.latest(77).ID); jobs["private"] == nil || jobs["own"] == nil {
		t.Errorf("a reporter's pipeline has the jobs %v", jobs)
	}
	i.add(dir, map[string]string{".gitlab-ci.yml": fmt.Sprintf(config, "nsflow/none")}, "another project")
	mustGit(t, dir, "push", "--quiet", as, "HEAD:refs/heads/of-nothing")
	refuses("a project that is not there", "nsflow/none")
}
