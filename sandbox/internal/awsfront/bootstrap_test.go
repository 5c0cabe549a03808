package awsfront

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	orgtypes "github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"gitlab.com/slipway/slipway/pkg/gitlabapi/gitlabapitest"
)

// program is slipway-bootstrap, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bootstrap-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "slipway-bootstrap")
	cmd := exec.Command("go", "build", "-o", path, "./tools/bootstrap")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &exec.Error{Name: string(out), Err: err}
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// estate is a landscape, and slipway-bootstrap at work on it before the front.
type estate struct {
	*bench
	dir    string
	path   string
	server string // GitLab
	env    []string
}

func newEstate(t *testing.T, s Settings) *estate {
	t.Helper()
	e := &estate{bench: newBench(t, func(c *Config) { c.Settings = s }), dir: t.TempDir()}
	var err error
	if e.path, err = program(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(e.dir, "landscape"), os.DirFS("../../../examples/platform/landscape")); err != nil {
		t.Fatal(err)
	}
	e.server = gitlabServer(t)
	e.as(e.admin.AccessKey, e.admin.SecretKey, "")
	return e
}

// as makes the program run with other credentials.
func (e *estate) as(key, secret, token string) {
	e.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.dir, "AWS_ENDPOINT_URL=" + e.url, "AWS_REGION=" + testRegion, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + key, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_SESSION_TOKEN=" + token,
		"CI_SERVER_URL=" + testIssuer, "SLIPWAY_GITLAB_ENDPOINT=" + e.server, "SLIPWAY_GITLAB_TOKEN=" + gitlabToken,
		"SLIPWAY_BOOTSTRAP_REPORT_DIR=" + filepath.Join(e.dir, "report"), "SLIPWAY_BOOTSTRAP_DIR=" + filepath.Join(e.dir, "landscape")}
}

const gitlabToken = "glpat-admin-0123456789"

