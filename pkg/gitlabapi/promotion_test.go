package gitlabapi_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/gitlabapi/gitlabapitest"
	"gitlab.com/slipway/slipway/pkg/tool"
)

const maintainer = "glpat-release-0123456789"

// instance starts a GitLab with one project and one commit, and returns its
// address and the commit.
func instance(t *testing.T) (endpoint, sha string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint = "http://" + listener.Addr().String()
	server, err := gitlabapitest.New(gitlabapitest.Config{Root: t.TempDir(), ExternalURL: "https://gitlab.example.com", Endpoint: endpoint,
		Registry: "127.0.0.1:5000", AdminToken: "glpat-admin-0123456789",
		Users:    []gitlabapitest.User{{ID: 8, Login: "rita", Name: "Rita", Email: "rita@example.com", Token: maintainer, AccessLevel: 40}},
		Projects: []gitlabapitest.Project{{ID: 77, Path: "nsflow/orders", DefaultBranch: "main", ProtectedBranches: []string{"main"}}}})
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: server}
	go func() { _ = h.Serve(listener) }()
	t.Cleanup(func() { server.Close(); _ = h.Close() })
	cmd := exec.Command("sh", "-ec", "git init --quiet -b main . && echo a > README && git add . && git -c user.name=Bob -c user.email=bob@example.com commit --quiet -m first && "+
		"git push --quiet http://rita:"+maintainer+"@"+listener.Addr().String()+"/nsflow/orders.git main && git rev-parse HEAD")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return endpoint, strings.TrimSpace(string(out))
}

func TestDeployments(t *testing.T) {
	endpoint, sha := instance(t)
	c, err := gitlabapi.New(gitlabapi.Config{URL: "https://gitlab.example.com", Endpoint: endpoint, Token: maintainer})
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Deploy(t.Context(), 77, gitlabapi.Deployment{Environment: "stage", SHA: sha, Ref: "main", Status: "success"})
	if err != nil || made.ID == 0 || made.Finished.IsZero() {
		t.Fatalf("Deploy = %+v, %v", made, err)
	}
	if _, err := c.Deploy(t.Context(), 77, gitlabapi.Deployment{Environment: "stage", SHA: sha, Ref: "main", Status: "failed"}); err != nil {
		t.Fatal(err)
	}
	list, err := c.Deployments(t.Context(), 77, "stage")
	if err != nil || len(list) != 1 || list[0].ID != made.ID || list[0].SHA != sha || list[0].Environment != "stage" {
		t.Errorf("Deployments = %+v, %v; want the successful one", list, err)
	}
	if list, err := c.Deployments(t.Context(), 77, "prod"); err != nil || len(list) != 0 {
		t.Errorf("Deployments of another environment = %+v, %v", list, err)
	}
	commit, err := c.Commit(t.Context(), 77, sha)
	if err != nil || commit.AuthorEmail != "bob@example.com" || commit.AuthorName != "Bob" {
		t.Errorf("Commit = %+v, %v", commit, err)
	}
	if _, err := c.Commit(t.Context(), 77, strings.Repeat("0", 40)); !gitlabapi.NotFound(err) {
		t.Errorf("Commit of nothing = %v", err)
	}
}

// TestDeployAgain: a record that an earlier attempt has made is not made twice,
// and an older one of the same commit is another deployment's.
func TestDeployAgain(t *testing.T) {
	endpoint, sha := instance(t)
	c, err := gitlabapi.New(gitlabapi.Config{URL: "https://gitlab.example.com", Endpoint: endpoint, Token: maintainer})
	if err != nil {
		t.Fatal(err)
	}
	d := gitlabapi.Deployment{Environment: "stage", SHA: sha, Ref: "main", Status: "success", Finished: time.Now().Add(-time.Minute)}
	first, err := c.Deploy(t.Context(), 77, d)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Deploy(t.Context(), 77, d); err != nil || again.ID != first.ID {
		t.Errorf("Deploy again = %+v, %v; want deployment %d", again, err, first.ID)
	}
	failed := d
	failed.Status = "failed"
	later := d
	later.Finished = first.Finished.Add(time.Second)
	for _, other := range []gitlabapi.Deployment{failed, later} {
		if got, err := c.Deploy(t.Context(), 77, other); err != nil || got.ID == first.ID {
			t.Errorf("Deploy of %+v = %+v, %v; want a record of its own", other, got, err)
		}
	}
}

func TestDenied(t *testing.T) {
	endpoint, sha := instance(t)
	c, err := gitlabapi.New(gitlabapi.Config{Endpoint: endpoint, Token: "glpat-wrong-0123456789"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Deploy(t.Context(), 77, gitlabapi.Deployment{Environment: "stage", SHA: sha, Ref: "main", Status: "success"})
	if tool.CodeOf(err) != tool.Denied {
		t.Errorf("Deploy with a wrong token = %v (code %d), want 77", err, tool.CodeOf(err))
	}
	if _, err := c.Trigger(t.Context(), 77, "wrong", "main", map[string]string{"service": "orders"}); err == nil {
		t.Error("Trigger with a wrong token starts a pipeline")
	}
}

// TestTriggerUnanswered: of a trigger whose reply is lost nobody knows what it
// did.
func TestTriggerUnanswered(t *testing.T) {
	endpoint, _ := instance(t)
	for _, fault := range []faultproxy.Fault{faultproxy.DropAfter(), faultproxy.Status(http.StatusBadGateway)} {
		proxy, err := faultproxy.Start(faultproxy.Config{Part: faultproxy.GitLab(), Upstream: endpoint,
			Rules: []faultproxy.Rule{{Match: faultproxy.Match{Method: "POST", Path: ".*/trigger/pipeline"}, Fault: fault}}})
		if err != nil {
			t.Fatal(err)
		}
		client, err := gitlabapi.New(gitlabapi.Config{Endpoint: proxy.URL, Token: maintainer})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Trigger(t.Context(), 77, maintainer, "main", nil); tool.CodeOf(err) != tool.Broken {
			t.Errorf("%s: %v (code %d), want code 6", fault, err, tool.CodeOf(err))
		}
		proxy.Close()
	}
}
