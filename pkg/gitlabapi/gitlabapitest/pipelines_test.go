package gitlabapitest

import (
	"slices"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestPipelinesAreNamedRetriedAndFound(t *testing.T) {
	i := startWithRunner(t)
	out := t.TempDir() + "/once"
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "flaky: {script: ['echo tried >> " + out + "', '[ $(wc -l < " + out + ") -gt 1 ]']}\nfine: {script: ['true']}\n"})
	c, str := i.client, gitlab.Ptr[string]
	pl := must[*gitlab.Pipeline](t)(c.Pipelines.GetLatestPipeline(77, nil))
	i.follow(pl.ID, nil)
	before := i.jobs(77, pl.ID)
	if before["flaky"].Status != "failed" {
		t.Fatalf("%+v", before["flaky"])
	}
	_, resp, err := i.as(developerToken).Pipelines.RetryPipelineBuild(77, pl.ID)
	refused(t, "a developer retries on a protected branch", resp, err, 403, "403 Forbidden")
	_, resp, err = i.as(developerToken).Pipelines.CancelPipelineBuild(77, pl.ID)
	refused(t, "a developer cancels on a protected branch", resp, err, 403, "403 Forbidden")
	must[*gitlab.Pipeline](t)(c.Pipelines.RetryPipelineBuild(77, pl.ID))
	i.follow(pl.ID, nil)
	after := i.jobs(77, pl.ID)
	if after["flaky"].Status != "success" || after["fine"].ID != before["fine"].ID {
		t.Errorf("after the retry: %s, and %d was %d", after["flaky"].Status, after["fine"].ID, before["fine"].ID)
	}
	named := must[*gitlab.Pipeline](t)(c.Pipelines.UpdatePipelineMetadata(77, pl.ID, &gitlab.UpdatePipelineMetadataOptions{Name: str("orders 1.2.3")}))
	if named.Name != "orders 1.2.3" {
		t.Errorf("%+v", named)
	}
	_, resp, err = c.Pipelines.UpdatePipelineMetadata(77, pl.ID, &gitlab.UpdatePipelineMetadataOptions{Name: str(strings.Repeat("x", 256))})
	refused(t, "a name that is too long", resp, err, 400, "is too long")
	if all := must[[]*gitlab.Job](t)(c.Jobs.ListProjectJobs(77, &gitlab.ListJobsOptions{IncludeRetried: gitlab.Ptr(true)})); len(all) != 3 {
		t.Errorf("%d jobs", len(all))
	}
	_, resp, err = c.Pipelines.GetLatestPipeline(77, &gitlab.GetLatestPipelineOptions{Ref: str("nowhere")})
	refused(t, "the latest of nothing", resp, err, 403, "403 Forbidden")
	i.control("PUT", "limits", map[string]any{"pipelines_create": limit{Requests: 1, Seconds: 60}})
	create := func() (*gitlab.Pipeline, *gitlab.Response, error) {
		return c.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: str("main")})
	}
	i.follow(must[*gitlab.Pipeline](t)(create()).ID, nil)
	_, resp, err = create()
	refused(t, "a pipeline too many", resp, err, 429, "requested too many times")
}

func TestEnvironmentsStopBeforeTheyGo(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	c, str := i.as(developerToken), gitlab.Ptr[string]
	e := must[*gitlab.Environment](t)(c.Environments.CreateEnvironment(77, &gitlab.CreateEnvironmentOptions{Name: str("review/1")}))
	_, resp, err := c.Environments.CreateEnvironment(77, &gitlab.CreateEnvironmentOptions{Name: str("x"), Tier: str("lunar")})
	refused(t, "a tier that is none", resp, err, 400, "tier does not have a valid value")
	_, resp, err = c.Environments.CreateEnvironment(77, &gitlab.CreateEnvironmentOptions{Name: str("review/1")})
	refused(t, "a name again", resp, err, 400, "has already been taken")
	d := must[*gitlab.Deployment](t)(c.Deployments.CreateProjectDeployment(77, &gitlab.CreateProjectDeploymentOptions{Environment: str("review/1"), Ref: str("main"), SHA: str("main"), Tag: gitlab.Ptr(false), Status: gitlab.Ptr(gitlab.DeploymentStatusSuccess)}))
	resp, err = i.client.Deployments.DeleteProjectDeployment(77, d.ID)
	refused(t, "what is deployed now is deleted", resp, err, 400, "Deployment currently deployed to environment")
	_, resp, err = c.Deployments.UpdateProjectDeployment(77, d.ID, &gitlab.UpdateProjectDeploymentOptions{Status: gitlab.Ptr(gitlab.DeploymentStatusRunning)})
	refused(t, "what has ended runs again", resp, err, 400, "cannot transition")
	resp, err = c.Environments.DeleteEnvironment(77, e.ID)
	refused(t, "an environment goes before it was stopped", resp, err, 403, "403 Forbidden")
	if stopped := must[*gitlab.Environment](t)(c.Environments.StopEnvironment(77, e.ID, nil)); stopped.State != "stopped" {
		t.Errorf("%+v", stopped)
	}
	if _, err := c.Environments.DeleteEnvironment(77, e.ID); err != nil {
		t.Fatal(err)
	}
	_, resp, err = c.Deployments.GetProjectDeployment(77, d.ID)
	refused(t, "a deployment of an environment that is gone", resp, err, 404, "404")
}

