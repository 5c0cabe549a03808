package gitlabapitest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestCommitsOfSeveralActions(t *testing.T) {
	i := start(t)
	i.push("nsflow/environments", map[string]string{"a.yaml": "one\n", "run.sh": "echo\n", "old/name": "kept\n"})
	c := i.client
	str := gitlab.Ptr[string]
	act := func(action gitlab.FileActionValue, path string, more func(*gitlab.CommitActionOptions)) *gitlab.CommitActionOptions {
		a := &gitlab.CommitActionOptions{Action: &action, FilePath: &path}
		if more != nil {
			more(a)
		}
		return a
	}
	commit := func(branch string, more func(*gitlab.CreateCommitOptions), actions ...*gitlab.CommitActionOptions) (*gitlab.Commit, *gitlab.Response, error) {
		o := &gitlab.CreateCommitOptions{Branch: &branch, CommitMessage: str("m"), Actions: actions}
		if more != nil {
			more(o)
		}
		return c.Commits.CreateCommit(43, o)
	}
	content := func(s string) func(*gitlab.CommitActionOptions) {
		return func(a *gitlab.CommitActionOptions) { a.Content = &s }
	}
	made := must[*gitlab.Commit](t)(commit("work", func(o *gitlab.CreateCommitOptions) { o.StartBranch = str("main") },
		act(gitlab.FileMove, "new/name", func(a *gitlab.CommitActionOptions) { a.PreviousPath = str("old/name") }),
		act(gitlab.FileChmod, "run.sh", func(a *gitlab.CommitActionOptions) { a.ExecuteFilemode = gitlab.Ptr(true) }),
		act(gitlab.FileUpdate, "a.yaml", func(a *gitlab.CommitActionOptions) {
			a.Content, a.Encoding = str(base64.StdEncoding.EncodeToString([]byte("two\n"))), str("base64")
		})))
	if made.Stats == nil || made.Stats.Additions == 0 {
		t.Errorf("stats: %+v", made.Stats)
	}
	dir := t.TempDir()
	mustGit(t, dir, "clone", "--quiet", "-b", "work", i.url("nsflow/environments", "x", adminToken), "copy")
	if got := mustGit(t, dir+"/copy", "ls-files", "--stage"); !strings.Contains(got, "100755") || !strings.Contains(got, "new/name") || strings.Contains(got, "old/name") {
		t.Errorf("tree:\n%s", got)
	}
	file := must[*gitlab.File](t)(c.RepositoryFiles.GetFile(43, "a.yaml", &gitlab.GetFileOptions{Ref: str("work")}))
	if raw, _ := base64.StdEncoding.DecodeString(file.Content); string(raw) != "two\n" || file.LastCommitID != made.ID {
		t.Errorf("%+v", file)
	}

	stale := file.LastCommitID
	update := func(last string) (*gitlab.FileInfo, *gitlab.Response, error) {
		return c.RepositoryFiles.UpdateFile(43, "a.yaml", &gitlab.UpdateFileOptions{Branch: str("work"), Content: str(randomHex(4)), CommitMessage: str("m"), LastCommitID: &last})
	}
	if _, _, err := update(stale); err != nil {
		t.Errorf("an update of what was read: %v", err)
	}
	_, resp, err := update(stale)
	refused(t, "an update of what has changed since", resp, err, 400, "has changed since you started editing it")
	_, resp, err = commit("work", nil, act(gitlab.FileDelete, "a.yaml", func(a *gitlab.CommitActionOptions) { a.LastCommitID = &stale }))
	refused(t, "a deletion of what has changed since", resp, err, 400, "has changed since")

	for what, one := range map[string]struct {
		more   func(*gitlab.CreateCommitOptions)
		branch string
		action *gitlab.CommitActionOptions
		text   string
	}{
		"a move from nowhere":      {nil, "work", act(gitlab.FileMove, "x", nil), "You must supply the original file path"},
		"a move onto another":      {nil, "work", act(gitlab.FileMove, "run.sh", func(a *gitlab.CommitActionOptions) { a.PreviousPath = str("a.yaml") }), "already exists"},
		"a chmod without a mode":   {nil, "work", act(gitlab.FileChmod, "run.sh", nil), "execute_filemode"},
		"an action that is none":   {nil, "work", act("burn", "run.sh", nil), "actions[0][action] does not have a valid value"},
		"a path out of the tree":   {nil, "work", act(gitlab.FileCreate, "../x", content("x")), "valid file path"},
		"a path into git":          {nil, "work", act(gitlab.FileCreate, ".GIT/hooks/x", content("x")), "valid file path"},
		"a file below a file":      {nil, "work", act(gitlab.FileCreate, "run.sh/x", content("x")), "already exists"},
		"no base64":                {nil, "work", act(gitlab.FileCreate, "b", func(a *gitlab.CommitActionOptions) { a.Content, a.Encoding = str("%"), str("base64") }), "base64"},
		"a branch from nowhere":    {nil, "fresh", act(gitlab.FileCreate, "b", content("x")), "when you are on a branch"},
		"a branch that is there":   {func(o *gitlab.CreateCommitOptions) { o.StartBranch = str("main") }, "work", act(gitlab.FileCreate, "b", content("x")), "already exists. Switch to that branch"},
		"two beginnings":           {func(o *gitlab.CreateCommitOptions) { o.StartBranch, o.StartSHA = str("main"), str("main") }, "y", act(gitlab.FileCreate, "b", content("x")), "mutually exclusive"},
		"a beginning that is none": {func(o *gitlab.CreateCommitOptions) { o.StartBranch = str("gone") }, "y", act(gitlab.FileCreate, "b", content("x")), "Cannot find start branch"},
	} {
		_, resp, err := commit(one.branch, one.more, one.action)
		refused(t, what, resp, err, 400, one.text)
	}
	forced := must[*gitlab.Commit](t)(commit("work", func(o *gitlab.CreateCommitOptions) { o.StartBranch, o.Force = str("main"), gitlab.Ptr(true) }, act(gitlab.FileCreate, "b", content("x"))))
	if main := must[*gitlab.Commit](t)(c.Commits.GetCommit(43, "main", nil)); forced.ParentIDs[0] != main.ID {
		t.Errorf("forced onto %v, not main", forced.ParentIDs)
	}
	_, resp, err = commit("main", func(o *gitlab.CreateCommitOptions) { o.StartBranch, o.Force = str("work"), gitlab.Ptr(true) }, act(gitlab.FileCreate, "c", content("x")))
	refused(t, "a protected branch is rewritten", resp, err, 403, "not allowed to force push")
}

