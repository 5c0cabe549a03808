package gitlabapitest

import (
	"errors"
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
