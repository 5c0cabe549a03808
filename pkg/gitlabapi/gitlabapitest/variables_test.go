package gitlabapitest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestVariablesAreChecked(t *testing.T) {
	i := start(t)
	c, str, yes := i.as(releaseToken).ProjectVariables, gitlab.Ptr[string], gitlab.Ptr(true)
	create := func(o gitlab.CreateProjectVariableOptions) (*gitlab.ProjectVariable, *gitlab.Response, error) {
		return c.CreateVariable(77, &o)
	}
	for _, scope := range []string{"dev", "prod"} {
		must[*gitlab.ProjectVariable](t)(create(gitlab.CreateProjectVariableOptions{Key: str("KEY"), Value: str("of " + scope), EnvironmentScope: &scope}))
	}
	_, resp, err := c.GetVariable(77, "KEY", nil)
	refused(t, "a key that two have", resp, err, 409, "filter[environment_scope]")
	prod := &gitlab.VariableFilter{EnvironmentScope: "prod"}
	if v := must[*gitlab.ProjectVariable](t)(c.GetVariable(77, "KEY", &gitlab.GetProjectVariableOptions{Filter: prod})); v.Value != "of prod" {
		t.Errorf("%+v", v)
	}
	if v := must[*gitlab.ProjectVariable](t)(c.UpdateVariable(77, "KEY", &gitlab.UpdateProjectVariableOptions{Filter: prod, Value: str("new")})); v.Value != "new" || v.EnvironmentScope != "prod" {
		t.Errorf("%+v", v)
	}
	_, resp, err = c.UpdateVariable(77, "KEY", &gitlab.UpdateProjectVariableOptions{Filter: prod, EnvironmentScope: str("dev")})
	refused(t, "a scope that is taken", resp, err, 400, "(KEY) has already been taken")
	if _, err := c.RemoveVariable(77, "KEY", &gitlab.RemoveProjectVariableOptions{Filter: prod}); err != nil {
		t.Fatal(err)
	}
	for what, one := range map[string]struct {
		options gitlab.CreateProjectVariableOptions
		text    string
	}{
		"a key again":              {gitlab.CreateProjectVariableOptions{Key: str("KEY"), Value: str("x"), EnvironmentScope: str("dev")}, "(KEY) has already been taken"},
		"a key with a dash":        {gitlab.CreateProjectVariableOptions{Key: str("A-B"), Value: str("x")}, "can contain only letters, digits and '_'."},
		"a short masked value":     {gitlab.CreateProjectVariableOptions{Key: str("A"), Value: str("short"), Masked: yes}, "is invalid"},
		"a masked value in lines":  {gitlab.CreateProjectVariableOptions{Key: str("A"), Value: str("line one\nline two"), Masked: yes, Raw: yes}, "is invalid"},
		"a type that is none":      {gitlab.CreateProjectVariableOptions{Key: str("A"), Value: str("x"), VariableType: gitlab.Ptr(gitlab.VariableTypeValue("folder"))}, "variable_type does not have a valid value"},
		"no value":                 {gitlab.CreateProjectVariableOptions{Key: str("A")}, "value is missing"},
		"a scope that cannot be":   {gitlab.CreateProjectVariableOptions{Key: str("A"), Value: str("x"), EnvironmentScope: str("/x")}, "can contain only letters"},
		"a value that is too long": {gitlab.CreateProjectVariableOptions{Key: str("A"), Value: str(strings.Repeat("x", 10001))}, "is too long"},
	} {
		_, resp, err := create(one.options)
		refused(t, what, resp, err, 400, one.text)
	}
	hidden := must[*gitlab.ProjectVariable](t)(create(gitlab.CreateProjectVariableOptions{Key: str("HIDDEN"), Value: str("secret-value-1"), MaskedAndHidden: yes}))
	if !hidden.Hidden || !hidden.Masked || hidden.Value != "" {
		t.Errorf("%+v", hidden)
	}
	_, resp, err = c.UpdateVariable(77, "HIDDEN", &gitlab.UpdateProjectVariableOptions{Masked: gitlab.Ptr(false)})
	refused(t, "a hidden value is shown again", resp, err, 400, "cannot be changed for masked and hidden")
	_, resp, err = i.as(developerToken).ProjectVariables.ListVariables(77, nil)
	refused(t, "a developer reads variables", resp, err, 403, "403 Forbidden")
}

