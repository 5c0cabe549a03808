package gitlabapitest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestReleases(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	rita, dora, str := i.as(releaseToken), i.as(developerToken), gitlab.Ptr[string]
	create := func(c *gitlab.Client, tag, ref string, links ...*gitlab.ReleaseAssetLinkOptions) (*gitlab.Release, *gitlab.Response, error) {
		o := &gitlab.CreateReleaseOptions{TagName: &tag, Description: str("notes"), Assets: &gitlab.ReleaseAssetsOptions{Links: links}}
		if ref != "" {
			o.Ref = &ref
		}
		return c.Releases.CreateRelease(77, o)
	}
	_, resp, err := create(dora, "v1", "")
	refused(t, "a release of nothing", resp, err, 422, "Ref is not specified")
	_, resp, err = create(dora, "v1", "gone")
	refused(t, "a release of no commit", resp, err, 400, "Target gone is invalid")
	made := must[*gitlab.Release](t)(create(dora, "v1", "main", &gitlab.ReleaseAssetLinkOptions{Name: str("report"), URL: str("https://example.com/r")}))
	if made.Commit.ID == "" || len(made.Assets.Links) != 1 || made.Author.Username != "dora" {
		t.Errorf("%+v", made)
	}
	must[*gitlab.Tag](t)(dora.Tags.GetTag(77, "v1"))
	_, resp, err = create(dora, "v1", "main")
	refused(t, "a release again", resp, err, 409, "Release already exists")
	link := func(name, url string) (*gitlab.ReleaseLink, *gitlab.Response, error) {
		return dora.ReleaseLinks.CreateReleaseLink(77, "v1", &gitlab.CreateReleaseLinkOptions{Name: &name, URL: &url})
	}
	_, resp, err = link("report", "https://example.com/other")
	refused(t, "a name again", resp, err, 400, "Name has already been taken")
	_, resp, err = link("other", "javascript:alert(1)")
	refused(t, "an address that is none", resp, err, 400, "Only allowed schemes")
	second := must[*gitlab.ReleaseLink](t)(link("image", "https://example.com/i"))
	if _, _, err := dora.ReleaseLinks.DeleteReleaseLink(77, "v1", second.ID); err != nil {
		t.Fatal(err)
	}
	_, resp, err = dora.ReleaseLinks.GetReleaseLink(77, "v1", second.ID)
	refused(t, "a link that is gone", resp, err, 404, "404")
	if latest := must[*gitlab.Release](t)(dora.Releases.GetLatestRelease(77)); latest.TagName != "v1" {
		t.Errorf("%+v", latest)
	}
	must[*gitlab.ProtectedTag](t)(rita.ProtectedTags.ProtectRepositoryTags(77, &gitlab.ProtectRepositoryTagsOptions{Name: str("v*")}))
	_, resp, err = dora.Releases.UpdateRelease(77, "v1", &gitlab.UpdateReleaseOptions{Description: str("other")})
	refused(t, "a developer changes the release of a protected tag", resp, err, 403, "403 Forbidden")
	if _, _, err := rita.Releases.DeleteRelease(77, "v1"); err != nil {
		t.Fatal(err)
	}
	must[*gitlab.Tag](t)(dora.Tags.GetTag(77, "v1"))
}

