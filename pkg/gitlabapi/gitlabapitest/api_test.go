package gitlabapitest

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestRepositoryCalls(t *testing.T) {
	i := start(t)
	i.push("nsflow/environments", map[string]string{"a/one.yaml": "one\n", "two.yaml": "two\n"})
	c := i.client
	content, _, err := c.RepositoryFiles.GetRawFile(43, "a/one.yaml", &gitlab.GetRawFileOptions{Ref: gitlab.Ptr("main")})
	if err != nil || string(content) != "one\n" {
		t.Fatalf("%q, %v", content, err)
	}
	tree, _, err := c.Repositories.ListTree("nsflow/environments", &gitlab.ListTreeOptions{Recursive: gitlab.Ptr(true)})
	if err != nil || len(tree) != 3 || tree[1].Path != "a/one.yaml" || tree[1].Type != "blob" {
		t.Fatalf("%v, %v", tree, err)
	}
	branches, _, err := c.Branches.ListBranches(43, nil)
	if err != nil || len(branches) != 1 || !branches[0].Protected || !branches[0].Default {
		t.Fatalf("%v, %v", branches, err)
	}
	first := branches[0].Commit.ID
	made, _, err := c.Commits.CreateCommit(43, &gitlab.CreateCommitOptions{Branch: gitlab.Ptr("main"), CommitMessage: gitlab.Ptr("desired state"), Actions: []*gitlab.CommitActionOptions{
		{Action: gitlab.Ptr(gitlab.FileUpdate), FilePath: gitlab.Ptr("a/one.yaml"), Content: gitlab.Ptr("uno\n"), LastCommitID: gitlab.Ptr(first)},
		{Action: gitlab.Ptr(gitlab.FileCreate), FilePath: gitlab.Ptr("three.yaml"), Content: gitlab.Ptr("dHJlcwo="), Encoding: gitlab.Ptr("base64")},
		{Action: gitlab.Ptr(gitlab.FileDelete), FilePath: gitlab.Ptr("two.yaml")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := c.Commits.GetCommit(43, "main", nil); err != nil || got.ID != made.ID || got.ParentIDs[0] != first || got.Title != "desired state" {
		t.Errorf("%+v, %v", got, err)
	}
	dir := t.TempDir()
	mustGit(t, dir, "clone", "--quiet", i.url("nsflow/environments", "oauth2", releaseToken), "copy")
	if files := mustGit(t, dir, "-C", "copy", "ls-files"); files != "a/one.yaml\nthree.yaml" {
		t.Errorf("files: %q", files)
	}
	for name, action := range map[string]*gitlab.CommitActionOptions{
		"already exists":  {Action: gitlab.Ptr(gitlab.FileCreate), FilePath: gitlab.Ptr("three.yaml"), Content: gitlab.Ptr("x")},
		"doesn't exist":   {Action: gitlab.Ptr(gitlab.FileUpdate), FilePath: gitlab.Ptr("none"), Content: gitlab.Ptr("x")},
		"has changed":     {Action: gitlab.Ptr(gitlab.FileUpdate), FilePath: gitlab.Ptr("a/one.yaml"), Content: gitlab.Ptr("x"), LastCommitID: gitlab.Ptr(first)},
		"valid file path": {Action: gitlab.Ptr(gitlab.FileCreate), FilePath: gitlab.Ptr("../x"), Content: gitlab.Ptr("x")},
	} {
		_, resp, err := c.Commits.CreateCommit(43, &gitlab.CreateCommitOptions{Branch: gitlab.Ptr("main"), CommitMessage: gitlab.Ptr("m"), Actions: []*gitlab.CommitActionOptions{action}})
		if err == nil || resp.StatusCode != 400 || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, resp, err := i.as(developerToken).Commits.CreateCommit(43, &gitlab.CreateCommitOptions{Branch: gitlab.Ptr("main"), CommitMessage: gitlab.Ptr("m")}); err == nil || resp.StatusCode != 403 {
		t.Errorf("a developer wrote to a protected branch: %v", err)
	}
}

func TestGitAccess(t *testing.T) {
	i := start(t)
	dir := i.push("nsflow/orders", map[string]string{"README.md": "x"})
	i.push("slipway/slipway", map[string]string{"README.md": "x"})
	for _, c := range []struct {
		name, url string
		want      string
	}{
		{"anyone reads a public project", i.url("slipway/slipway", "", ""), ""},
		{"no one reads a private project", i.url("nsflow/orders", "", ""), "could not read Username"},
		{"a wrong token is refused", i.url("nsflow/orders", "oauth2", "wrong"), "Authentication failed"},
		{"a token is no job token", i.url("nsflow/orders", "gitlab-ci-token", adminToken), "Authentication failed"},
		{"a person reads", i.url("nsflow/orders", "anything", developerToken), ""},
	} {
		out, err := tryGit(t, dir, "ls-remote", c.url)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(out, c.want)) {
			t.Errorf("%s: %v %s", c.name, err, out)
		}
	}
	i.add(dir, map[string]string{"b": "1"}, "second")
	mustGit(t, dir, "remote", "set-url", "origin", i.url("nsflow/orders", "oauth2", developerToken))
	if out, err := tryGit(t, dir, "push", "origin", "HEAD:main"); err == nil || !strings.Contains(out, "not allowed to push code to protected branches") {
		t.Errorf("a developer pushed to main: %s", out)
	}
	mustGit(t, dir, "push", "origin", "HEAD:refs/heads/feature")
	mustGit(t, dir, "remote", "set-url", "origin", i.url("nsflow/orders", "oauth2", adminToken))
	mustGit(t, dir, "commit", "--quiet", "--amend", "--allow-empty", "-m", "other")
	mustGit(t, dir, "push", "origin", "HEAD:main")
	mustGit(t, dir, "commit", "--quiet", "--amend", "--allow-empty", "-m", "rewritten")
	if out, err := tryGit(t, dir, "push", "--force", "origin", "HEAD:main"); err == nil || !strings.Contains(out, "not allowed to force push") {
		t.Errorf("main was rewritten: %s", out)
	}
	// More than git sends in one piece.
	i.add(dir, map[string]string{"big": strings.Repeat(randomHex(64)+"\n", 40000)}, "big")
	mustGit(t, dir, "push", "origin", "HEAD:refs/heads/big")
	mustGit(t, t.TempDir(), "clone", "--quiet", "--depth=1", "--filter=tree:0", i.url("nsflow/orders", "oauth2", adminToken), "copy")
}

func TestSettingsPackagesEnvironments(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	c := i.client
	p, _, err := c.Projects.EditProject("nsflow/catalog", &gitlab.EditProjectOptions{CIIdTokenSubClaimComponents: &[]string{"project_id", "ref"}, CIPushRepositoryForJobTokenAllowed: gitlab.Ptr(true)})
	if err != nil || fmt.Sprint(p.CIIdTokenSubClaimComponents) != "[project_id ref]" || !p.CIPushRepositoryForJobTokenAllowed {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, resp, err := c.Projects.EditProject(78, &gitlab.EditProjectOptions{CIIdTokenSubClaimComponents: &[]string{"moon"}}); err == nil || resp.StatusCode != 400 {
		t.Errorf("a claim that does not exist was taken: %v", err)
	}
	if _, _, err := c.JobTokenScope.AddProjectToJobScopeAllowList(78, &gitlab.JobTokenInboundAllowOptions{TargetProjectID: gitlab.Ptr(int64(77))}); err != nil {
		t.Fatal(err)
	}
	allowed, _, err := c.JobTokenScope.GetProjectJobTokenInboundAllowList(78, nil)
	if err != nil || len(allowed) != 2 || allowed[1].ID != 77 {
		t.Errorf("%v, %v", allowed, err)
	}
	if scope, _, err := c.JobTokenScope.GetProjectJobTokenAccessSettings(78); err != nil || !scope.InboundEnabled {
		t.Errorf("%v, %v", scope, err)
	}

	for n := range 3 {
		if _, _, err := c.GenericPackages.PublishPackageFile(42, "landscape", fmt.Sprint("v", n%2), "snapshot.json", strings.NewReader(fmt.Sprint("content ", n)), nil); err != nil {
			t.Fatal(err)
		}
	}
	data, _, err := c.GenericPackages.DownloadPackageFile(42, "landscape", "v0", "snapshot.json")
	if err != nil || string(data) != "content 2" {
		t.Errorf("%q, %v", data, err)
	}
	if _, resp, err := c.GenericPackages.DownloadPackageFile(42, "landscape", "v9", "snapshot.json"); err == nil || resp.StatusCode != 404 {
		t.Errorf("a package that is not there: %v", err)
	}
	packages, resp, err := c.Packages.ListProjectPackages(42, &gitlab.ListProjectPackagesOptions{ListOptions: gitlab.ListOptions{PerPage: 1}})
	if err != nil || len(packages) != 1 || resp.TotalItems != 2 || resp.NextPage != 2 {
		t.Errorf("%v, %+v, %v", packages, resp, err)
	}

	e, _, err := c.Environments.CreateEnvironment(77, &gitlab.CreateEnvironmentOptions{Name: gitlab.Ptr("stage"), Tier: gitlab.Ptr("staging")})
	if err != nil || e.Tier != "staging" {
		t.Fatalf("%+v, %v", e, err)
	}
	create := func(environment, status string) *gitlab.Deployment {
		t.Helper()
		d, _, err := c.Deployments.CreateProjectDeployment(77, &gitlab.CreateProjectDeploymentOptions{Environment: &environment, Ref: gitlab.Ptr("main"), SHA: gitlab.Ptr("main"), Tag: gitlab.Ptr(false), Status: gitlab.Ptr(gitlab.DeploymentStatusValue(status))})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := create("stage", "running")
	create("prod", "success")
	if d, _, err = c.Deployments.UpdateProjectDeployment(77, d.ID, &gitlab.UpdateProjectDeploymentOptions{Status: gitlab.Ptr(gitlab.DeploymentStatusSuccess)}); err != nil || d.Status != "success" {
		t.Errorf("%+v, %v", d, err)
	}
	if got, _, err := c.Environments.GetEnvironment(77, e.ID); err != nil || got.LastDeployment == nil || got.LastDeployment.ID != d.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if _, resp, err := c.Deployments.CreateProjectDeployment(77, &gitlab.CreateProjectDeploymentOptions{Environment: gitlab.Ptr("x"), Status: gitlab.Ptr(gitlab.DeploymentStatusSuccess)}); err == nil || resp.StatusCode != 400 || !strings.Contains(err.Error(), "sha is missing, ref is missing, tag is missing") {
		t.Errorf("%v", err)
	}
	if u, _, err := i.as(releaseToken).Users.CurrentUser(); err != nil || u.Username != "rita" {
		t.Errorf("%v, %v", u, err)
	}
}

func TestAnswersToWrongRequests(t *testing.T) {
	i := start(t)
	for _, c := range []struct {
		name, method, path, header, token string
		code                              int
		body                              string
	}{
		{"no such route", "GET", "/nonsense", "PRIVATE-TOKEN", adminToken, 404, `{"error":"404 Not Found"}`},
		{"no such project", "GET", "/projects/999", "PRIVATE-TOKEN", adminToken, 404, `{"message":"404 Project Not Found"}`},
		{"wrong token", "GET", "/projects/10", "PRIVATE-TOKEN", "wrong", 401, `{"message":"401 Unauthorized"}`},
		{"wrong job token", "GET", "/job", "JOB-TOKEN", "wrong", 401, `{"message":"401 Unauthorized"}`},
		{"a private project does not exist for strangers", "GET", "/projects/nsflow%2Forders", "X", "", 404, `{"message":"404 Project Not Found"}`},
		{"a public one does", "GET", "/projects/slipway%2Fslipway", "X", "", 200, `"path_with_namespace":"slipway/slipway"`},
		{"strangers make no pipelines", "POST", "/projects/10/pipeline", "X", "", 401, `{"message":"401 Unauthorized"}`},
		{"a trigger needs a token", "POST", "/projects/77/trigger/pipeline", "X", "", 400, `token is missing`},
		{"a bearer token is taken", "GET", "/version", "Authorization", "Bearer " + adminToken, 200, `"version":"` + version},
		{"numbers are numbers", "GET", "/projects/77/pipelines/x", "PRIVATE-TOKEN", adminToken, 400, `invalid`},
		{"another method", "DELETE", "/projects/77", "PRIVATE-TOKEN", adminToken, 405, `405`},
		{"a developer changes no settings", "PUT", "/projects/77", "PRIVATE-TOKEN", developerToken, 403, `{"message":"403 Forbidden"}`},
	} {
		req, _ := http.NewRequest(c.method, i.endpoint+"/api/v4"+c.path, nil)
		req.Header.Set(c.header, c.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.code || !strings.Contains(body.String(), c.body) {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, body.String())
		}
	}
}

// A job token may do what GitLab lets it do, while its job runs, in projects that allow it.
func TestJobTokenLimits(t *testing.T) {
	i := startWithRunner(t)
	dir := t.TempDir()
	gate := filepath.Join(dir, "gate")
	mustRun(t, "mkfifo", gate)
	i.push("nsflow/environments", map[string]string{".gitlab-ci.yml": "promoted: {script: ['echo $CI_PIPELINE_SOURCE by $GITLAB_USER_LOGIN; git ls-files > /dev/null']}\n"})
	i.push("nsflow/catalog", map[string]string{"README.md": "x"})
	work := i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "hold: {script: ['echo $CI_JOB_TOKEN > " + dir + "/token', 'read line < " + gate + "']}\n"})
	pl := i.latest(77)
	token := strings.TrimSpace(i.waitFor(filepath.Join(dir, "token")))
	c, err := gitlab.NewJobClient(token, gitlab.WithBaseURL(i.endpoint), gitlab.WithoutRetries())
	if err != nil {
		t.Fatal(err)
	}
	if j, _, err := c.Jobs.GetJobTokensJob(nil); err != nil || j.Name != "hold" || j.Pipeline.ID != pl.ID {
		t.Errorf("own job: %+v, %v", j, err)
	}
	triggered, _, err := c.PipelineTriggers.RunPipelineTrigger(43, &gitlab.RunPipelineTriggerOptions{Token: &token, Ref: gitlab.Ptr("main")})
	if err != nil {
		t.Fatal(err)
	}
	i.follow(triggered.ID, nil)
	for _, j := range i.jobs(43, triggered.ID) {
		if log := i.log(43, j.ID); !strings.Contains(log, "pipeline by root") {
			t.Errorf("triggered job:\n%s", log)
		}
	}
	sha := mustGit(t, work, "rev-parse", "HEAD")
	deployment := &gitlab.CreateProjectDeploymentOptions{Environment: gitlab.Ptr("dev"), Ref: gitlab.Ptr("main"), SHA: &sha, Tag: gitlab.Ptr(false), Status: gitlab.Ptr(gitlab.DeploymentStatusSuccess)}
	calls := map[string]struct {
		code int
		call func() (*gitlab.Response, error)
	}{
		"write packages where allowed": {201, func() (*gitlab.Response, error) {
			_, r, err := c.GenericPackages.PublishPackageFile(42, "p", "v", "f", strings.NewReader("x"), nil)
			return r, err
		}},
		"record deployments of its own": {201, func() (*gitlab.Response, error) {
			_, r, err := c.Deployments.CreateProjectDeployment(77, deployment)
			return r, err
		}},
		"enter no project that does not allow it": {403, func() (*gitlab.Response, error) {
			_, r, err := c.Deployments.ListProjectDeployments(78, nil)
			return r, err
		}},
		"trigger none either": {404, func() (*gitlab.Response, error) {
			_, r, err := c.PipelineTriggers.RunPipelineTrigger(78, &gitlab.RunPipelineTriggerOptions{Token: &token, Ref: gitlab.Ptr("main")})
			return r, err
		}},
		"read no other jobs": {404, func() (*gitlab.Response, error) {
			_, r, err := c.Jobs.ListPipelineJobs(77, pl.ID, nil)
			return r, err
		}},
		"commit nothing": {401, func() (*gitlab.Response, error) {
			_, r, err := c.Commits.CreateCommit(77, &gitlab.CreateCommitOptions{Branch: gitlab.Ptr("main"), CommitMessage: gitlab.Ptr("x")})
			return r, err
		}},
		"play no jobs": {401, func() (*gitlab.Response, error) { _, r, err := c.Jobs.PlayJob(77, 1, nil); return r, err }},
		"make no pipelines": {401, func() (*gitlab.Response, error) {
			_, r, err := c.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main")})
			return r, err
		}},
	}
	for name, one := range calls {
		r, err := one.call()
		if r == nil || r.StatusCode != one.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out, err := tryGit(t, work, "ls-remote", i.url("nsflow/environments", "gitlab-ci-token", token)); err != nil {
		t.Errorf("read of an allowing project: %s", out)
	}
	if out, err := tryGit(t, work, "ls-remote", i.url("nsflow/catalog", "gitlab-ci-token", token)); err == nil {
		t.Errorf("read of another project: %s", out)
	}
	i.add(work, map[string]string{"x": "1"}, "by the job")
	push := func() (string, error) {
		return tryGit(t, work, "push", i.url("nsflow/orders", "gitlab-ci-token", token), "HEAD:main")
	}
	if out, err := push(); err == nil {
		t.Errorf("push while the project does not allow it: %s", out)
	}
	if _, _, err := i.client.Projects.EditProject(77, &gitlab.EditProjectOptions{CIPushRepositoryForJobTokenAllowed: gitlab.Ptr(true)}); err != nil {
		t.Fatal(err)
	}
	if out, err := push(); err != nil {
		t.Errorf("push: %s", out)
	}
	if i.latest(77).ID != pl.ID {
		t.Error("a job's push started a pipeline")
	}
	mustRun(t, "sh", "-c", "echo go > "+gate)
	i.follow(pl.ID, nil)
	if _, r, err := c.Jobs.GetJobTokensJob(nil); err == nil || r.StatusCode != 401 {
		t.Errorf("the token outlives its job: %v", err)
	}
}
