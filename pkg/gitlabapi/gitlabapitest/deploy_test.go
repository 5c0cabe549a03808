package gitlabapitest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func (i *instance) protectEnv(o gitlab.ProtectRepositoryEnvironmentsOptions) *gitlab.ProtectedEnvironment {
	i.t.Helper()
	return must[*gitlab.ProtectedEnvironment](i.t)(i.as(releaseToken).ProtectedEnvironments.ProtectRepositoryEnvironments(77, &o))
}

func roleOf(level gitlab.AccessLevelValue) *[]*gitlab.EnvironmentAccessOptions {
	return &[]*gitlab.EnvironmentAccessOptions{{AccessLevel: &level}}
}

func TestProtectedEnvironments(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	rita, dora, str := i.as(releaseToken), i.as(developerToken), gitlab.Ptr[string]
	for what, one := range map[string]struct {
		options gitlab.ProtectRepositoryEnvironmentsOptions
		code    int
		text    string
	}{
		"a protection that lets nobody": {gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod"), DeployAccessLevels: &[]*gitlab.EnvironmentAccessOptions{}}, 422, "can't be blank"},
		"no word of who may":            {gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod")}, 400, "deploy_access_levels is missing"},
		"a role that cannot deploy":     {gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod"), DeployAccessLevels: roleOf(gitlab.ReporterPermissions)}, 400, "access_level does not have a valid value"},
		"a user who is none": {gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod"), DeployAccessLevels: &[]*gitlab.EnvironmentAccessOptions{{UserID: gitlab.Ptr(int64(4711))}}},
			422, "not a member"},
	} {
		_, resp, err := rita.ProtectedEnvironments.ProtectRepositoryEnvironments(77, &one.options)
		refused(t, what, resp, err, one.code, one.text)
	}
	made := i.protectEnv(gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod"), DeployAccessLevels: roleOf(gitlab.MaintainerPermissions)})
	_, resp, err := rita.ProtectedEnvironments.ProtectRepositoryEnvironments(77, &gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod"), DeployAccessLevels: roleOf(gitlab.MaintainerPermissions)})
	refused(t, "a protection again", resp, err, 409, "already exists")
	deploy := func(c *gitlab.Client) (*gitlab.Deployment, *gitlab.Response, error) {
		return c.Deployments.CreateProjectDeployment(77, &gitlab.CreateProjectDeploymentOptions{Environment: str("prod"), Ref: str("main"), SHA: str("main"), Tag: gitlab.Ptr(false), Status: gitlab.Ptr(gitlab.DeploymentStatusRunning)})
	}
	_, resp, err = deploy(dora)
	refused(t, "a developer records a deployment", resp, err, 403, "403 Forbidden")
	d := must[*gitlab.Deployment](t)(deploy(rita))
	resp, err = rita.Deployments.DeleteProjectDeployment(77, d.ID)
	refused(t, "a running deployment is deleted", resp, err, 400, "Cannot destroy running deployment")
	level := made.DeployAccessLevels[0].ID
	next := must[*gitlab.ProtectedEnvironment](t)(rita.ProtectedEnvironments.UpdateProtectedEnvironments(77, "prod", &gitlab.UpdateProtectedEnvironmentsOptions{
		DeployAccessLevels: &[]*gitlab.UpdateEnvironmentAccessOptions{{ID: &level, Destroy: gitlab.Ptr(true)}, {UserID: gitlab.Ptr(int64(7))}}}))
	if len(next.DeployAccessLevels) != 1 || next.DeployAccessLevels[0].UserID != 7 {
		t.Errorf("%+v", next.DeployAccessLevels)
	}
	must[*gitlab.Deployment](t)(deploy(dora))
	_, resp, err = deploy(rita)
	refused(t, "who is named no longer", resp, err, 403, "403 Forbidden")
}

// A job of a protected environment fails for who may not deploy, and waits for approvals; after them it is started
// by hand, as GitLab does not start it.
func TestApprovalsBlockAJob(t *testing.T) {
	i := startWithRunner(t)
	out := filepath.Join(t.TempDir(), "out")
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "deploy: {environment: prod, rules: [{if: '$CI_PIPELINE_SOURCE == \"api\"'}], script: ['echo ran >> " + out + "']}\nother: {environment: dev, rules: [{if: '$CI_PIPELINE_SOURCE == \"api\"'}], script: ['true']}\n"})
	str := gitlab.Ptr[string]
	must[*gitlab.ProtectedBranch](t)(i.client.ProtectedBranches.UpdateProtectedBranch(77, "main", &gitlab.UpdateProtectedBranchOptions{AllowedToPush: &[]*gitlab.BranchPermissionOptions{{UserID: gitlab.Ptr(int64(7))}}}))
	i.protectEnv(gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod"), DeployAccessLevels: roleOf(gitlab.MaintainerPermissions),
		ApprovalRules: &[]*gitlab.EnvironmentApprovalRuleOptions{{AccessLevel: gitlab.Ptr(gitlab.MaintainerPermissions), RequiredApprovalCount: gitlab.Ptr(int64(2))}}})
	run := func(token string) (*gitlab.Pipeline, map[string]*gitlab.Job) {
		t.Helper()
		pl := must[*gitlab.Pipeline](t)(i.as(token).Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: str("main")}))
		i.follow(pl.ID, nil)
		return pl, i.jobs(77, pl.ID)
	}
	if _, jobs := run(developerToken); jobs["deploy"].Status != "failed" || jobs["deploy"].FailureReason != "protected_environment_failure" || jobs["other"].Status != "success" {
		t.Errorf("a developer's: %s %s, %s", jobs["deploy"].Status, jobs["deploy"].FailureReason, jobs["other"].Status)
	}
	pl, jobs := run(releaseToken)
	blocked := func() *gitlab.Deployment {
		t.Helper()
		list := must[[]*gitlab.Deployment](t)(i.client.Deployments.ListProjectDeployments(77, &gitlab.ListProjectDeploymentsOptions{Status: str("blocked")}))
		if len(list) != 1 {
			t.Fatalf("%d blocked deployments", len(list))
		}
		return list[0]
	}
	pending := func(deployment int64) int { // the client does not read it
		t.Helper()
		var body struct {
			Pending   int               `json:"pending_approval_count"`
			Approvals []json.RawMessage `json:"approvals"`
		}
		if _, _, said := i.raw("GET", "/api/v4/projects/77/deployments/"+id(deployment), "", "PRIVATE-TOKEN", developerToken); json.Unmarshal([]byte(said), &body) != nil || body.Approvals == nil {
			t.Fatal(said)
		}
		return body.Pending
	}
	d := blocked()
	if jobs["deploy"].Status != "manual" || pending(d.ID) != 2 {
		t.Errorf("%s, %+v", jobs["deploy"].Status, d)
	}
	play := func() (*gitlab.Response, error) {
		_, resp, err := i.client.Jobs.PlayJob(77, jobs["deploy"].ID, nil)
		return resp, err
	}
	resp, err := play()
	refused(t, "a job is played before its approvals", resp, err, 400, "Unplayable Job")
	say := func(token string, status gitlab.DeploymentApprovalStatus) (*gitlab.Response, error) {
		return i.as(token).Deployments.ApproveOrRejectProjectDeployment(77, d.ID, &gitlab.ApproveOrRejectProjectDeploymentOptions{Status: &status})
	}
	resp, err = say(releaseToken, gitlab.DeploymentApprovalStatusApproved)
	refused(t, "who started it approves", resp, err, 400, "cannot approve your own deployment")
	resp, err = say(developerToken, gitlab.DeploymentApprovalStatusApproved)
	refused(t, "a developer approves", resp, err, 400, "do not have permission")
	resp, err = say(adminToken, "maybe")
	refused(t, "a word that is none", resp, err, 400, "status does not have a valid value")
	made := must[*gitlab.ProjectAccessToken](t)(i.client.ProjectAccessTokens.CreateProjectAccessToken(77, &gitlab.CreateProjectAccessTokenOptions{Name: str("second"), Scopes: &[]string{"api"}, AccessLevel: gitlab.Ptr(gitlab.MaintainerPermissions)}))
	for _, token := range []string{adminToken, adminToken, made.Token} { // the same person twice is one
		if _, err := say(token, gitlab.DeploymentApprovalStatusApproved); err != nil {
			t.Fatal(err)
		}
	}
	got := must[*gitlab.Deployment](t)(i.client.Deployments.GetProjectDeployment(77, d.ID))
	if got.Status != "created" || pending(d.ID) != 0 || i.jobs(77, pl.ID)["deploy"].Status != "manual" {
		t.Errorf("after the approvals: %+v", got)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the job ran by itself")
	}
	if _, err := play(); err != nil {
		t.Fatal(err)
	}
	i.follow(pl.ID, nil)
	if got := i.jobs(77, pl.ID)["deploy"]; got.Status != "success" {
		t.Errorf("%+v", got)
	}
	resp, err = say(adminToken, gitlab.DeploymentApprovalStatusApproved)
	refused(t, "an approval of what is done", resp, err, 400, "not waiting for approvals")

	pl, _ = run(releaseToken)
	d = blocked()
	if _, err := say(adminToken, gitlab.DeploymentApprovalStatusRejected); err != nil {
		t.Fatal(err)
	}
	if got := i.jobs(77, pl.ID)["deploy"]; got.Status != "failed" || got.FailureReason != "deployment_rejected" {
		t.Errorf("after a rejection: %s %s", got.Status, got.FailureReason)
	}
}