// TestTrailers: they are told in a list that is asked for with them, and
// nowhere else; so is a commit that has some one that the client can read.
func TestTrailers(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x\n"})
	str := gitlab.Ptr[string]
	made := must[*gitlab.Commit](t)(i.client.Commits.CreateCommit(77, &gitlab.CreateCommitOptions{Branch: str("main"), CommitMessage: str("readme: more\n\nCc: one\nCc: two\n"),
		Actions: []*gitlab.CommitActionOptions{{Action: gitlab.Ptr(gitlab.FileUpdate), FilePath: str("README.md"), Content: str("y\n")}}}))
	single := must[*gitlab.Commit](t)(i.client.Commits.GetCommit(77, made.ID, nil))
	list := must[[]*gitlab.Commit](t)(i.client.Commits.ListCommits(77, nil))
	if len(single.Trailers) > 0 || len(list[0].Trailers) > 0 || list[0].ID != made.ID {
		t.Errorf("trailers %v and %v, want none", single.Trailers, list[0].Trailers)
	}
	_, _, body := i.raw("GET", "/api/v4/projects/77/repository/commits?trailers=true&per_page=1", "", "PRIVATE-TOKEN", developerToken)
	if !strings.Contains(body, `"trailers":{"Cc":"two"},"extended_trailers":{"Cc":["one","two"]}`) {
		t.Errorf("the list is %s", body)
	}
}

