package gitlabapitest

import (
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// branchWith makes a branch of main with one file of some content.
func (i *instance) branchWith(c *gitlab.Client, project any, branch, file, content string) *gitlab.Commit {
	i.t.Helper()
	action := gitlab.FileCreate
	if _, _, err := c.RepositoryFiles.GetRawFile(project, file, &gitlab.GetRawFileOptions{Ref: gitlab.Ptr("main")}); err == nil {
		action = gitlab.FileUpdate
	}
	return must[*gitlab.Commit](i.t)(c.Commits.CreateCommit(project, &gitlab.CreateCommitOptions{Branch: &branch, StartBranch: gitlab.Ptr("main"), CommitMessage: gitlab.Ptr("change " + file), Force: gitlab.Ptr(true),
		Actions: []*gitlab.CommitActionOptions{{Action: &action, FilePath: &file, Content: &content}}}))
}

func (i *instance) request(c *gitlab.Client, project any, source string) *gitlab.MergeRequest {
	i.t.Helper()
	return must[*gitlab.MergeRequest](i.t)(c.MergeRequests.CreateMergeRequest(project, &gitlab.CreateMergeRequestOptions{SourceBranch: &source, TargetBranch: gitlab.Ptr("main"), Title: gitlab.Ptr("Change " + source)}))
}

func TestMergeRequestIsCheckedAndMerged(t *testing.T) {
	i := start(t)
	i.push("nsflow/environments", map[string]string{"a": "one\n"})
	dora, rita, str := i.as(developerToken), i.as(releaseToken), gitlab.Ptr[string]
	head := i.branchWith(dora, 43, "change", "b", "two\n")

	i.control("PUT", "merge_checks", map[string]bool{"held": true})
	mr := i.request(dora, 43, "change")
	if mr.DetailedMergeStatus != "checking" || mr.SHA != head.ID || mr.IID != 1 {
		t.Errorf("just made: %+v", mr)
	}
	accept := func(c *gitlab.Client, iid int64, o *gitlab.AcceptMergeRequestOptions) (*gitlab.Response, error) {
		_, resp, err := c.MergeRequests.AcceptMergeRequest(43, iid, o)
		return resp, err
	}
	resp, err := accept(rita, mr.IID, &gitlab.AcceptMergeRequestOptions{SHA: &head.ID})
	refused(t, "a merge before the check", resp, err, 405, "405 Method Not Allowed")
	i.control("PUT", "merge_checks", map[string]bool{"held": false})
	if got := i.mergeable(43, mr.IID); got != "mergeable" {
		t.Fatalf("status %q", got)
	}
	resp, err = accept(dora, mr.IID, nil)
	refused(t, "a merge into a branch that is not theirs", resp, err, 401, "401 Unauthorized")
	resp, err = accept(rita, mr.IID, &gitlab.AcceptMergeRequestOptions{SHA: str(strings.Repeat("0", 40))})
	refused(t, "a merge of another head", resp, err, 409, "SHA does not match HEAD of source branch: "+head.ID)
	_, resp, err = dora.MergeRequests.CreateMergeRequest(43, &gitlab.CreateMergeRequestOptions{SourceBranch: str("change"), TargetBranch: str("main"), Title: str("again")})
	refused(t, "a second request", resp, err, 409, "Another open merge request already exists for this source branch: !1")
	_, resp, err = dora.MergeRequests.CreateMergeRequest(43, &gitlab.CreateMergeRequestOptions{SourceBranch: str("main"), TargetBranch: str("main"), Title: str("x")})
	refused(t, "a request into itself", resp, err, 422, "same project/branch")
	_, resp, err = dora.MergeRequests.CreateMergeRequest(43, &gitlab.CreateMergeRequestOptions{SourceBranch: str("none"), TargetBranch: str("main"), Title: str("x")})
	refused(t, "a request of nothing", resp, err, 400, "does not exist")
	_, resp, err = dora.MergeRequests.CreateMergeRequest(43, &gitlab.CreateMergeRequestOptions{})
	refused(t, "a request without anything", resp, err, 400, "source_branch is missing, target_branch is missing, title is missing")

	for title, status := range map[string]string{"Draft: not yet": "draft_status", "Change change": "mergeable"} {
		must[*gitlab.MergeRequest](t)(dora.MergeRequests.UpdateMergeRequest(43, mr.IID, &gitlab.UpdateMergeRequestOptions{Title: &title}))
		if got := i.mergeable(43, mr.IID); got != status {
			t.Errorf("%q is %s, not %s", title, got, status)
		}
		if status != "mergeable" {
			resp, err = accept(rita, mr.IID, nil)
			refused(t, "a merge of a draft", resp, err, 405, "405 Method Not Allowed")
		}
	}
	must[*gitlab.MergeRequest](t)(dora.MergeRequests.UpdateMergeRequest(43, mr.IID, &gitlab.UpdateMergeRequestOptions{Title: str("Change it")}))
	merged := must[*gitlab.MergeRequest](t)(rita.MergeRequests.AcceptMergeRequest(43, mr.IID, &gitlab.AcceptMergeRequestOptions{SHA: &head.ID, ShouldRemoveSourceBranch: gitlab.Ptr(true), Squash: gitlab.Ptr(true)}))
	if merged.State != "merged" || merged.MergeUser.Username != "rita" || merged.SquashCommitSHA == "" {
		t.Errorf("%+v", merged)
	}
	main := must[*gitlab.Commit](t)(rita.Commits.GetCommit(43, "main", nil))
	if main.ID != merged.MergeCommitSHA || len(main.ParentIDs) != 2 || main.ParentIDs[1] != merged.SquashCommitSHA || !strings.Contains(main.Message, "See merge request nsflow/environments!1") {
		t.Errorf("%+v", main)
	}
	_, resp, err = rita.Branches.GetBranch(43, "change")
	refused(t, "the source branch after the merge", resp, err, 404, "404")
	resp, err = accept(rita, mr.IID, nil)
	refused(t, "a second merge", resp, err, 405, "405 Method Not Allowed")
}

func TestMergeRequestConflictsAndGoesStale(t *testing.T) {
	i := start(t)
	i.push("nsflow/environments", map[string]string{"a": "one\n"})
	rita := i.as(releaseToken)
	i.branchWith(rita, 43, "left", "a", "left\n")
	i.branchWith(rita, 43, "right", "a", "right\n")
	left, right := i.request(rita, 43, "left"), i.request(rita, 43, "right")
	for _, mr := range []*gitlab.MergeRequest{left, right} {
		if got := i.mergeable(43, mr.IID); got != "mergeable" {
			t.Fatalf("%d is %s", mr.IID, got)
		}
	}
	must[*gitlab.MergeRequest](t)(rita.MergeRequests.AcceptMergeRequest(43, left.IID, nil))
	// The target has moved, so what was known of the other is not known any more.
	if mr := must[[]*gitlab.BasicMergeRequest](t)(rita.MergeRequests.ListProjectMergeRequests(43, &gitlab.ListProjectMergeRequestsOptions{State: gitlab.Ptr("opened")})); len(mr) != 1 || mr[0].DetailedMergeStatus != "unchecked" {
		t.Errorf("%+v", mr)
	}
	_, resp, err := rita.MergeRequests.AcceptMergeRequest(43, right.IID, nil)
	refused(t, "a merge that nobody has checked", resp, err, 405, "405 Method Not Allowed")
	if got := i.mergeable(43, right.IID); got != "conflict" {
		t.Errorf("status %s", got)
	}
	_, resp, err = rita.MergeRequests.AcceptMergeRequest(43, right.IID, nil)
	refused(t, "a merge of a conflict", resp, err, 422, "Branch cannot be merged")
}

// A check that began before the target was changed says nothing of the new target, also where it ends first.
func TestStaleCheckCountsForNothing(t *testing.T) {
	i := start(t)
	i.push("nsflow/environments", map[string]string{"a": "one\n"})
	rita, str := i.as(releaseToken), gitlab.Ptr[string]
	i.branchWith(rita, 43, "gone", "a", "two\n")
	i.control("PUT", "merge_checks", map[string]bool{"held": true})
	var requests []*gitlab.MergeRequest
	for _, branch := range []string{"one", "two", "three", "four"} { // which check ends first is a matter of luck
		i.branchWith(rita, 43, branch, branch, "new\n")
		requests = append(requests, must[*gitlab.MergeRequest](t)(rita.MergeRequests.CreateMergeRequest(43, &gitlab.CreateMergeRequestOptions{SourceBranch: &branch, TargetBranch: str("gone"), Title: str("Change")})))
	}
	if _, err := rita.Branches.DeleteBranch(43, "gone"); err != nil { // so that the first checks have less to do
		t.Fatal(err)
	}
	for _, mr := range requests {
		must[*gitlab.MergeRequest](t)(rita.MergeRequests.UpdateMergeRequest(43, mr.IID, &gitlab.UpdateMergeRequestOptions{TargetBranch: str("main")}))
		must[*gitlab.MergeRequest](t)(rita.MergeRequests.GetMergeRequest(43, mr.IID, nil)) // begins the second check
	}
	i.control("PUT", "merge_checks", map[string]bool{"held": false})
	for _, mr := range requests {
		if got := i.mergeable(43, mr.IID); got != "mergeable" {
			t.Errorf("!%d is %s", mr.IID, got)
		}
	}
}

func TestApprovalsOfMergeRequests(t *testing.T) {
	i := start(t)
	i.push("nsflow/environments", map[string]string{"a": "one\n"})
	dora, rita := i.as(developerToken), i.as(releaseToken)
	must[*gitlab.ProjectApprovalRule](t)(rita.Projects.CreateProjectApprovalRule(43, &gitlab.CreateProjectLevelRuleOptions{Name: gitlab.Ptr("four eyes"), ApprovalsRequired: gitlab.Ptr(int64(1))}))
	head := i.branchWith(dora, 43, "change", "b", "two\n")
	mr := i.request(dora, 43, "change")
	if got := i.mergeable(43, mr.IID); got != "not_approved" {
		t.Errorf("status %s", got)
	}
	_, resp, err := i.client.MergeRequests.AcceptMergeRequest(43, mr.IID, nil)
	refused(t, "a merge without approval", resp, err, 405, "405")
	approve := func(c *gitlab.Client, sha string) (*gitlab.Response, error) {
		_, resp, err := c.MergeRequestApprovals.ApproveMergeRequest(43, mr.IID, &gitlab.ApproveMergeRequestOptions{SHA: &sha})
		return resp, err
	}
	resp, err = approve(dora, head.ID)
	refused(t, "the author approves", resp, err, 401, "401 Unauthorized")
	resp, err = approve(rita, strings.Repeat("0", 40))
	refused(t, "an approval of another head", resp, err, 409, "SHA does not match HEAD")
	if _, err := approve(rita, head.ID); err != nil {
		t.Fatal(err)
	}
	resp, err = approve(rita, head.ID)
	refused(t, "a second approval", resp, err, 401, "401 Unauthorized")
	if got := i.mergeable(43, mr.IID); got != "mergeable" {
		t.Errorf("status %s", got)
	}
	if _, err := rita.MergeRequestApprovals.UnapproveMergeRequest(43, mr.IID); err != nil {
		t.Fatal(err)
	}
	resp, err = rita.MergeRequestApprovals.UnapproveMergeRequest(43, mr.IID)
	refused(t, "an approval is taken back twice", resp, err, 404, "404")
	if _, err := approve(rita, head.ID); err != nil {
		t.Fatal(err)
	}
	i.branchWith(dora, 43, "change", "b", "three\n") // other commits than the ones that were approved
	if got := must[*gitlab.MergeRequestApprovals](t)(rita.MergeRequests.GetMergeRequestApprovals(43, mr.IID)); len(got.ApprovedBy) != 0 || got.ApprovalsLeft != 1 {
		t.Errorf("%+v", got)
	}
}

func TestNotes(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"a": "one\n"})
	dora, rita := i.as(developerToken), i.as(releaseToken)
	i.branchWith(dora, 77, "change", "b", "two\n")
	mr := i.request(dora, 77, "change")
	note := func(c *gitlab.Client, body string) (*gitlab.Note, *gitlab.Response, error) {
		return c.Notes.CreateMergeRequestNote(77, mr.IID, &gitlab.CreateMergeRequestNoteOptions{Body: &body})
	}
	n := must[*gitlab.Note](t)(note(rita, "<!-- plan -->first"))
	if _, _, err := rita.Notes.UpdateMergeRequestNote(77, mr.IID, n.ID, &gitlab.UpdateMergeRequestNoteOptions{Body: gitlab.Ptr("<!-- plan -->second")}); err != nil {
		t.Fatal(err)
	}
	_, resp, err := dora.Notes.UpdateMergeRequestNote(77, mr.IID, n.ID, &gitlab.UpdateMergeRequestNoteOptions{Body: gitlab.Ptr("mine")})
	refused(t, "another's note is written over", resp, err, 403, "403 Forbidden")
	_, resp, err = note(dora, " ")
	refused(t, "a note without words", resp, err, 400, "can't be blank")
	_, resp, err = note(dora, strings.Repeat("x", noteLimit+1))
	refused(t, "a note that is too long", resp, err, 400, "is too long (maximum is 1000000 characters)")
	must[*gitlab.Note](t)(note(dora, "other"))
	list := must[[]*gitlab.Note](t)(dora.Notes.ListMergeRequestNotes(77, mr.IID, &gitlab.ListMergeRequestNotesOptions{Sort: gitlab.Ptr("asc")}))
	if len(list) != 2 || list[0].Body != "<!-- plan -->second" || list[0].Author.Username != "rita" {
		t.Errorf("%+v", list)
	}
	i.control("PUT", "limits", map[string]any{"notes_create": limit{Requests: 1, Seconds: 60}})
	must[*gitlab.Note](t)(note(dora, "one"))
	_, resp, err = note(dora, "two")
	refused(t, "a note too many", resp, err, 429, "requested too many times")
	if resp.Header.Get("RateLimit-Limit") != "" || resp.Header.Get("Retry-After") != "" {
		t.Errorf("the application's own limit has headers: %v", resp.Header)
	}
}