// tf sends a request as Terraform's http backend does.
func (i *instance) tf(method, path, body, user, password string) (int, http.Header, string) {
	i.t.Helper()
	return i.raw(method, "/api/v4/projects/77/terraform/state/"+path, body, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func lockOf(id string) string {
	data, _ := json.Marshal(tfLock{ID: id, Operation: "OperationTypeApply", Who: "somebody@somewhere", Version: "1.11.4", Created: "2026-01-01T00:00:00Z"})
	return string(data)
}

func TestTerraformStateAndItsLock(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	want := func(what string, code int, text, method, path, body, password string) string {
		t.Helper()
		got, _, said := i.tf(method, path, body, "rita", password)
		if got != code || !strings.Contains(said, text) {
			t.Errorf("%s: %d %q; want %d, %q", what, got, said, code, text)
		}
		return said
	}
	want("nobody", 401, "401 Unauthorized", "GET", "prod", "", "wrong")
	want("a state that is not there", 404, "404 Not found", "GET", "prod", "", releaseToken)
	want("a developer locks", 403, "403 Forbidden", "POST", "prod/lock", lockOf("one"), developerToken)
	want("a lock without all of it", 400, "Operation is missing", "POST", "prod/lock", `{"ID":"x"}`, releaseToken)
	want("a lock", 200, `"Who":"rita"`, "POST", "prod/lock", lockOf("one"), releaseToken)
	said := want("a lock that is held", 409, `"ID":"one"`, "POST", "prod/lock", lockOf("two"), adminToken)
	var held tfLock
	if json.Unmarshal([]byte(said), &held) != nil || held.Who != "rita" || held.Version != "1.11.4" || held.Created == "" {
		t.Errorf("the lock that is held: %s", said)
	}
	want("a state that was only locked", 204, "", "GET", "prod", "", releaseToken)
	want("a state without the lock", 409, `"ID":"one"`, "POST", "prod", `{"serial":1}`, adminToken)
	want("a state with another lock", 409, `"ID":"one"`, "POST", "prod?ID=two", `{"serial":1}`, adminToken)
	want("a state with the lock", 200, "", "POST", "prod?ID=one", `{"serial":1,"n":1}`, releaseToken)
	want("the next one", 200, "", "POST", "prod?ID=one", `{"serial":2,"n":2}`, releaseToken)
	want("a serial again", 422, "422", "POST", "prod?ID=one", `{"serial":2}`, releaseToken)
	want("what is no state", 422, "422", "POST", "prod?ID=one", `nonsense`, releaseToken)
	want("what is too large", 413, "413", "POST", "prod?ID=one", `{"serial":3,"x":"`+strings.Repeat("x", tfStateLimit)+`"}`, releaseToken)
	want("a developer reads", 200, `"n":2`, "GET", "prod", "", developerToken)
	want("a version", 200, `"n":1`, "GET", "prod/versions/1", "", developerToken)
	want("a version that is none", 404, "404", "GET", "prod/versions/9", "", developerToken)
	want("another's unlock", 409, `"ID":"one"`, "DELETE", "prod/lock", lockOf("two"), adminToken)
	want("a deletion of what is locked", 409, `"ID":"one"`, "DELETE", "prod", "", adminToken)
	want("an unlock", 200, "", "DELETE", "prod/lock", lockOf("one"), releaseToken)
	want("a lock to break", 200, "", "POST", "prod/lock", lockOf("three"), releaseToken)
	if _, err := i.as(releaseToken).TerraformStates.Unlock(77, "prod"); err != nil {
		t.Errorf("a forced unlock: %v", err)
	}
	r := must[io.ReadCloser](t)(i.as(releaseToken).TerraformStates.DownloadLatest(77, "prod"))
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != `{"serial":2,"n":2}` {
		t.Errorf("%s, %v", data, err)
	}
	want("a deletion", 200, "", "DELETE", "prod", "", releaseToken)
	want("a state that is gone", 404, "404", "GET", "prod", "", releaseToken)
}

// What a job token may do beyond TestJobTokenLimits: releases and state by its user's rights, notes to read alone.
func TestJobTokenDetails(t *testing.T) {
	i := startWithRunner(t)
	dir := t.TempDir()
	gate := filepath.Join(dir, "gate")
	mustRun(t, "mkfifo", gate)
	i.push("nsflow/catalog", map[string]string{"README.md": "x"})
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "hold: {rules: [{if: '$CI_PIPELINE_SOURCE == \"api\"'}], script: ['echo $CI_JOB_TOKEN > " + dir + "/token', 'read line < " + gate + "']}\n"})
	pl := must[*gitlab.Pipeline](t)(i.as(releaseToken).Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main")}))
	token := strings.TrimSpace(i.waitFor(filepath.Join(dir, "token")))
	c, err := gitlab.NewJobClient(token, gitlab.WithBaseURL(i.endpoint), gitlab.WithoutRetries())
	if err != nil {
		t.Fatal(err)
	}
	i.branchWith(i.client, 77, "change", "b", "x")
	mr := i.request(i.client, 77, "change")
	must[*gitlab.Note](t)(i.client.Notes.CreateMergeRequestNote(77, mr.IID, &gitlab.CreateMergeRequestNoteOptions{Body: gitlab.Ptr("hello")}))
	if notes := must[[]*gitlab.Note](t)(c.Notes.ListMergeRequestNotes(77, mr.IID, nil)); len(notes) != 1 {
		t.Errorf("%v", notes)
	}
	_, resp, err := c.Notes.CreateMergeRequestNote(77, mr.IID, &gitlab.CreateMergeRequestNoteOptions{Body: gitlab.Ptr("x")})
	refused(t, "a note", resp, err, 401, "401 Unauthorized")
	_, resp, err = c.MergeRequests.AcceptMergeRequest(77, mr.IID, nil)
	refused(t, "a merge", resp, err, 401, "401 Unauthorized")
	_, resp, err = c.FreezePeriods.ListFreezePeriods(77, nil)
	refused(t, "freeze periods", resp, err, 404, "404")
	_, resp, err = c.ProjectVariables.ListVariables(77, nil)
	refused(t, "variables", resp, err, 404, "404")
	_, resp, err = c.ResourceGroup.GetAllResourceGroupsForAProject(77)
	refused(t, "resource groups", resp, err, 404, "404")
	must[*gitlab.Release](t)(c.Releases.CreateRelease(77, &gitlab.CreateReleaseOptions{TagName: gitlab.Ptr("v1"), Ref: gitlab.Ptr("main")}))
	if code, _, body := i.tf("POST", "dev/lock", lockOf("one"), "gitlab-ci-token", token); code != 200 || !strings.Contains(body, `"Who":"rita"`) {
		t.Errorf("a lock by the job: %d %s", code, body)
	}
	if code, _, _ := i.raw("POST", "/api/v4/projects/77/terraform/state/dev/lock", lockOf("one"), "JOB-TOKEN", token); code != 401 {
		t.Errorf("a lock with the token in a header: %d", code)
	}

	// A group on the allow-list lets its projects in; without it they stay out.
	_, resp, err = c.Releases.ListReleases(78, nil)
	refused(t, "a project that does not allow it", resp, err, 403, "not allowed from nsflow/orders to nsflow/catalog")
	group := must[*gitlab.Project](t)(i.client.Projects.GetProject(78, nil)).Namespace.ID
	must[*gitlab.JobTokenAllowlistItem](t)(i.client.JobTokenScope.AddGroupToJobTokenAllowlist(78, &gitlab.AddGroupToJobTokenAllowlistOptions{TargetGroupID: &group}))
	if _, _, err := c.Releases.ListReleases(78, nil); err != nil {
		t.Errorf("a project that allows the group: %v", err)
	}
	// The token may no more than who started the job.
	i.mu.Lock()
	i.st.Projects[78].Members[8] = 0
	i.mu.Unlock()
	_, resp, err = c.Releases.ListReleases(78, nil)
	refused(t, "a project whose member the user is not", resp, err, 404, "404")
	mustRun(t, "sh", "-c", "echo go > "+gate)
	i.follow(pl.ID, nil)
}

// The real program keeps its state here, is refused while another holds the lock, and goes on afterwards.
func TestTerraformItselfKeepsItsState(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	i := start(t)
	address := i.endpoint + "/api/v4/projects/77/terraform/state/prod"
	dir := t.TempDir()
	config := "terraform {\n  backend \"http\" {\n    address = \"" + address + "\"\n    lock_address = \"" + address + "/lock\"\n    unlock_address = \"" + address + "/lock\"\n" +
		"    lock_method = \"POST\"\n    unlock_method = \"DELETE\"\n    username = \"rita\"\n    retry_max = 0\n  }\n}\nresource \"terraform_data\" \"one\" { input = \"kept\" }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "terraform", append(args, "-no-color", "-input=false")...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "TF_HTTP_PASSWORD="+releaseToken)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{{"init"}, {"apply", "-auto-approve"}} {
		if out, err := run(args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if code, _, body := i.tf("GET", "prod", "", "rita", releaseToken); code != 200 || !strings.Contains(body, "terraform_data") {
		t.Errorf("the state: %d %s", code, body)
	}
	if code, _, body := i.tf("POST", "prod/lock", lockOf("someone-elses"), "root", adminToken); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if out, err := run("apply", "-auto-approve"); err == nil || !strings.Contains(out, "someone-elses") || !strings.Contains(out, "root") {
		t.Errorf("an apply under another's lock: %v\n%s", err, out)
	}
	if code, _, _ := i.tf("DELETE", "prod/lock", lockOf("someone-elses"), "root", adminToken); code != 200 {
		t.Errorf("the unlock: %d", code)
	}
	if out, err := run("apply", "-auto-approve"); err != nil || !strings.Contains(out, "No changes") {
		t.Errorf("an apply afterwards: %v\n%s", err, out)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range i.st.TFStates {
		if s.Lock != nil || len(s.Versions) == 0 {
			t.Errorf("what is left: %+v", s)
		}
	}
}