func TestBranchesTagsAndComparison(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x\n"})
	c, dora, str := i.client, i.as(developerToken), gitlab.Ptr[string]
	branch := func(c *gitlab.Client, name, ref string) (*gitlab.Branch, *gitlab.Response, error) {
		return c.Branches.CreateBranch(77, &gitlab.CreateBranchOptions{Branch: &name, Ref: &ref})
	}
	for n := range 5 {
		must[*gitlab.Branch](t)(branch(dora, fmt.Sprint("feature/", n), "main"))
	}
	_, resp, err := branch(dora, "feature/0", "main")
	refused(t, "a branch again", resp, err, 400, "Branch already exists")
	_, resp, err = branch(dora, "x", "nowhere")
	refused(t, "a branch of nothing", resp, err, 400, "Invalid reference name: nowhere")
	_, resp, err = branch(dora, "a..b", "main")
	refused(t, "a name that git does not take", resp, err, 400, "Branch name is invalid")
	resp, err = dora.Branches.DeleteBranch(77, "main")
	refused(t, "the default branch goes", resp, err, 405, "Cannot remove HEAD branch")

	// Walking by key: the token of the next page comes in the link alone.
	var names []string
	path := "/api/v4/projects/77/repository/branches?pagination=keyset&per_page=2"
	for path != "" {
		_, h, body := i.raw("GET", path, "", "PRIVATE-TOKEN", developerToken)
		names = append(names, body)
		next, _, ok := strings.Cut(strings.TrimPrefix(h.Get("Link"), "<"+i.endpoint), ">; rel=\"next\"")
		if path = ""; ok {
			path = next
		}
		if h.Get("X-Total") != "" {
			t.Error("a keyset has no total")
		}
	}
	if len(names) != 3 || !strings.Contains(names[2], "main") {
		t.Errorf("%d pages", len(names))
	}

	must[*gitlab.ProtectedTag](t)(c.ProtectedTags.ProtectRepositoryTags(77, &gitlab.ProtectRepositoryTagsOptions{Name: str("v*"), CreateAccessLevel: gitlab.Ptr(gitlab.MaintainerPermissions)}))
	tag := func(c *gitlab.Client, name string) (*gitlab.Tag, *gitlab.Response, error) {
		return c.Tags.CreateTag(77, &gitlab.CreateTagOptions{TagName: &name, Ref: str("main"), Message: str("said")})
	}
	_, resp, err = tag(dora, "v1")
	refused(t, "a developer makes a protected tag", resp, err, 403, "not allowed to create this tag")
	if made := must[*gitlab.Tag](t)(tag(c, "v1")); !made.Protected || made.Message != "said" {
		t.Errorf("%+v", made)
	}
	_, resp, err = tag(c, "v1")
	refused(t, "a tag again", resp, err, 400, "Tag v1 already exists")
	resp, err = dora.Tags.DeleteTag(77, "v1")
	refused(t, "a developer deletes a protected tag", resp, err, 403, "not allowed to delete protected tags")

	first := must[*gitlab.Commit](t)(c.Commits.GetCommit(77, "main", nil))
	must[*gitlab.FileInfo](t)(dora.RepositoryFiles.CreateFile(77, "new.txt", &gitlab.CreateFileOptions{Branch: str("feature/1"), Content: str("a\n"), CommitMessage: str("m")}))
	diff := must[*gitlab.Compare](t)(c.Repositories.Compare(77, &gitlab.CompareOptions{From: str("main"), To: str("feature/1")}))
	if len(diff.Commits) != 1 || len(diff.Diffs) != 1 || diff.Diffs[0].NewPath != "new.txt" || !strings.Contains(diff.Diffs[0].Diff, "+a") {
		t.Errorf("%+v", diff)
	}
	if base := must[*gitlab.Commit](t)(c.Repositories.MergeBase(77, &gitlab.MergeBaseOptions{Ref: &[]string{"main", "feature/1"}})); base.ID != first.ID {
		t.Errorf("merge base %s", base.ID)
	}
	if _, err := dora.Branches.DeleteBranch(77, "feature/1"); err != nil {
		t.Error(err)
	}
}

