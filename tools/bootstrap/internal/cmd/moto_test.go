package cmd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"gitlab.com/slipway/slipway/internal/mototest"
	"gitlab.com/slipway/slipway/pkg/gitlabapi/gitlabapitest"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/cmd"
)

// world is a landscape and an AWS emulator behind a counter of calls. The
// emulator takes no trail whose bucket lies in another account, so the audit
// account is the management account here; the sandbox has them apart.
type world struct {
	t          *testing.T
	dir        string
	management string
	env        map[string]string

	mu       sync.Mutex
	mutating []string
}

const gitlabToken = "glpat-admin-0123456789"

// newGitLab starts a GitLab whose projects nobody has set up, and returns its address.
func newGitLab(t *testing.T) string {
	t.Helper()
	address, end, err := startGitLab(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return address
}

func startGitLab(dir string) (address string, end func(), err error) {
	var server *gitlabapitest.Server
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { server.ServeHTTP(rw, r) }))
	c := gitlabapitest.Config{Root: dir, ExternalURL: "https://gitlab.example.com", Endpoint: front.URL, Registry: "127.0.0.1:5000", AdminToken: gitlabToken}
	for id, path := range map[int64]string{42: "nsflow/platform", 43: "nsflow/environments", 77: "nsflow/orders", 78: "nsflow/catalog"} {
		c.Projects = append(c.Projects, gitlabapitest.Project{ID: id, Path: path, DefaultBranch: "main", ProtectedBranches: []string{"main"}})
	}
	if server, err = gitlabapitest.New(c); err != nil {
		front.Close()
		return "", nil, err
	}
	return front.URL, func() { front.Close(); server.Close() }, nil
}

// administrator makes a user of the management account and returns its
// configuration.
func administrator(ctx context.Context, endpoint, management string) (aws.Config, error) {
	as := func(id, secret string) (aws.Config, error) {
		return config.LoadDefaultConfig(ctx, config.WithBaseEndpoint(endpoint), config.WithRegion("eu-central-1"),
			config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(id, secret, "")))
	}
	cfg, err := as("seed", "seedseed")
	if err != nil {
		return cfg, err
	}
	api := iam.NewFromConfig(cfg, func(o *iam.Options) {
		o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("x-moto-account-id", management))
	})
	if _, err := api.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("admin")}); err != nil {
		return cfg, err
	}
	key, err := api.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("admin")})
	if err != nil {
		return cfg, err
	}
	return as(*key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey)
}

// files are those of the example landscape, in a management account.
func files(management string) (map[string]string, error) {
	out := map[string]string{}
	for _, name := range []string{"landscape.yaml", "services/orders.yaml", "services/catalog.yaml"} {
		raw, err := os.ReadFile("../../../../examples/platform/landscape/" + name)
		if err != nil {
			return nil, err
		}
		out[name] = strings.NewReplacer("111111111111", management, "account: security}", "account: management}").Replace(string(raw))
	}
	return out, nil
}

func newWorld(t *testing.T) *world {
	backend, err := url.Parse(mototest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir(), management: fmt.Sprintf("9%011d", rand.Int64N(1e11))}
	proxy := httputil.NewSingleHostReverseProxy(backend)
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.count(r)
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	cfg, err := administrator(t.Context(), front.URL, w.management)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ENDPOINT_URL", front.URL)
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ACCESS_KEY_ID", admin.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", admin.SecretAccessKey)
	w.env = map[string]string{"AWS_ENDPOINT_URL": front.URL, "CI_SERVER_URL": "https://gitlab.example.com", "SLIPWAY_GITLAB_ENDPOINT": newGitLab(t),
		"SLIPWAY_GITLAB_TOKEN": gitlabToken, "SLIPWAY_BOOTSTRAP_REPORT_DIR": filepath.Join(w.dir, "report"),
		"SLIPWAY_BOOTSTRAP_DIR": filepath.Join(w.dir, "landscape")}
	texts, err := files(w.management)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		w.write(name, text)
	}
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, "landscape", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	raw, err := os.ReadFile(filepath.Join(w.dir, "landscape", name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(raw)
}

// count notes calls that are not known to only read.
func (w *world) count(r *http.Request) {
	name := r.Header.Get("X-Amz-Target")
	if i := strings.LastIndex(name, "."); i >= 0 {
		name = name[i+1:]
	}
	if name == "" && r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			w.t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		form, _ := url.ParseQuery(string(raw))
		name = form.Get("Action")
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	for _, verb := range []string{"Get", "List", "Describe", "Assume"} {
		reads = reads || strings.HasPrefix(name, verb)
	}
	if !reads {
		w.mu.Lock()
		w.mutating = append(w.mutating, r.Method+" "+r.URL.Path+" "+name)
		w.mu.Unlock()
	}
}

// run runs the program, checks its exit code, and returns its output and the
// mutating calls it made.
func (w *world) run(code int, args ...string) (string, string, []string) {
	w.t.Helper()
	w.mu.Lock()
	w.mutating = nil
	w.mu.Unlock()
	var out, errs bytes.Buffer
	got := tool.Start(context.Background(), append([]string{"slipway-bootstrap"}, args...), func(n string) string { return w.env[n] },
		tool.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, "test", cmd.Program())
	if got != code {
		w.t.Fatalf("%v exited with %d, want %d\n%s\n%s", args, got, code, out.String(), errs.String())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return out.String(), errs.String(), w.mutating
}

func want(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q is not in\n%s", part, text)
	}
}
