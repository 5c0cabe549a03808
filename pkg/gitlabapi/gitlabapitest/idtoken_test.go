package gitlabapitest

import (
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestSubjectsAreChecked(t *testing.T) {
	i := start(t)
	for what, one := range map[string]struct {
		components []string
		text       string
	}{
		"a claim that is none":     {[]string{"project_id", "moon"}, "not supported: moon"},
		"a subject of no project":  {[]string{"ref", "project_id"}, "must begin with"},
		"a claim twice":            {[]string{"project_id", "ref", "ref"}, "has a claim twice: ref"},
		"a claim that may be none": {[]string{"project_id", "groups_direct"}, "not supported"},
	} {
		_, resp, err := i.client.Projects.EditProject(78, &gitlab.EditProjectOptions{CIIdTokenSubClaimComponents: &one.components})
		refused(t, what, resp, err, 400, one.text)
	}
	if p := must[*gitlab.Project](t)(i.client.Projects.GetProject(78, nil)); strings.Join(p.CIIdTokenSubClaimComponents, " ") != "project_path ref_type ref" {
		t.Errorf("after refusals: %v", p.CIIdTokenSubClaimComponents)
	}
}

// A subject may tell a protected environment from others; a job without an environment then gets no token.
func TestSubjectOfAnEnvironment(t *testing.T) {
	i := startWithRunner(t)
	out := filepath.Join(t.TempDir(), "out")
	must[*gitlab.Project](t)(i.client.Projects.EditProject(77, &gitlab.EditProjectOptions{CIIdTokenSubClaimComponents: &[]string{"project_id", "environment_protected", "deployment_tier", "ref_protected"}}))
	i.protectEnv(gitlab.ProtectRepositoryEnvironmentsOptions{Name: gitlab.Ptr("prod"), DeployAccessLevels: roleOf(gitlab.MaintainerPermissions)})
	job := func(name, environment string) string {
		return name + ": {" + environment + "id_tokens: {T: {aud: sts.amazonaws.com}}, script: ['echo $T > " + out + "-" + name + "']}\n"
	}
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": job("prod", "environment: prod, ") + job("dev", "environment: dev, ") + job("none", "")})
	pl := i.latest(77)
	i.follow(pl.ID, nil)
	for name, want := range map[string]string{
		"prod": "project_id:77:environment_protected:true:deployment_tier:production:ref_protected:true",
		"dev":  "project_id:77:environment_protected:false:deployment_tier:development:ref_protected:true",
	} {
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(i.waitFor(out+"-"+name), ".")[1])
		var claims map[string]any
		if err != nil || json.Unmarshal(payload, &claims) != nil || claims["sub"] != want || claims["aud"] != "sts.amazonaws.com" {
			t.Errorf("%s: %s, %v", name, payload, err)
		}
	}
	if j := i.jobs(77, pl.ID)["none"]; j.Status != "failed" || !strings.Contains(i.log(77, j.ID), "environment_protected") {
		t.Errorf("a job without an environment: %+v", j)
	}
}

// A path that another project had gets no token that names it: a subject of ids is the way out.
func TestSubjectOfAPathUsedBefore(t *testing.T) {
	needRunner(t)
	config := testConfig(t, t.TempDir())
	config.Projects[4].PathUsedBefore = true
	i := serve(t, config, listen(t))
	i.push("nsflow/catalog", map[string]string{".gitlab-ci.yml": "job: {id_tokens: {T: {aud: x}}, script: ['[ -n \"$T\" ]']}\n"})
	pl := i.latest(78)
	i.follow(pl.ID, nil)
	job := i.jobs(78, pl.ID)["job"]
	if job.FailureReason != "id_token_burned_project_path" || !strings.Contains(i.log(78, job.ID), "ID token issuance is disabled") {
		t.Errorf("%s, %s", job.Status, job.FailureReason)
	}
	must[*gitlab.Project](t)(i.client.Projects.EditProject(78, &gitlab.EditProjectOptions{CIIdTokenSubClaimComponents: &[]string{"project_id", "ref"}}))
	must[*gitlab.Job](t)(i.client.Jobs.RetryJob(78, job.ID))
	i.follow(pl.ID, nil)
	if job := i.jobs(78, pl.ID)["job"]; job.Status != "success" {
		t.Errorf("by its id: %s", job.Status)
	}
}
