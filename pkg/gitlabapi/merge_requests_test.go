package gitlabapi_test

import (
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// openMergeRequest makes a branch with a change, and the request to merge it.
func openMergeRequest(t *testing.T, endpoint string) *gitlab.MergeRequest {
	t.Helper()
	api, err := gitlab.NewClient(maintainer, gitlab.WithBaseURL(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	str := gitlab.Ptr[string]
	if _, _, err := api.Commits.CreateCommit(77, &gitlab.CreateCommitOptions{Branch: str("change"), StartBranch: str("main"), CommitMessage: str("change"),
		Actions: []*gitlab.CommitActionOptions{{Action: gitlab.Ptr(gitlab.FileCreate), FilePath: str("x"), Content: str("x")}}}); err != nil {
		t.Fatal(err)
	}
	mr, _, err := api.MergeRequests.CreateMergeRequest(77, &gitlab.CreateMergeRequestOptions{SourceBranch: str("change"), TargetBranch: str("main"), Title: str("change")})
	if err != nil {
		t.Fatal(err)
	}
	return mr
}

func TestMergeRequest(t *testing.T) {
	endpoint, _ := instance(t)
	made := openMergeRequest(t, endpoint)
	c, err := gitlabapi.New(gitlabapi.Config{Endpoint: endpoint, Token: maintainer})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.MergeRequest(t.Context(), 77, made.IID)
	want := gitlabapi.MergeRequest{State: "opened", SourceProject: 77, SourceBranch: "change", SHA: made.SHA, URL: made.WebURL}
	if err != nil || got != want {
		t.Errorf("MergeRequest = %+v, %v; want %+v", got, err, want)
	}
	if _, err := c.MergeRequest(t.Context(), 77, 99); !gitlabapi.NotFound(err) {
		t.Errorf("MergeRequest of nothing = %v", err)
	}
}

// TestNote: one note, however often it is written, and never one of somebody
// else that only looks like it.
func TestNote(t *testing.T) {
	endpoint, _ := instance(t)
	mr := openMergeRequest(t, endpoint)
	admin, err := gitlab.NewClient("glpat-admin-0123456789", gitlab.WithBaseURL(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	const marker = "<!-- slipway-deploy diff: orders in dev -->"
	if _, _, err := admin.Notes.CreateMergeRequestNote(77, mr.IID, &gitlab.CreateMergeRequestNoteOptions{Body: gitlab.Ptr(marker + "\nnot ours")}); err != nil {
		t.Fatal(err)
	}
	c, err := gitlabapi.New(gitlabapi.Config{Endpoint: endpoint, Token: maintainer})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"first", "first", "second"} {
		if err := c.Note(t.Context(), 77, mr.IID, marker, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Note(t.Context(), 77, mr.IID, "<!-- another -->", "of another environment"); err != nil {
		t.Fatal(err)
	}
	list, _, err := admin.Notes.ListMergeRequestNotes(77, mr.IID, nil)
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, n := range list {
		bodies = append(bodies, n.Author.Username+": "+n.Body[strings.Index(n.Body, "\n")+1:])
	}
	if got := strings.Join(bodies, "; "); got != "rita: of another environment; rita: second; root: not ours" {
		t.Errorf("the notes are %q", got)
	}
}

func TestNoteDenied(t *testing.T) {
	endpoint, _ := instance(t)
	c, err := gitlabapi.New(gitlabapi.Config{Endpoint: endpoint, Token: "glpat-wrong-0123456789"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Note(t.Context(), 77, 1, "<!-- x -->", "x"); tool.CodeOf(err) != tool.Denied {
		t.Errorf("Note with a wrong token = %v (code %d), want 77", err, tool.CodeOf(err))
	}
}