// Who of a resource group comes next is its process mode's to say.
func TestProcessModes(t *testing.T) {
	i := startWithRunner(t)
	dir := t.TempDir()
	gate, out := filepath.Join(dir, "gate"), filepath.Join(dir, "out")
	mustRun(t, "mkfifo", gate)
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "job: {resource_group: prod, rules: [{if: '$CI_PIPELINE_SOURCE == \"api\"'}], script: ['echo began >> " + out + "-$CI_PIPELINE_ID', 'read line < " + gate + "']}\n"})
	_, resp, err := i.client.ResourceGroup.GetASpecificResourceGroup(77, "prod")
	refused(t, "a group before its first job", resp, err, 404, "404")
	run := func() int64 {
		return must[*gitlab.Pipeline](t)(i.client.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main")})).ID
	}
	began := func(pipeline int64, waiting ...int64) {
		t.Helper()
		i.waitFor(out + "-" + id(pipeline))
		for _, other := range waiting {
			if _, err := os.Stat(out + "-" + id(other)); err == nil {
				t.Errorf("%d began with %d", other, pipeline)
			}
		}
	}
	next := func() { mustRun(t, "sh", "-c", "echo go > "+gate) }
	edit := func(mode gitlab.ResourceGroupProcessMode) (*gitlab.ResourceGroup, *gitlab.Response, error) {
		return i.as(releaseToken).ResourceGroup.EditAnExistingResourceGroup(77, "prod", &gitlab.EditAnExistingResourceGroupOptions{ProcessMode: &mode})
	}
	first := run()
	began(first)
	if g := must[*gitlab.ResourceGroup](t)(i.client.ResourceGroup.GetASpecificResourceGroup(77, "prod")); g.ProcessMode != "unordered" {
		t.Errorf("%+v", g)
	}
	_, resp, err = edit("fastest_first")
	refused(t, "a mode that is none", resp, err, 400, "process_mode does not have a valid value")
	_, resp, err = i.as(developerToken).ResourceGroup.EditAnExistingResourceGroup(77, "prod", &gitlab.EditAnExistingResourceGroupOptions{})
	refused(t, "a developer changes the mode", resp, err, 403, "403 Forbidden")
	second, third := run(), run()
	must[*gitlab.ResourceGroup](t)(edit(gitlab.NewestFirst))
	upcoming := must[[]*gitlab.Job](t)(i.client.ResourceGroup.ListUpcomingJobsForASpecificResourceGroup(77, "prod"))
	if len(upcoming) != 2 || upcoming[0].Pipeline.ID != third || upcoming[0].Status != "waiting_for_resource" {
		t.Errorf("%+v", upcoming)
	}
	next()
	began(third, second)
	must[*gitlab.ResourceGroup](t)(edit(gitlab.OldestFirst))
	fourth := run()
	next()
	began(second, fourth)
	next()
	began(fourth)
	next()
	i.follow(fourth, nil)
}
