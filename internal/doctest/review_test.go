package doctest

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// reviewed pushes a service with review apps and opens a merge request for it.
func (w *world) reviewed(branch string) *gitlab.MergeRequest {
	w.t.Helper()
	str := gitlab.Ptr[string]
	if _, _, err := w.api.Commits.CreateCommit(service, &gitlab.CreateCommitOptions{Branch: &branch, StartBranch: str("main"), CommitMessage: str("change"),
		Actions: []*gitlab.CommitActionOptions{{Action: gitlab.Ptr(gitlab.FileCreate), FilePath: str(branch), Content: str("x")}}}); err != nil {
		w.t.Fatal(err)
	}
	mr, _, err := w.api.MergeRequests.CreateMergeRequest(service, &gitlab.CreateMergeRequestOptions{SourceBranch: &branch, TargetBranch: str("main"), Title: &branch})
	if err != nil {
		w.t.Fatal(err)
	}
	return mr
}

func (w *world) mergeRequestJobs(mr *gitlab.MergeRequest) (int64, map[string]*gitlab.Job) {
	w.t.Helper()
	list, _, err := w.api.MergeRequests.ListMergeRequestPipelines(service, mr.IID, nil)
	if err != nil || len(list) == 0 {
		w.t.Fatalf("merge request !%d has no pipeline: %v", mr.IID, err)
	}
	return list[0].ID, w.follow(service, list[0].ID)
}

func (w *world) environment(name string) *gitlab.Environment {
	w.t.Helper()
	list, _, err := w.api.Environments.ListEnvironments(service, &gitlab.ListEnvironmentsOptions{Name: &name})
	if err != nil || len(list) != 1 {
		w.t.Fatalf("environment %q: %v, %v", name, list, err)
	}
	return list[0]
}

const reviewedService = `stages: [deploy, release, promote]
include:
  - {project: slipway/slipway, ref: 1.0.0, file: ci-templates/microservice.yml, inputs: {review: review, auto-stop-in: 3 hours, diff: dev}}
`

// TestReviewApps: a merge request gets an app with an address and an end, and
// a comparison; the stop job runs when it is closed, and nothing else does.
func TestReviewApps(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".gitlab-ci.yml"), reviewedService)
	w.push(dir, "nsflow/orders", "")
	w.newest(service)
	mr := w.reviewed("change")
	pipeline, jobs := w.mergeRequestJobs(mr)
	if len(jobs) != 3 || jobs["stop-review"] == nil || jobs["stop-review"].Status != "manual" {
		t.Fatalf("the merge request has the jobs %v", jobs)
	}
	for name, want := range map[string][]string{
		"review": {"ran slipway-deploy apply\n", "with SLIPWAY_DEPLOY_ENVIRONMENT=review\n", "with SLIPWAY_DEPLOY_MR=1\n"},
		"diff":   {"ran slipway-deploy diff\n", "with SLIPWAY_DEPLOY_ENVIRONMENT=dev\n", "with SLIPWAY_DEPLOY_NOTE=true\n"},
	} {
		for _, text := range want {
			if log := w.log(service, jobs[name]); jobs[name].Status != "success" || !strings.Contains(log, text) {
				t.Errorf("%s is %s and lacks %q:\n%s", name, jobs[name].Status, text, log)
			}
		}
	}
	env := w.environment("review/mr-1")
	if env.State != "available" || env.ExternalURL != "https://orders-mr-1.example.com" || env.AutoStopAt == nil || time.Until(*env.AutoStopAt).Round(time.Hour) != 3*time.Hour {
		t.Errorf("the environment is %+v", env)
	}
	if _, _, err := w.api.MergeRequests.UpdateMergeRequest(service, mr.IID, &gitlab.UpdateMergeRequestOptions{StateEvent: gitlab.Ptr("close")}); err != nil {
		t.Fatal(err)
	}
	jobs = w.follow(service, pipeline)
	if log := w.log(service, jobs["stop-review"]); jobs["stop-review"].Status != "success" || !strings.Contains(log, "ran slipway-deploy stop\n") || !strings.Contains(log, "with SLIPWAY_DEPLOY_MR=1\n") {
		t.Errorf("after the end of the merge request, the stop job is %s:\n%s", jobs["stop-review"].Status, log)
	}
	if env := w.environment("review/mr-1"); env.State != "stopped" {
		t.Errorf("the environment is %s", env.State)
	}
}

// TestRestoredDeploymentFailed: where the program put the former state back,
// the record says failed, and the environment keeps its address.
func TestRestoredDeploymentFailed(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".gitlab-ci.yml"), reviewedService)
	w.push(dir, "nsflow/orders", "")
	w.newest(service)
	if env := w.environment("dev"); env.ExternalURL != "https://orders-mr-none.example.com" {
		t.Errorf("the environment has the address %q", env.ExternalURL)
	}
	mr := w.reviewed("restored") // the stand-in ends with 5 where a file has that name
	_, jobs := w.mergeRequestJobs(mr)
	if jobs["review"].Status != "failed" {
		t.Fatalf("review is %s:\n%s", jobs["review"].Status, w.log(service, jobs["review"]))
	}
	list, _, err := w.api.Deployments.ListProjectDeployments(service, &gitlab.ListProjectDeploymentsOptions{Environment: gitlab.Ptr("review/mr-1")})
	if err != nil || len(list) != 1 || list[0].Status != "failed" {
		t.Errorf("the deployments are %v, %v", list, err)
	}
}

// TestForksGetNothing: a fork's merge request, whose pipeline somebody starts
// in the parent, gets no job with an ID token.
func TestForksGetNothing(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".gitlab-ci.yml"), reviewedService+`test: {stage: deploy, rules: [{if: '$CI_PIPELINE_SOURCE == "merge_request_event"'}], script: ["true"]}
`)
	w.push(dir, "nsflow/orders", "")
	write(t, filepath.Join(dir, "evil"), "x")
	w.push(dir, "guest/orders", "")
	mr, _, err := w.api.MergeRequests.CreateMergeRequest(fork, &gitlab.CreateMergeRequestOptions{SourceBranch: gitlab.Ptr("main"), TargetBranch: gitlab.Ptr("main"),
		Title: gitlab.Ptr("evil"), TargetProjectID: gitlab.Ptr(int64(service))})
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := w.api.MergeRequests.CreateMergeRequestPipeline(service, mr.IID)
	if err != nil {
		t.Fatal(err)
	}
	if jobs := w.follow(service, p.ID); len(jobs) != 1 || jobs["test"] == nil {
		t.Errorf("the fork's merge request has the jobs %v", jobs)
	}
}
