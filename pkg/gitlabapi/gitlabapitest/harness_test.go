package gitlabapitest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

const (
	adminToken     = "glpat-admin-0123456789"
	developerToken = "glpat-developer-0123456789"
	releaseToken   = "glpat-release-0123456789"
)

type instance struct {
	*Server
	t        *testing.T
	endpoint string
	client   *gitlab.Client
	stop     func()
	config   Config
}

func testConfig(t *testing.T, root string) Config {
	t.Helper()
	c := Config{
		Root: root, ExternalURL: "https://gitlab.example.com", Registry: "127.0.0.1:5000", AdminToken: adminToken,
		Users: []User{
			{ID: 7, Login: "dora", Name: "Dora", Email: "dora@example.com", Token: developerToken, AccessLevel: 30},
			{ID: 8, Login: "rita", Name: "Rita", Email: "rita@example.com", Token: releaseToken, AccessLevel: 40},
		},
		Projects: []Project{
			{ID: 10, Path: "slipway/slipway", DefaultBranch: "main", ProtectedBranches: []string{"main"}, Public: true},
			{ID: 42, Path: "nsflow/platform", DefaultBranch: "main", ProtectedBranches: []string{"main"}, JobTokenAllowlist: []int64{77}},
			{ID: 43, Path: "nsflow/environments", DefaultBranch: "main", ProtectedBranches: []string{"main"}, JobTokenAllowlist: []int64{77}, PushForJobToken: true},
			{ID: 77, Path: "nsflow/orders", DefaultBranch: "main", ProtectedBranches: []string{"main"}, SubClaimComponents: []string{"project_id", "ref_protected", "ref_type", "ref"}},
			{ID: 78, Path: "nsflow/catalog", DefaultBranch: "main", ProtectedBranches: []string{"main"}},
		},
	}
	if command := os.Getenv("SLIPWAY_GITLAB_CI_LOCAL"); command != "" {
		c.Runner.Command = strings.Fields(command)
	}
	return c
}

// serve starts a server on a folder; stop ends it, so that another can be started on the same one.
func serve(t *testing.T, config Config, listener net.Listener) *instance {
	t.Helper()
	config.Endpoint = "http://" + listener.Addr().String()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: s}
	go func() { _ = h.Serve(listener) }()
	client, err := gitlab.NewClient(adminToken, gitlab.WithBaseURL(config.Endpoint), gitlab.WithoutRetries())
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{Server: s, t: t, endpoint: config.Endpoint, client: client, config: config}
	i.stop = func() {
		s.Close()
		_ = h.Close()
	}
	t.Cleanup(i.stop)
	return i
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func start(t *testing.T) *instance {
	t.Helper()
	return serve(t, testConfig(t, t.TempDir()), listen(t))
}

// startWithRunner needs gitlab-ci-local.
func startWithRunner(t *testing.T) *instance {
	t.Helper()
	needRunner(t)
	return start(t)
}

func needRunner(t *testing.T) {
	t.Helper()
	if os.Getenv("SLIPWAY_GITLAB_CI_LOCAL") != "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("SLIPWAY_GITLAB_CI_LOCAL names no gitlab-ci-local")
	}
	t.Skip("SLIPWAY_GITLAB_CI_LOCAL names no gitlab-ci-local")
}

func (i *instance) as(token string) *gitlab.Client {
	i.t.Helper()
	c, err := gitlab.NewClient(token, gitlab.WithBaseURL(i.endpoint), gitlab.WithoutRetries())
	if err != nil {
		i.t.Fatal(err)
	}
	return c
}

func (i *instance) url(project, user, password string) string {
	login := ""
	if user != "" {
		login = user + ":" + password + "@"
	}
	return strings.Replace(i.endpoint, "://", "://"+login, 1) + "/" + project + ".git"
}

func tryGit(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), plainGit()...), "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.com", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.com")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(t, dir, args...)
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(out)
}

// commitFiles makes a working copy with files and one commit, not pushed.
func (i *instance) commitFiles(project string, files map[string]string) string {
	i.t.Helper()
	dir := i.t.TempDir()
	mustGit(i.t, dir, "init", "--quiet", "-b", "main")
	mustGit(i.t, dir, "remote", "add", "origin", i.url(project, "oauth2", adminToken))
	i.add(dir, files, "first commit")
	return dir
}

func (i *instance) add(dir string, files map[string]string, message string) {
	i.t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			i.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			i.t.Fatal(err)
		}
	}
	mustGit(i.t, dir, "add", ".")
	mustGit(i.t, dir, "commit", "--quiet", "-m", message)
}

func (i *instance) push(project string, files map[string]string) string {
	i.t.Helper()
	dir := i.commitFiles(project, files)
	mustGit(i.t, dir, "push", "--quiet", "origin", "HEAD")
	return dir
}

func (i *instance) latest(project any) *gitlab.PipelineInfo {
	i.t.Helper()
	list, _, err := i.client.Pipelines.ListProjectPipelines(project, nil)
	if err != nil || len(list) == 0 {
		i.t.Fatalf("no pipeline: %v", err)
	}
	full, _, err := i.client.Pipelines.GetPipeline(project, list[0].ID)
	if err != nil {
		i.t.Fatal(err)
	}
	if full.YamlErrors != "" {
		i.t.Log(full.YamlErrors)
	}
	return list[0]
}

type event struct {
	Pipeline int64  `json:"pipeline"`
	Job      int64  `json:"job"`
	Name     string `json:"name"`
	Status   string `json:"status"`
}

// follow reads the event stream until it ends, or until seen says stop.
func (i *instance) follow(pipeline int64, seen func(event) bool) []event {
	i.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.endpoint+"/-/slipway/pipelines/"+id(pipeline)+"/events", nil)
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("PRIVATE-TOKEN", adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		i.t.Fatalf("events: %s", resp.Status)
	}
	var all []event
	for d := json.NewDecoder(resp.Body); ; {
		var e event
		if d.Decode(&e) != nil {
			return all
		}
		all = append(all, e)
		if seen != nil && seen(e) {
			return all
		}
	}
}

func (i *instance) jobs(project any, pipeline int64) map[string]*gitlab.Job {
	i.t.Helper()
	list, _, err := i.client.Jobs.ListPipelineJobs(project, pipeline, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	out := map[string]*gitlab.Job{}
	for _, j := range list {
		out[j.Name] = j
	}
	return out
}

func (i *instance) log(project any, job int64) string {
	i.t.Helper()
	r, _, err := i.client.Jobs.GetTraceFile(project, job)
	if err != nil {
		i.t.Fatal(err)
	}
	data := make([]byte, r.Len())
	_, _ = r.Read(data)
	return string(data)
}

func (i *instance) get(path string, into any) {
	i.t.Helper()
	resp, err := http.Get(i.endpoint + path)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		i.t.Fatal(err)
	}
}