// A fork's branch may be called as the parent's protected one: its pipelines get nothing protected, wherever they run.
func TestForksGetNothingProtected(t *testing.T) {
	needRunner(t)
	config := testConfig(t, t.TempDir())
	config.Projects = append(config.Projects, Project{ID: 99, Path: "guest/orders", DefaultBranch: "main", ForkedFrom: 77})
	i := serve(t, config, listen(t))
	out := filepath.Join(t.TempDir(), "out")
	ci := "check: {rules: [{when: always}], id_tokens: {T: {aud: x}}, script: ['echo \"$CI_PROJECT_ID $CI_COMMIT_REF_PROTECTED [$SECRET] [$PLAIN] $CI_MERGE_REQUEST_IID $CI_COMMIT_BRANCH $T\" >> " + out + "-$CI_PIPELINE_ID']}\n"
	dir := i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": ci})
	for key, protected := range map[string]bool{"SECRET": true, "PLAIN": false} {
		must[*gitlab.ProjectVariable](t)(i.client.ProjectVariables.CreateVariable(77, &gitlab.CreateProjectVariableOptions{Key: &key, Value: gitlab.Ptr("value-of-" + key), Protected: &protected}))
	}
	ran := func(pipeline int64) (words []string, claims map[string]any) {
		t.Helper()
		i.follow(pipeline, nil)
		line := i.waitFor(out + "-" + id(pipeline))
		words = strings.Fields(line)
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(words[len(words)-1], ".")[1])
		if err != nil || json.Unmarshal(payload, &claims) != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return words, claims
	}
	main := must[*gitlab.Pipeline](t)(i.client.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main")}))
	if words, claims := ran(main.ID); strings.Join(words[:4], " ") != "77 true [value-of-SECRET] [value-of-PLAIN]" || claims["ref_protected"] != "true" {
		t.Errorf("main: %v %v", words, claims)
	}
	i.add(dir, map[string]string{"evil": "1"}, "evil")
	mustGit(t, dir, "push", "--quiet", i.url("guest/orders", "x", adminToken), "HEAD:main")
	_, resp, err := i.client.MergeRequests.CreateMergeRequest(78, &gitlab.CreateMergeRequestOptions{SourceBranch: gitlab.Ptr("main"), TargetBranch: gitlab.Ptr("main"), Title: gitlab.Ptr("x"), TargetProjectID: gitlab.Ptr(int64(77))})
	refused(t, "a request from what is no fork", resp, err, 422, "not a fork of the target project")
	mr := must[*gitlab.MergeRequest](t)(i.client.MergeRequests.CreateMergeRequest(99, &gitlab.CreateMergeRequestOptions{SourceBranch: gitlab.Ptr("main"), TargetBranch: gitlab.Ptr("main"), Title: gitlab.Ptr("Evil"), TargetProjectID: gitlab.Ptr(int64(77))}))
	if mr.ProjectID != 77 || mr.SourceProjectID != 99 {
		t.Fatalf("%+v", mr)
	}
	own := i.latest(99)
	if words, claims := ran(own.ID); strings.Join(words[:4], " ") != "99 false [] []" || claims["ref_protected"] != "false" || claims["project_id"] != "99" {
		t.Errorf("in the fork: %v %v", words, claims)
	}
	in := must[*gitlab.PipelineInfo](t)(i.as(releaseToken).MergeRequests.CreateMergeRequestPipeline(77, mr.IID))
	words, claims := ran(in.ID)
	if strings.Join(words[:5], " ") != "77 false [] [value-of-PLAIN] "+id(mr.IID) || claims["ref_protected"] != "false" || claims["project_id"] != "99" || claims["job_project_id"] != "77" {
		t.Errorf("in the parent: %v %v", words, claims)
	}
	list := must[[]*gitlab.PipelineInfo](t)(i.client.MergeRequests.ListMergeRequestPipelines(77, mr.IID))
	if len(list) < 2 || list[0].Ref != "refs/merge-requests/1/head" || list[0].Source != "merge_request_event" {
		t.Errorf("%+v", list)
	}
}