func TestProtectedBranches(t *testing.T) {
	i := start(t)
	dir := i.push("nsflow/orders", map[string]string{"README.md": "x\n"})
	c, dora, rita, str := i.client, i.as(developerToken), i.as(releaseToken), gitlab.Ptr[string]
	protect := func(name string, push, merge gitlab.AccessLevelValue) *gitlab.ProtectedBranch {
		return must[*gitlab.ProtectedBranch](t)(rita.ProtectedBranches.ProtectRepositoryBranches(77, &gitlab.ProtectRepositoryBranchesOptions{Name: &name, PushAccessLevel: &push, MergeAccessLevel: &merge}))
	}
	protect("release/*", gitlab.NoPermissions, gitlab.DeveloperPermissions)
	_, resp, err := rita.ProtectedBranches.ProtectRepositoryBranches(77, &gitlab.ProtectRepositoryBranchesOptions{Name: str("release/*")})
	refused(t, "a protection again", resp, err, 409, "Protected branch 'release/*' already exists")
	_, resp, err = rita.ProtectedBranches.ProtectRepositoryBranches(77, &gitlab.ProtectRepositoryBranchesOptions{Name: str("x"), PushAccessLevel: gitlab.Ptr(gitlab.AccessLevelValue(33))})
	refused(t, "a level that is none", resp, err, 400, "push_access_level does not have a valid value")
	_, resp, err = dora.ProtectedBranches.ListProtectedBranches(77, nil)
	refused(t, "a developer reads protections", resp, err, 403, "403 Forbidden")
	for who, client := range map[string]string{"a developer": developerToken, "a maintainer": releaseToken, "the administrator": adminToken} {
		mustGit(t, dir, "remote", "set-url", "origin", i.url("nsflow/orders", "x", client))
		if out, err := tryGit(t, dir, "push", "origin", "HEAD:refs/heads/release/1"); err == nil || !strings.Contains(out, "not allowed to push code to protected branches") {
			t.Errorf("%s pushes where nobody may: %s", who, out)
		}
	}
	protect("open", gitlab.DeveloperPermissions, gitlab.DeveloperPermissions)
	mustGit(t, dir, "remote", "set-url", "origin", i.url("nsflow/orders", "x", developerToken))
	mustGit(t, dir, "push", "origin", "HEAD:refs/heads/open")
	mustGit(t, dir, "commit", "--quiet", "--amend", "--allow-empty", "-m", "other")
	if out, err := tryGit(t, dir, "push", "--force", "origin", "HEAD:refs/heads/open"); err == nil || !strings.Contains(out, "not allowed to force push") {
		t.Errorf("a rewrite: %s", out)
	}
	must[*gitlab.ProtectedBranch](t)(c.ProtectedBranches.UpdateProtectedBranch(77, "open", &gitlab.UpdateProtectedBranchOptions{AllowForcePush: gitlab.Ptr(true)}))
	mustGit(t, dir, "push", "--force", "origin", "HEAD:refs/heads/open")
	if out, err := tryGit(t, dir, "push", "origin", ":refs/heads/open"); err == nil || !strings.Contains(out, "using the web interface") {
		t.Errorf("a deletion over git: %s", out)
	}
	if _, err := c.ProtectedBranches.UnprotectRepositoryBranches(77, "open"); err != nil {
		t.Fatal(err)
	}
	mustGit(t, dir, "push", "origin", ":refs/heads/open")
	_, resp, err = c.ProtectedBranches.GetProtectedBranch(77, "open")
	refused(t, "a protection that is gone", resp, err, 404, "404 Not found")
	must[*gitlab.ProtectedBranch](t)(c.ProtectedBranches.ProtectRepositoryBranches(77, &gitlab.ProtectRepositoryBranchesOptions{Name: str("dora"), PushAccessLevel: gitlab.Ptr(gitlab.NoPermissions),
		AllowedToPush: &[]*gitlab.BranchPermissionOptions{{UserID: gitlab.Ptr(int64(7))}}}))
	mustGit(t, dir, "push", "origin", "HEAD:refs/heads/dora")
}