// A person's token is the administrator's to make, and may no more than the person.
func TestTokensOfPeople(t *testing.T) {
	i := start(t)
	token := func(c *gitlab.Client, who int64) (*gitlab.PersonalAccessToken, *gitlab.Response, error) {
		return c.Users.CreatePersonalAccessToken(who, &gitlab.CreatePersonalAccessTokenOptions{Name: gitlab.Ptr("t"), Scopes: &[]string{"api"}})
	}
	_, resp, err := token(i.as(releaseToken), 7)
	refused(t, "a maintainer makes another's token", resp, err, 403, "403 Forbidden")
	_, resp, err = token(i.client, 4711)
	refused(t, "a token of nobody", resp, err, 404, "404")
	made := must[*gitlab.PersonalAccessToken](t)(token(i.client, 7))
	if u := must[*gitlab.User](t)(i.as(made.Token).Users.CurrentUser()); u.Username != "dora" {
		t.Errorf("%+v", u)
	}
	_, resp, err = i.as(made.Token).Projects.EditProject(77, &gitlab.EditProjectOptions{Description: gitlab.Ptr("x")})
	refused(t, "more than the person may", resp, err, 403, "403 Forbidden")
}

// What GitLab does not know of a request it passes over.
func TestUnknownParametersArePassedOver(t *testing.T) {
	i := start(t)
	for _, body := range []string{`{"description":"new","moon":"full"}`, `{"ci_pipeline_variables_minimum_override_role":"king","description":"newer"}`} {
		i.raw("PUT", "/api/v4/projects/77?phase=waxing", body, "PRIVATE-TOKEN", adminToken)
	}
	if p := must[*gitlab.Project](t)(i.client.Projects.GetProject(77, nil)); p.Description != "new" {
		t.Errorf("the description is %q: an unknown parameter matters, or a refused request was half taken", p.Description)
	}
	code, h, body := i.raw("PATCH", "/api/v4/projects/77/freeze_periods", "{}", "PRIVATE-TOKEN", adminToken)
	if code != 405 || h.Get("Allow") != "GET, POST" || !strings.Contains(body, `{"error":"405 Not Allowed"}`) {
		t.Errorf("another method: %d %q %s", code, h.Get("Allow"), body)
	}
	if code, _, body := i.raw("POST", "/api/v4/projects/77/freeze_periods", `{"freeze_start":`, "PRIVATE-TOKEN", adminToken); code != 400 || !strings.Contains(body, "Problems parsing JSON") {
		t.Errorf("half a body: %d %s", code, body)
	}
}

// The latest pipeline is of the commit that the ref is at now, and of no other one.
func TestLatestPipelineIsOfTheLatestCommit(t *testing.T) {
	i := startWithRunner(t)
	dir := i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "a: {script: ['true'], when: manual, allow_failure: false}\n"})
	c := i.client
	first := must[*gitlab.Pipeline](t)(c.Pipelines.GetLatestPipeline(77, nil))
	i.add(dir, map[string]string{"b": "b"}, "second")
	mustGit(t, dir, "push", "--quiet", "-o", "ci.skip", "origin", "HEAD")
	_, resp, err := c.Pipelines.GetLatestPipeline(77, nil)
	refused(t, "the latest of a commit that has none", resp, err, 403, "403 Forbidden")
	second := must[*gitlab.Pipeline](t)(c.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main")}))
	if latest := must[*gitlab.Pipeline](t)(c.Pipelines.GetLatestPipeline(77, nil)); latest.ID != second.ID || latest.SHA == first.SHA {
		t.Errorf("the latest pipeline is %d of %s, not %d", latest.ID, latest.SHA, second.ID)
	}
}