// A job gets the variables that are its own: by protection of its ref, by its environment, by who comes first.
func TestVariablesReachTheirJobsOnly(t *testing.T) {
	i := startWithRunner(t)
	out := filepath.Join(t.TempDir(), "out")
	say := "echo \"[$PROT] [$SCOPED] [$BOTH] [$MASKED] [$(cat \"$FILE\")] [$RAW] [$EXPANDED]\" | tee -a " + out + "-"
	job := func(name, environment string) string {
		return name + ": {" + environment + "variables: {BOTH: from the file}, script: ['" + say + name + "-$CI_COMMIT_REF_NAME']}\n"
	}
	dir := i.commitFiles("nsflow/orders", map[string]string{".gitlab-ci.yml": job("none", "") + job("dev", "environment: review/one, ") +
		"gated: {rules: [{if: '$MASKED == \"masked-value\"'}], script: ['true']}\n"})
	group := must[*gitlab.Project](t)(i.client.Projects.GetProject(77, nil)).Namespace.ID
	str, yes := gitlab.Ptr[string], gitlab.Ptr(true)
	for _, o := range []gitlab.CreateProjectVariableOptions{
		{Key: str("PROT"), Value: str("protected"), Protected: yes}, {Key: str("SCOPED"), Value: str("any review"), EnvironmentScope: str("review/*")},
		{Key: str("SCOPED"), Value: str("this review"), EnvironmentScope: str("review/one")}, {Key: str("BOTH"), Value: str("of the project")},
		{Key: str("MASKED"), Value: str("masked-value"), Masked: yes}, {Key: str("FILE"), Value: str("in a file"), VariableType: gitlab.Ptr(gitlab.FileVariableType)},
		{Key: str("RAW"), Value: str("$BOTH"), Raw: yes}, {Key: str("EXPANDED"), Value: str("<$BOTH>")},
	} {
		must[*gitlab.ProjectVariable](t)(i.client.ProjectVariables.CreateVariable(77, &o))
	}
	must[*gitlab.GroupVariable](t)(i.client.GroupVariables.CreateVariable(group, &gitlab.CreateGroupVariableOptions{Key: str("BOTH"), Value: str("of the group")}))
	_, resp, err := i.as(releaseToken).GroupVariables.ListVariables(group, nil)
	refused(t, "a maintainer reads a group's variables", resp, err, 403, "403 Forbidden")
	mustGit(t, dir, "push", "--quiet", "origin", "HEAD:main", "HEAD:refs/heads/feature")
	pipelines := must[[]*gitlab.PipelineInfo](t)(i.client.Pipelines.ListProjectPipelines(77, nil))
	for _, pl := range pipelines {
		i.follow(pl.ID, nil)
		jobs := i.jobs(77, pl.ID)
		if jobs["gated"] == nil {
			t.Errorf("%s: a rule did not see a masked variable", pl.Ref)
		}
		protected := map[string]string{"main": "protected"}[pl.Ref]
		for name, scoped := range map[string]string{"none": "", "dev": "this review"} {
			want := fmt.Sprintf("[%s] [%s] [of the project] [masked-value] [in a file] [$BOTH] [<of the project>]\n", protected, scoped)
			if got := i.waitFor(out + "-" + name + "-" + pl.Ref); got != want {
				t.Errorf("%s on %s: %q, want %q", name, pl.Ref, got, want)
			}
			if log := i.log(77, jobs[name].ID); strings.Contains(log, "masked-value") || !strings.Contains(log, "[MASKED]") {
				t.Errorf("%s on %s shows what is masked:\n%s", name, pl.Ref, log)
			}
		}
	}
	if len(pipelines) != 2 {
		t.Errorf("%d pipelines", len(pipelines))
	}
}

// On GitLab Free, what costs money is not there.
func TestFreeHasLess(t *testing.T) {
	config := testConfig(t, t.TempDir())
	config.Free = true
	i := serve(t, config, listen(t))
	_, resp, err := i.client.ProtectedEnvironments.ListProtectedEnvironments(77, nil)
	refused(t, "protected environments", resp, err, 404, "404")
	_, resp, err = i.client.Projects.CreateProjectApprovalRule(77, &gitlab.CreateProjectLevelRuleOptions{Name: gitlab.Ptr("x"), ApprovalsRequired: gitlab.Ptr(int64(1))})
	refused(t, "approval rules", resp, err, 404, "404")
	b := must[*gitlab.ProtectedBranch](t)(i.client.ProtectedBranches.ProtectRepositoryBranches(77, &gitlab.ProtectRepositoryBranchesOptions{Name: gitlab.Ptr("x"),
		AllowedToPush: &[]*gitlab.BranchPermissionOptions{{UserID: gitlab.Ptr(int64(7))}}}))
	if len(b.PushAccessLevels) != 1 || b.PushAccessLevels[0].UserID != 0 {
		t.Errorf("a user is allowed: %+v", b.PushAccessLevels[0])
	}
}
