package gitlabapitest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// refused checks that a call was answered with a code and a text. Of a 404, the client does not tell the text.
func refused(t *testing.T, what string, resp *gitlab.Response, err error, code int, text string) {
	t.Helper()
	got := 0
	if resp != nil {
		got = resp.StatusCode
	}
	if err == nil || got != code || code != http.StatusNotFound && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %d, %v; want %d, %q", what, got, err, code, text)
	}
}

func must[T any](t *testing.T) func(v T, _ *gitlab.Response, err error) T {
	t.Helper()
	return func(v T, _ *gitlab.Response, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// raw sends a request as it is, and returns the answer's code, headers and body.
func (i *instance) raw(method, path, body string, headers ...string) (int, http.Header, string) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), method, i.endpoint+path, bytes.NewBufferString(body))
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for n := 0; n+1 < len(headers); n += 2 {
		req.Header.Set(headers[n], headers[n+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

// control sends a command of the administrator to the control endpoint.
func (i *instance) control(method, path string, body any) {
	i.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		i.t.Fatal(err)
	}
	if code, _, said := i.raw(method, "/-/slipway/"+path, string(data), "PRIVATE-TOKEN", adminToken); code != http.StatusOK {
		i.t.Fatalf("%s %s: %d %s", method, path, code, said)
	}
}

// await waits until something holds, which is asked again whenever the server's state has changed.
func (i *instance) await(what string, holds func() bool) {
	i.t.Helper()
	changes, stop := i.subscribe()
	defer stop()
	for !holds() {
		select {
		case <-changes:
		case <-i.t.Context().Done():
			i.t.Fatalf("waiting until %s: the test is over", what)
		}
	}
}

// mergeable waits until the check of a merge request has ended, and returns its detailed status.
func (i *instance) mergeable(project any, iid int64) string {
	i.t.Helper()
	status := ""
	i.await("the check has ended", func() bool {
		mr := must[*gitlab.MergeRequest](i.t)(i.client.MergeRequests.GetMergeRequest(project, iid, nil))
		status = mr.DetailedMergeStatus
		return status != "checking" && status != "unchecked"
	})
	return status
}

func TestTokenScopesRolesAndEnds(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	token := func(scopes ...string) string {
		made := must[*gitlab.ProjectAccessToken](t)(i.client.ProjectAccessTokens.CreateProjectAccessToken(77, &gitlab.CreateProjectAccessTokenOptions{
			Name: gitlab.Ptr("bot"), Scopes: &scopes, AccessLevel: gitlab.Ptr(gitlab.MaintainerPermissions)}))
		if made.Token == "" || made.UserID == 0 || made.ExpiresAt == nil {
			t.Fatalf("%+v", made)
		}
		return made.Token
	}
	reader, all, puller := i.as(token("read_api")), i.as(token("api")), token("read_repository")
	if _, _, err := reader.Projects.GetProject(77, nil); err != nil {
		t.Errorf("read_api reads: %v", err)
	}
	_, resp, err := reader.Projects.EditProject(77, &gitlab.EditProjectOptions{Description: gitlab.Ptr("x")})
	refused(t, "read_api writes", resp, err, 403, "insufficient_scope")
	_, resp, err = i.as(puller).Projects.GetProject(77, nil)
	refused(t, "read_repository reads the API", resp, err, 403, "insufficient_scope")
	if _, _, err := i.as(puller).RepositoryFiles.GetRawFile(77, "README.md", nil); err != nil {
		t.Errorf("read_repository reads a file: %v", err)
	}
	dir := t.TempDir()
	if out, err := tryGit(t, dir, "clone", i.url("nsflow/orders", "x", puller), "copy"); err != nil {
		t.Errorf("read_repository clones: %s", out)
	}
	if out, err := tryGit(t, dir+"/copy", "push", "origin", "HEAD:refs/heads/other"); err == nil {
		t.Errorf("read_repository pushes: %s", out)
	}
	if out, err := tryGit(t, dir+"/copy", "push", i.url("nsflow/orders", "x", token("write_repository")), "HEAD:refs/heads/other"); err != nil {
		t.Errorf("write_repository pushes: %s", out)
	}
	_, resp, err = all.Projects.GetProject(78, nil)
	refused(t, "a project's token in another project", resp, err, 404, "404 Project Not Found")

	self := must[*gitlab.PersonalAccessToken](t)(all.PersonalAccessTokens.GetSinglePersonalAccessToken())
	if !self.Active || self.ExpiresAt == nil || self.Scopes[0] != "api" {
		t.Errorf("own token: %+v", self)
	}
	i.control("PUT", "clock", map[string]any{"now": i.now().AddDate(2, 0, 0)})
	_, resp, err = all.Projects.GetProject(77, nil)
	refused(t, "a token after its end", resp, err, 401, "Token is expired")
	i.control("PUT", "clock", map[string]any{})
	if _, err := all.PersonalAccessTokens.RevokePersonalAccessTokenSelf(); err != nil {
		t.Fatal(err)
	}
	_, resp, err = all.Projects.GetProject(77, nil)
	refused(t, "a token that was revoked", resp, err, 401, "Token was revoked")

	for what, one := range map[string]struct {
		options gitlab.CreateProjectAccessTokenOptions
		text    string
	}{
		"an unknown scope": {gitlab.CreateProjectAccessTokenOptions{Name: gitlab.Ptr("x"), Scopes: &[]string{"everything"}}, "scopes does not have a valid value"},
		"no scope":         {gitlab.CreateProjectAccessTokenOptions{Name: gitlab.Ptr("x")}, "scopes is missing"},
		"an end in the past": {gitlab.CreateProjectAccessTokenOptions{Name: gitlab.Ptr("x"), Scopes: &[]string{"api"},
			ExpiresAt: gitlab.Ptr(gitlab.ISOTime(i.now().AddDate(0, 0, -1)))}, "must be in the future"},
	} {
		_, resp, err := i.client.ProjectAccessTokens.CreateProjectAccessToken(77, &one.options)
		refused(t, what, resp, err, 400, one.text)
	}
}

func TestRolesOfAProject(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	dora := i.as(developerToken)
	level := func(l gitlab.AccessLevelValue) {
		t.Helper()
		if _, _, err := i.client.ProjectMembers.AddProjectMember(77, &gitlab.AddProjectMemberOptions{UserID: int64(7), AccessLevel: &l}); err != nil {
			if _, _, err = i.client.ProjectMembers.EditProjectMember(77, 7, &gitlab.EditProjectMemberOptions{AccessLevel: &l}); err != nil {
				t.Fatal(err)
			}
		}
	}
	branch := func() (*gitlab.Response, error) {
		_, resp, err := dora.Branches.CreateBranch(77, &gitlab.CreateBranchOptions{Branch: gitlab.Ptr("b"), Ref: gitlab.Ptr("main")})
		return resp, err
	}
	level(gitlab.ReporterPermissions)
	resp, err := branch()
	refused(t, "a reporter makes a branch", resp, err, 403, "403 Forbidden")
	level(gitlab.GuestPermissions)
	_, resp, err = dora.Environments.ListEnvironments(77, nil)
	refused(t, "a guest lists environments", resp, err, 403, "403 Forbidden")
	if out, err := tryGit(t, t.TempDir(), "ls-remote", i.url("nsflow/orders", "x", developerToken)); err == nil {
		t.Errorf("a guest reads the code of a private project: %s", out)
	}
	level(gitlab.MaintainerPermissions)
	if _, _, err := dora.ProjectVariables.ListVariables(77, nil); err != nil {
		t.Errorf("a maintainer reads variables: %v", err)
	}
	_, resp, err = dora.ProjectVariables.ListVariables(78, nil)
	refused(t, "a maintainer of one project in another", resp, err, 403, "403 Forbidden")
	_, resp, err = dora.ProjectMembers.EditProjectMember(77, 7, &gitlab.EditProjectMemberOptions{AccessLevel: gitlab.Ptr(gitlab.OwnerPermissions)})
	refused(t, "a maintainer makes an owner", resp, err, 403, "403 Forbidden")
	_, resp, err = i.client.ProjectMembers.AddProjectMember(77, &gitlab.AddProjectMemberOptions{UserID: int64(7), AccessLevel: gitlab.Ptr(gitlab.DeveloperPermissions)})
	refused(t, "a member is added again", resp, err, 409, "Member already exists")
}

func TestRateLimitsAndFaults(t *testing.T) {
	i := start(t)
	version := func() (int, http.Header, string) {
		return i.raw("GET", "/api/v4/version", "", "PRIVATE-TOKEN", developerToken)
	}
	if _, h, _ := version(); h.Get("RateLimit-Limit") != "" {
		t.Error("headers of a limit that is not set")
	}
	i.control("PUT", "limits", map[string]any{"api": limit{Requests: 2, Seconds: 60}})
	for n, remaining := range []string{"1", "0"} {
		if code, h, _ := version(); code != 200 || h.Get("RateLimit-Remaining") != remaining || h.Get("RateLimit-Limit") != "2" || h.Get("RateLimit-Reset") == "" {
			t.Errorf("request %d: %d %v", n, code, h)
		}
	}
	code, h, body := version()
	if code != 429 || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || body != "Retry later\n" || h.Get("Retry-After") == "" || h.Get("RateLimit-ResetTime") == "" {
		t.Errorf("one too many: %d %v %q", code, h, body)
	}
	if code, _, _ := i.raw("GET", "/api/v4/version", "", "PRIVATE-TOKEN", releaseToken); code != 200 {
		t.Errorf("another caller: %d", code)
	}
	i.control("PUT", "clock", map[string]any{"now": i.now().Add(61e9)})
	if code, _, _ := version(); code != 200 {
		t.Errorf("after the period: %d", code)
	}
	i.control("PUT", "limits", map[string]any{})

	i.control("POST", "faults", fault{Kind: "bad_gateway", Method: "GET", Path: "/version$", Skip: 1, Count: 1})
	for n, want := range []int{200, 502, 200} {
		if code, h, body := version(); code != want || want == 502 && (!strings.Contains(body, "<html>") || !strings.HasPrefix(h.Get("Content-Type"), "text/html")) {
			t.Errorf("request %d: %d %q", n, code, body)
		}
	}
	i.control("DELETE", "faults", nil)
	i.control("POST", "faults", fault{Kind: "maintenance"})
	if code, _, body := i.raw("GET", "/oauth/discovery/keys", ""); code != 503 || !strings.Contains(body, "Deploy in progress") {
		t.Errorf("maintenance: %d %q", code, body)
	}
	i.control("DELETE", "faults", nil)
	i.control("POST", "faults", fault{Kind: "read_only"})
	_, resp, err := i.client.Projects.EditProject(77, &gitlab.EditProjectOptions{Description: gitlab.Ptr("x")})
	refused(t, "a write to a read-only instance", resp, err, 503, "read-only instance")
	if _, _, err := i.client.Projects.GetProject(77, nil); err != nil {
		t.Errorf("a read of a read-only instance: %v", err)
	}
	i.control("DELETE", "faults", nil)
	i.control("POST", "faults", fault{Kind: "rate_limit", Count: 1})
	if code, h, body := version(); code != 429 || h.Get("RateLimit-Remaining") != "0" || body != "Retry later\n" {
		t.Errorf("a limit on demand: %d %v %q", code, h, body)
	}
	for what, body := range map[string]string{"a kind that is none": `{"kind":"fire"}`, "a path that is no expression": `{"kind":"bad_gateway","path":"("}`, "an unknown field": `{"kin":"x"}`} {
		if code, _, _ := i.raw("POST", "/-/slipway/faults", body, "PRIVATE-TOKEN", adminToken); code != 400 {
			t.Errorf("%s: %d", what, code)
		}
	}
	if code, _, _ := i.raw("DELETE", "/-/slipway/faults", "", "PRIVATE-TOKEN", releaseToken); code != 403 {
		t.Errorf("a maintainer removes faults: %d", code)
	}
}