// Every documented parameter of the list is obeyed, and a value that it cannot have refused.
func TestPipelinesAreFilteredAndSorted(t *testing.T) {
	i := startWithRunner(t)
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "a: {script: ['true'], when: manual, allow_failure: false}\n"})
	c, str := i.client, gitlab.Ptr[string]
	old := must[*gitlab.Pipeline](t)(c.Pipelines.GetLatestPipeline(77, nil))
	must[*gitlab.Branch](t)(c.Branches.CreateBranch(77, &gitlab.CreateBranchOptions{Branch: str("other"), Ref: str("main")}))
	made := must[*gitlab.Pipeline](t)(c.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: str("main")}))
	must[*gitlab.Pipeline](t)(c.Pipelines.UpdatePipelineMetadata(77, made.ID, &gitlab.UpdatePipelineMetadataOptions{Name: str("orders 1.2.3")}))
	must[*gitlab.Pipeline](t)(c.Pipelines.CancelPipelineBuild(77, old.ID))
	all := must[[]*gitlab.PipelineInfo](t)(c.Pipelines.ListProjectPipelines(77, nil))
	for query, want := range map[string]func(*gitlab.PipelineInfo) bool{
		"scope=finished":                      func(pl *gitlab.PipelineInfo) bool { return pl.Status == "canceled" },
		"scope=running":                       func(pl *gitlab.PipelineInfo) bool { return false },
		"scope=tags":                          func(pl *gitlab.PipelineInfo) bool { return false },
		"scope=branches&ref=main":             func(pl *gitlab.PipelineInfo) bool { return pl.ID == made.ID },
		"name=orders+1.2.3":                   func(pl *gitlab.PipelineInfo) bool { return pl.ID == made.ID },
		"username=dora":                       func(pl *gitlab.PipelineInfo) bool { return false },
		"username=root":                       func(pl *gitlab.PipelineInfo) bool { return true },
		"updated_before=2001-01-01T00:00:00Z": func(pl *gitlab.PipelineInfo) bool { return false },
		"updated_after=2001-01-01T00:00:00Z":  func(pl *gitlab.PipelineInfo) bool { return true },
		"created_before=2001-01-01T00:00:00Z": func(pl *gitlab.PipelineInfo) bool { return false },
		"yaml_errors=true":                    func(pl *gitlab.PipelineInfo) bool { return false },
	} {
		var wanted, got []int64
		for _, pl := range all {
			if want(pl) {
				wanted = append(wanted, pl.ID)
			}
		}
		for one := range each(i.asked("GET", "/api/v4/projects/77/pipelines?"+query, "", query)) {
			got = append(got, number(mapOf(one), "id"))
		}
		if !slices.Equal(got, wanted) {
			t.Errorf("%s: %v, not %v", query, got, wanted)
		}
	}
	first := func(query string) int64 {
		for one := range each(i.asked("GET", "/api/v4/projects/77/pipelines?"+query, "", query)) {
			return number(mapOf(one), "id")
		}
		return 0
	}
	if got := first("order_by=updated_at"); got != old.ID {
		t.Errorf("the pipeline that changed last is %d, not %d", got, old.ID)
	}
	for _, query := range []string{"scope=all", "order_by=name", "sort=up", "updated_after=yesterday"} {
		if code, _, body := i.raw("GET", "/api/v4/projects/77/pipelines?"+query, "", "PRIVATE-TOKEN", adminToken); code != 400 {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
}

// A branch is merged where the default branch has all of it, and more.
func TestMergedBranches(t *testing.T) {
	i := start(t)
	dir := i.push("nsflow/orders", map[string]string{"README.md": "x\n"})
	c := i.client
	must[*gitlab.Branch](t)(c.Branches.CreateBranch(77, &gitlab.CreateBranchOptions{Branch: gitlab.Ptr("behind"), Ref: gitlab.Ptr("main")}))
	i.add(dir, map[string]string{"c": "c"}, "second")
	mustGit(t, dir, "push", "--quiet", "origin", "HEAD")
	must[*gitlab.Branch](t)(c.Branches.CreateBranch(77, &gitlab.CreateBranchOptions{Branch: gitlab.Ptr("same"), Ref: gitlab.Ptr("main")}))
	i.branchWith(c, 77, "ahead", "b", "two\n")
	for branch, want := range map[string]bool{"behind": true, "same": false, "ahead": false, "main": false} {
		if b := must[*gitlab.Branch](t)(c.Branches.GetBranch(77, branch)); b.Merged != want {
			t.Errorf("%s is merged: %v", branch, b.Merged)
		}
	}
}
