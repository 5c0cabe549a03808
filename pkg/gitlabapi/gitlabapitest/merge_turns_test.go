package gitlabapitest

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// Of two merges of one request at the same time one is made.
func TestMergesTakeTurns(t *testing.T) {
	i := start(t)
	i.push("nsflow/environments", map[string]string{"a": "one\n"})
	dora, rita := i.as(developerToken), i.as(releaseToken)
	head := i.branchWith(dora, 43, "change", "b", "two\n")
	mr := i.request(dora, 43, "change")
	i.mergeable(43, mr.IID)
	codes := make(chan int, 2)
	for range cap(codes) {
		go func() {
			_, resp, err := rita.MergeRequests.AcceptMergeRequest(43, mr.IID, &gitlab.AcceptMergeRequestOptions{SHA: &head.ID})
			if resp == nil {
				t.Error(err)
				codes <- 0
				return
			}
			codes <- resp.StatusCode
		}()
	}
	got := []int{<-codes, <-codes}
	slices.Sort(got)
	if !slices.Equal(got, []int{200, 405}) {
		t.Errorf("they are answered with %v", got)
	}
}

// A head that was pushed after the check is not merged.
func TestMergeOfACheckedHead(t *testing.T) {
	i := start(t)
	i.push("nsflow/environments", map[string]string{"a": "one\n"})
	dora := i.as(developerToken)
	i.branchWith(dora, 43, "change", "b", "two\n")
	made := i.request(dora, 43, "change")
	i.mergeable(43, made.IID)
	i.mu.Lock()
	mr := sorted(i.st.MergeRequests, func(mr *mergeRequest) bool { return mr.IID == made.IID })[0]
	wish := mergeWish{by: i.admin(), sha: mr.SHA}
	i.mu.Unlock()
	i.branchWith(dora, 43, "change", "b", "three\n")
	if err := i.merge(mr, wish); !errors.Is(err, errHeadMoved) {
		t.Errorf("it ends with %v", err)
	}
}

// A request that was to be merged after its pipeline is looked at again then: an approval may be gone, the title be a
// draft's, the target another, or who wished it may not merge any more. That only its target has moved is no reason to let it go.
func TestAutoMergeLooksAgain(t *testing.T) {
	i := startWithRunner(t)
	dir := t.TempDir()
	at := func(what, branch string) string { return filepath.Join(dir, what+"-"+branch) }
	ci := "check: {rules: [{if: '$CI_PIPELINE_SOURCE == \"merge_request_event\"'}], script: ['echo here > " + at("at", "$CI_COMMIT_REF_NAME") + "', 'read line < " + at("gate", "$CI_COMMIT_REF_NAME") + "']}\n"
	i.push("nsflow/environments", map[string]string{".gitlab-ci.yml": ci})
	dora, rita := i.as(developerToken), i.as(releaseToken)
	must[*gitlab.ProjectApprovalRule](t)(rita.Projects.CreateProjectApprovalRule(43, &gitlab.CreateProjectLevelRuleOptions{Name: gitlab.Ptr("two eyes"), ApprovalsRequired: gitlab.Ptr(int64(1))}))
	states := map[string]string{"fine": "merged", "unapproved": "opened", "drafted": "opened", "demoted": "opened", "retargeted": "opened"}
	requests := map[string]int64{}
	for branch := range states {
		mustRun(t, "mkfifo", at("gate", branch))
		i.branchWith(dora, 43, branch, branch, "two\n")
		mr := i.request(dora, 43, branch)
		requests[branch] = mr.IID
		must[*gitlab.MergeRequestApprovals](t)(i.client.MergeRequestApprovals.ApproveMergeRequest(43, mr.IID, nil))
		i.mergeable(43, mr.IID)
		i.waitFor(at("at", branch)) // the job saves nothing any more until its end
		by := i.client
		if branch == "demoted" {
			by = rita
		}
		must[*gitlab.MergeRequest](t)(by.MergeRequests.AcceptMergeRequest(43, mr.IID, &gitlab.AcceptMergeRequestOptions{AutoMerge: gitlab.Ptr(true)}))
		kept, err := loadState(i.path("state.json"))
		if err != nil || kept.MergeRequests[mr.ID].AutoMergeBy == 0 {
			t.Errorf("%s: a server that is killed now forgets the wish (%v)", branch, err)
		}
	}
	if _, err := i.client.MergeRequestApprovals.UnapproveMergeRequest(43, requests["unapproved"]); err != nil {
		t.Fatal(err)
	}
	must[*gitlab.MergeRequest](t)(dora.MergeRequests.UpdateMergeRequest(43, requests["drafted"], &gitlab.UpdateMergeRequestOptions{Title: gitlab.Ptr("Draft: not yet")}))
	must[*gitlab.MergeRequest](t)(dora.MergeRequests.UpdateMergeRequest(43, requests["retargeted"], &gitlab.UpdateMergeRequestOptions{TargetBranch: gitlab.Ptr("fine")}))
	must[*gitlab.ProjectMember](t)(i.client.ProjectMembers.AddProjectMember(43, &gitlab.AddProjectMemberOptions{UserID: 8, AccessLevel: gitlab.Ptr(gitlab.DeveloperPermissions)}))
	str := gitlab.Ptr[string]
	must[*gitlab.FileInfo](t)(i.client.RepositoryFiles.CreateFile(43, "moved", &gitlab.CreateFileOptions{Branch: str("main"), Content: str("on\n"), CommitMessage: str("move on")}))
	for branch, iid := range requests {
		mustRun(t, "sh", "-c", "echo go > "+at("gate", branch))
		i.await("the request has let go", func() bool {
			return !must[*gitlab.MergeRequest](t)(dora.MergeRequests.GetMergeRequest(43, iid, nil)).MergeWhenPipelineSucceeds
		})
	}
	i.Close() // what was to be merged is merged then
	for branch, state := range states {
		mr := sorted(i.st.MergeRequests, func(mr *mergeRequest) bool { return mr.IID == requests[branch] })[0]
		if mr.State != state {
			t.Errorf("%s: the request is %s", branch, mr.State)
		}
	}
}
