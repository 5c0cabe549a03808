package gitrepo_test

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/pkg/gitlabapi/gitlabapitest"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/gitrepo"
)

const releaseToken = "glpat-release-0123456789"

// overHTTP starts a GitLab server with the environments project.
func overHTTP(t *testing.T) (endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint = "http://" + listener.Addr().String()
	server, err := gitlabapitest.New(gitlabapitest.Config{Root: t.TempDir(), ExternalURL: "https://gitlab.example.com", Endpoint: endpoint,
		Registry: "127.0.0.1:5000", AdminToken: "glpat-admin-0123456789",
		Users: []gitlabapitest.User{{ID: 8, Login: "rita", Name: "Rita", Email: "rita@example.com", Token: releaseToken, AccessLevel: 40},
			{ID: 9, Login: "rob", Name: "Rob", Email: "rob@example.com", Token: "glpat-reporter-0123456789", AccessLevel: 20}},
		Projects: []gitlabapitest.Project{{ID: 43, Path: "nsflow/environments", DefaultBranch: "main", ProtectedBranches: []string{"main"}}}})
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: server}
	go func() { _ = h.Serve(listener) }()
	t.Cleanup(func() { server.Close(); _ = h.Close() })
	sh(t, t.TempDir(), "git init --quiet -b main . && echo a > README && git add . && git -c user.name=a -c user.email=a@b commit --quiet -m first && "+
		"git push --quiet http://rita:"+releaseToken+"@"+listener.Addr().String()+"/nsflow/environments.git main")
	return endpoint
}

// TestOverHTTP clones from and pushes to a GitLab server with a credential
// that stands in no URL.
func TestOverHTTP(t *testing.T) {
	url := overHTTP(t) + "/nsflow/environments.git"
	remote := gitrepo.Remote{URL: url, Branch: "main", User: "rita", Token: releaseToken, Email: "slipway@gitlab.example.com"}
	var log bytes.Buffer
	r, err := gitrepo.Clone(t.Context(), remote, os.Getenv, &log)
	if err != nil {
		t.Fatal(err)
	}
	commit, err := r.Commit(t.Context(), "promote", put("stage/orders.desired.yaml", "a\n"))
	if err != nil || commit == "" {
		t.Errorf("Commit = %q, %v", commit, err)
	}
	if strings.Contains(log.String(), releaseToken) || strings.Contains(log.String(), remote.Header()) {
		t.Errorf("the log shows the credential: %s", log.String())
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}

	for name, token := range map[string]string{"a wrong token": "glpat-wrong-0123456789", "no token": ""} {
		remote.Token = token
		if _, err := gitrepo.Clone(t.Context(), remote, os.Getenv, &log); tool.CodeOf(err) != tool.Denied {
			t.Errorf("%s: %v (code %d), want 77", name, err, tool.CodeOf(err))
		}
	}
	remote.User, remote.Token = "rob", "glpat-reporter-0123456789"
	r, err = gitrepo.Clone(t.Context(), remote, os.Getenv, &log)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Commit(t.Context(), "promote", put("stage/orders.desired.yaml", "b\n")); tool.CodeOf(err) != tool.Denied {
		t.Errorf("a reporter's push: %v (code %d), want 77", err, tool.CodeOf(err))
	}
}

// TestReplyLost: a push whose reply is lost was done, or is worth a retry; which
// of the two, the remote says.
func TestReplyLost(t *testing.T) {
	for name, c := range map[string]struct {
		fault faultproxy.Fault
		code  int
	}{"after it was done": {faultproxy.DropAfter(), 0}, "before it was done": {faultproxy.DropBefore(), tool.Temporary}} {
		t.Run(name, func(t *testing.T) {
			proxy, err := faultproxy.Start(faultproxy.Config{Part: faultproxy.GitLab(), Upstream: overHTTP(t),
				Rules: []faultproxy.Rule{{Match: faultproxy.Match{Method: "POST", Path: ".*git-receive-pack"}, Fault: c.fault}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(proxy.Close)
			var log bytes.Buffer
			r, err := gitrepo.Clone(t.Context(), gitrepo.Remote{URL: proxy.URL + "/nsflow/environments.git", Branch: "main", User: "rita", Token: releaseToken, Email: "slipway@gitlab.example.com"}, os.Getenv, &log)
			if err != nil {
				t.Fatalf("%v\n%s", err, log.String())
			}
			defer r.Close()
			commit, err := r.Commit(t.Context(), "promote", put("stage/orders.desired.yaml", "a\n"))
			if tool.CodeOf(err) != c.code || (commit != "") != (c.code == 0) {
				t.Errorf("Commit = %q, %v (code %d), want code %d\n%s", commit, err, tool.CodeOf(err), c.code, log.String())
			}
		})
	}
}