func TestMergeWaitsForItsPipeline(t *testing.T) {
	i := startWithRunner(t)
	gate := filepath.Join(t.TempDir(), "gate")
	mustRun(t, "mkfifo", gate)
	ci := "check: {rules: [{if: '$CI_PIPELINE_SOURCE == \"merge_request_event\"'}], script: ['read line < " + gate + "', '[ \"$line\" = good ]']}\n"
	i.push("nsflow/environments", map[string]string{".gitlab-ci.yml": ci})
	rita := i.as(releaseToken)
	must[*gitlab.Project](t)(rita.Projects.EditProject(43, &gitlab.EditProjectOptions{OnlyAllowMergeIfPipelineSucceeds: gitlab.Ptr(true)}))
	i.branchWith(rita, 43, "change", "b", "two\n")
	mr := i.request(rita, 43, "change")
	if got := i.mergeable(43, mr.IID); got != "ci_still_running" {
		t.Errorf("status %s", got)
	}
	_, resp, err := rita.MergeRequests.AcceptMergeRequest(43, mr.IID, nil)
	refused(t, "a merge while the pipeline runs", resp, err, 405, "405")
	auto := must[*gitlab.MergeRequest](t)(rita.MergeRequests.AcceptMergeRequest(43, mr.IID, &gitlab.AcceptMergeRequestOptions{AutoMerge: gitlab.Ptr(true)}))
	if auto.State != "opened" || !auto.MergeWhenPipelineSucceeds {
		t.Errorf("%+v", auto)
	}
	mustRun(t, "sh", "-c", "echo bad > "+gate)
	i.await("the request has let go", func() bool {
		mr = must[*gitlab.MergeRequest](t)(rita.MergeRequests.GetMergeRequest(43, mr.IID, nil))
		return !mr.MergeWhenPipelineSucceeds
	})
	if mr.State != "opened" || mr.DetailedMergeStatus != "ci_must_pass" {
		t.Errorf("after a failure: %s %s", mr.State, mr.DetailedMergeStatus)
	}
	i.branchWith(rita, 43, "change", "b", "three\n")
	if got := i.mergeable(43, mr.IID); got != "ci_still_running" {
		t.Errorf("status %s", got)
	}
	must[*gitlab.MergeRequest](t)(rita.MergeRequests.AcceptMergeRequest(43, mr.IID, &gitlab.AcceptMergeRequestOptions{AutoMerge: gitlab.Ptr(true)}))
	mustRun(t, "sh", "-c", "echo good > "+gate)
	i.await("it is merged", func() bool {
		return must[*gitlab.MergeRequest](t)(rita.MergeRequests.GetMergeRequest(43, mr.IID, nil)).State == "merged"
	})
}