// gitlabServer starts a GitLab with the example's projects.
func gitlabServer(t *testing.T) string {
	t.Helper()
	var server *gitlabapitest.Server
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { server.ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	c := gitlabapitest.Config{Root: t.TempDir(), ExternalURL: testIssuer, Endpoint: front.URL, Registry: "127.0.0.1:5000", AdminToken: gitlabToken}
	for id, path := range map[int64]string{42: "nsflow/platform", 43: "nsflow/environments", 77: "nsflow/orders", 78: "nsflow/catalog"} {
		c.Projects = append(c.Projects, gitlabapitest.Project{ID: id, Path: path, DefaultBranch: "main", ProtectedBranches: []string{"main"}})
	}
	var err error
	if server, err = gitlabapitest.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return front.URL
}

// run runs the program and returns its exit code and what it wrote.
func (e *estate) run(args ...string) (int, string) {
	e.t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(e.t.Context(), e.path, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = e.dir, e.env, &out, &out
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		e.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func (e *estate) must(want int, args ...string) string {
	e.t.Helper()
	code, out := e.run(args...)
	if code != want {
		e.t.Fatalf("%v exited with %d, want %d\n%s", args, code, want, out)
	}
	return out
}

// own calls an address of the front's own.
func (b *bench) own(method, path string, in, out any) {
	b.t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		b.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+"/_slipway/"+path, bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s = %s", method, path, resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestBootstrapWaits: accounts take their time, new ones refuse their first
// visitor, and IAM knows a role late; a run goes through all the same.
func TestBootstrapWaits(t *testing.T) {
	e := newEstate(t, Settings{Propagation: Duration(300 * time.Millisecond), AccountCreation: Duration(time.Second), AccountEntry: Duration(time.Second)})
	e.must(0, "apply")
	var log Events
	e.own(http.MethodGet, "calls/log", nil, &log)
	polls, turnedAway := 0, 0
	for _, c := range log.Events {
		if c.Action == "DescribeCreateAccountStatus" {
			polls++
		}
		if c.Action == "AssumeRole" && c.Outcome == outcomeRefused {
			turnedAway++
		}
	}
	if polls <= 4 || turnedAway == 0 {
		t.Errorf("%d looks at the status of four creations, %d refused entries: nothing was waited for", polls, turnedAway)
	}
	e.must(0, "verify")
}

// TestBootstrapSurvivesLostReplies loses the reply of each kind of change
// once. Whether a run fails or not, the next one completes it, and nothing was
// made twice.
func TestBootstrapSurvivesLostReplies(t *testing.T) {
	plain := newEstate(t, Settings{})
	plain.must(0, "apply")
	var log Events
	plain.own(http.MethodGet, "calls/log", nil, &log)
	var changes []string
	for _, c := range log.Events {
		if name := c.Service + ":" + c.Action; c.Mutating && !slices.Contains(changes, name) {
			changes = append(changes, name)
		}
	}
	if len(changes) < 15 {
		t.Fatalf("the run made only %v", changes)
	}
	e := newEstate(t, Settings{})
	for _, name := range changes {
		service, action, _ := strings.Cut(name, ":")
		e.own(http.MethodPost, "faults", Fault{Service: service, Action: action, Kind: faultLostReply, Times: 1}, nil)
	}
	if code, out := e.run("apply"); code != 0 {
		t.Errorf("a run whose replies are lost exits with %d\n%s", code, out)
	}
	var faults []Fault
	e.own(http.MethodGet, "faults", nil, &faults)
	for _, f := range faults {
		if f.Hits != 1 {
			t.Errorf("the reply of %s:%s was lost %d times", f.Service, f.Action, f.Hits)
		}
	}
	e.own(http.MethodDelete, "faults", nil, nil)
	e.must(0, "apply")
	e.must(0, "verify")
	e.nothingTwice()
}

// nothingTwice counts what has no name of its own and could be made twice.
func (e *estate) nothingTwice() {
	e.t.Helper()
	ctx := e.t.Context()
	list, err := organizations.NewFromConfig(e.adminConfig()).ListAccounts(ctx, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	if len(list.Accounts) != 5 {
		e.t.Errorf("%d accounts, want 5", len(list.Accounts))
	}
	keys := map[string]int{"nonprod": 1, "prod": 1, "shared": 2, "security": 2}
	for _, a := range list.Accounts {
		if *a.Id == management {
			continue
		}
		got, err := kms.NewFromConfig(e.in(*a.Id)).ListKeys(ctx, nil)
		if err != nil {
			e.t.Fatal(err)
		}
		if len(got.Keys) != keys[*a.Name] {
			e.t.Errorf("account %s has %d keys, want %d", *a.Name, len(got.Keys), keys[*a.Name])
		}
	}
}

// TestBootstrapTellsWhyAnAccountFailed goes through every reason the API has.
func TestBootstrapTellsWhyAnAccountFailed(t *testing.T) {
	e := newEstate(t, Settings{})
	reasons := orgtypes.CreateAccountFailureReason("").Values()
	if len(reasons) < 15 {
		t.Fatalf("the API has only %v", reasons)
	}
	const email = "aws+nonprod@example.com"
	concurrent, internal := string(orgtypes.CreateAccountFailureReasonConcurrentAccountModification), string(orgtypes.CreateAccountFailureReasonInternalFailure)
	for _, reason := range reasons {
		fails := []string{string(reason)}
		if fails[0] == concurrent || fails[0] == internal { // these pass, and are tried again
			fails = []string{fails[0], fails[0], fails[0]}
		}
		t.Run(string(reason), func(t *testing.T) {
			e.own(http.MethodPut, "settings", Settings{AccountFailures: map[string][]string{email: fails}}, nil)
			if code, out := e.run("apply"); code == 0 || !strings.Contains(out, "making account \"nonprod\": "+string(reason)) || !strings.Contains(out, "hint: ") {
				t.Errorf("exit code %d, and it does not tell the reason or what to do\n%s", code, out)
			}
		})
	}
	e.own(http.MethodPut, "settings", Settings{AccountFailures: map[string][]string{email: {concurrent, internal}}}, nil)
	e.must(0, "apply")
	e.nothingTwice()
}

// TestBootstrapUnderThrottles: at AWS's published rates the SDK's retries and
// ours carry a run through.
func TestBootstrapUnderThrottles(t *testing.T) {
	e := newEstate(t, Settings{Throttle: true})
	e.must(0, "apply")
	var log Events
	e.own(http.MethodGet, "calls/log", nil, &log)
	throttledCalls := 0
	for _, c := range log.Events {
		if c.Outcome == outcomeThrottle {
			throttledCalls++
		}
	}
	t.Logf("%d calls, %d of them throttled", log.Last, throttledCalls)
	if throttledCalls == 0 {
		t.Error("nothing was throttled")
	}
	e.own(http.MethodPut, "settings", Settings{}, nil)
	e.must(0, "verify")
	e.nothingTwice()
}
