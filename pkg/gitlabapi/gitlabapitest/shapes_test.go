package gitlabapitest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// shape is what GitLab's documentation shows of an answer of a project: its keys, and the client's type that has to
// read it. extra are keys that GitLab shows and the client's type does not have.
type shape struct {
	path, keys, extra string
	into              any
}

// Answers have the keys that GitLab's documentation shows for them, and none that the real client does not know.
func TestShapesAreGitLabs(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x\n"})
	c, str := i.client, gitlab.Ptr[string]
	i.branchWith(c, 77, "change", "b", "two\n")
	mr := i.request(c, 77, "change")
	i.mergeable(77, mr.IID)
	n := must[*gitlab.Note](t)(c.Notes.CreateMergeRequestNote(77, mr.IID, &gitlab.CreateMergeRequestNoteOptions{Body: str("x")}))
	sc := must[*gitlab.PipelineSchedule](t)(c.PipelineSchedules.CreatePipelineSchedule(77, &gitlab.CreatePipelineScheduleOptions{Description: str("x"), Ref: str("main"), Cron: str("0 1 * * *")}))
	must[*gitlab.PipelineVariable](t)(c.PipelineSchedules.CreatePipelineScheduleVariable(77, sc.ID, &gitlab.CreatePipelineScheduleVariableOptions{Key: str("A"), Value: str("1")}))
	fr := must[*gitlab.FreezePeriod](t)(c.FreezePeriods.CreateFreezePeriodOptions(77, &gitlab.CreateFreezePeriodOptions{FreezeStart: str("0 1 * * *"), FreezeEnd: str("0 2 * * *")}))
	must[*gitlab.ProjectVariable](t)(c.ProjectVariables.CreateVariable(77, &gitlab.CreateProjectVariableOptions{Key: str("A"), Value: str("1")}))
	must[*gitlab.Release](t)(c.Releases.CreateRelease(77, &gitlab.CreateReleaseOptions{TagName: str("v1"), Ref: str("main"), Assets: &gitlab.ReleaseAssetsOptions{Links: []*gitlab.ReleaseAssetLinkOptions{{Name: str("n"), URL: str("https://example.com")}}}}))
	must[*gitlab.ProtectedTag](t)(c.ProtectedTags.ProtectRepositoryTags(77, &gitlab.ProtectRepositoryTagsOptions{Name: str("v*")}))
	i.protectEnv(gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod"), DeployAccessLevels: roleOf(gitlab.MaintainerPermissions),
		ApprovalRules: &[]*gitlab.EnvironmentApprovalRuleOptions{{AccessLevel: gitlab.Ptr(gitlab.MaintainerPermissions)}}})
	d := must[*gitlab.Deployment](t)(c.Deployments.CreateProjectDeployment(77, &gitlab.CreateProjectDeploymentOptions{Environment: str("prod"), Ref: str("main"), SHA: str("main"), Tag: gitlab.Ptr(false), Status: gitlab.Ptr(gitlab.DeploymentStatusSuccess)}))
	tok := must[*gitlab.ProjectAccessToken](t)(c.ProjectAccessTokens.CreateProjectAccessToken(77, &gitlab.CreateProjectAccessTokenOptions{Name: str("x"), Scopes: &[]string{"api"}}))
	i.mu.Lock()
	i.useResourceGroup(77, "prod")
	i.mu.Unlock()

	const user = " username name state web_url avatar_url id"
	for what, one := range map[string]shape{
		"branch":         {"repository/branches/main", "name merged protected default developers_can_push developers_can_merge can_push web_url commit", "", &gitlab.Branch{}},
		"commit":         {"repository/commits/main", "id short_id title author_name author_email authored_date committer_name committer_email committed_date created_at message parent_ids stats web_url", "", &gitlab.Commit{}},
		"file":           {"repository/files/README.md?ref=main", "file_name file_path size encoding content content_sha256 ref blob_id commit_id last_commit_id execute_filemode", "", &gitlab.File{}},
		"tag":            {"repository/tags/v1", "commit release name target message protected created_at", "", &gitlab.Tag{}},
		"compare":        {"repository/compare?from=main&to=change", "commit commits diffs compare_timeout compare_same_ref web_url", "", &gitlab.Compare{}},
		"merge request":  {"merge_requests/1", "id iid project_id title description state imported imported_from created_at updated_at merged_by merge_user merged_at prepared_at closed_by closed_at target_branch source_branch user_notes_count upvotes downvotes author assignees assignee reviewers source_project_id target_project_id labels draft work_in_progress milestone merge_when_pipeline_succeeds merge_status detailed_merge_status sha merge_commit_sha squash_commit_sha discussion_locked should_remove_source_branch force_remove_source_branch reference references web_url time_stats squash squash_on_merge task_completion_status has_conflicts blocking_discussions_resolved subscribed merge_error user diff_refs head_pipeline pipeline", "merge_status reference approvals_before_merge", &gitlab.MergeRequest{}},
		"approvals":      {"merge_requests/1/approvals", "id iid project_id title description state created_at updated_at merge_status approvals_required approvals_left approved_by", "", &gitlab.MergeRequestApprovals{}},
		"note":           {"merge_requests/1/notes/" + id(n.ID), "id body attachment author created_at updated_at system noteable_id noteable_type project_id noteable_iid resolvable confidential internal imported imported_from", "imported imported_from commands_changes", &gitlab.Note{}},
		"schedule":       {"pipeline_schedules/" + id(sc.ID), "id description ref cron cron_timezone next_run_at active created_at updated_at owner last_pipeline variables inputs", "raw", &gitlab.PipelineSchedule{}},
		"freeze period":  {"freeze_periods/" + id(fr.ID), "id freeze_start freeze_end cron_timezone created_at updated_at", "", &gitlab.FreezePeriod{}},
		"variable":       {"variables/A", "variable_type key value protected masked hidden raw environment_scope description", "", &gitlab.ProjectVariable{}},
		"resource group": {"resource_groups/prod", "id key process_mode created_at updated_at", "", &gitlab.ResourceGroup{}},
		"release": {"releases/v1", "tag_name description name created_at released_at upcoming_release author commit commit_path tag_path assets evidences _links",
			"", &gitlab.Release{}},
		"release link":          {"releases/v1/assets/links/1", "id name url link_type", "", &gitlab.ReleaseLink{}},
		"protected branch":      {"protected_branches/main", "id name push_access_levels merge_access_levels unprotect_access_levels allow_force_push code_owner_approval_required", "group_inheritance_type inherited", &gitlab.ProtectedBranch{}},
		"protected tag":         {"protected_tags/v*", "name create_access_levels", "group_inheritance_type", &gitlab.ProtectedTag{}},
		"protected environment": {"protected_environments/prod", "name deploy_access_levels required_approval_count approval_rules", "", &gitlab.ProtectedEnvironment{}},
		"environment":           {"environments/1", "id name slug external_url description tier state created_at updated_at auto_stop_at auto_stop_setting last_deployment", "pending_approval_count approvals approval_summary finished_at", &gitlab.Environment{}},
		"deployment":            {"deployments/" + id(d.ID), "id iid ref sha status created_at updated_at user environment deployable pending_approval_count approvals approval_summary", "pending_approval_count approvals approval_summary finished_at", &gitlab.Deployment{}},
		"access token":          {"access_tokens/" + id(tok.ID), "id name revoked created_at scopes user_id last_used_at active expires_at access_level description", "", &gitlab.ProjectAccessToken{}},
		"member":                {"members/" + id(tok.UserID), "access_level expires_at created_at" + user, "locked", &gitlab.ProjectMember{}},
		"project":               {"", "id path path_with_namespace default_branch visibility namespace ci_id_token_sub_claim_components ci_push_repository_for_job_token_allowed only_allow_merge_if_pipeline_succeeds resource_group_default_process_mode", "", &gitlab.Project{}},
		"job token scope":       {"job_token_scope", "inbound_enabled outbound_enabled", "outbound_enabled", &gitlab.JobTokenAccessSettings{}},
	} {
		code, _, body := i.raw("GET", strings.TrimSuffix("/api/v4/projects/77/"+one.path, "/"), "", "PRIVATE-TOKEN", adminToken)
		if code != 200 {
			t.Errorf("%s: %d %s", what, code, body)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, key := range strings.Fields(one.keys) {
			if _, ok := got[key]; !ok {
				t.Errorf("%s has no %q", what, key)
			}
		}
		// GitLab says of every user whether he is locked; the client knows it of some.
		if err := strictly(got, append(strings.Fields(one.extra), "locked"), one.into); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// strictly decodes into the client's type, which may lack only the keys in extra.
func strictly(got any, extra []string, into any) error {
	for {
		data, err := json.Marshal(got)
		if err != nil {
			return err
		}
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.DisallowUnknownFields()
		err = d.Decode(into)
		if err == nil {
			return nil
		}
		m := regexp.MustCompile(`unknown field "([^"]+)"`).FindStringSubmatch(err.Error())
		if m == nil || !slices.Contains(extra, m[1]) {
			return fmt.Errorf("the client does not know it: %w", err)
		}
		without(got, m[1])
	}
}

func without(v any, key string) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, key)
		for _, one := range v {
			without(one, key)
		}
	case []any:
		for _, one := range v {
			without(one, key)
		}
	}
}
