package cmd_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"gitlab.com/slipway/slipway/internal/mototest"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/terraform/internal/cmd"
)

const stackText = `terraform {
  backend "s3" {}
}
variable "account" { type = string }
variable "size" {
  type    = number
  default = 1
}
resource "terraform_data" "a" { input = var.account }
resource "terraform_data" "b" { input = var.size }
output "account" { value = terraform_data.a.output }
output "secret" {
  value     = "s3cr3t-value"
  sensitive = true
}
`

// world is a stack, a landscape and an AWS emulator with a state bucket.
type world struct {
	t      *testing.T
	dir    string
	bucket string
	env    map[string]string
	s3     *s3.Client
}

func newWorld(t *testing.T) *world {
	endpoint := mototest.Start(t)
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ENDPOINT_URL", endpoint)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "testtest")
	w := &world{t: t, dir: t.TempDir(), bucket: "tfstate-" + strings.ToLower(rand.Text())}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("eu-central-1"))
	if err != nil {
		t.Fatal(err)
	}
	w.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := w.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &w.bucket,
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-central-1"}}); err != nil {
		t.Fatal(err)
	}
	snapshot := landscape.Snapshot{APIVersion: "slipway/v1", Kind: "LandscapeSnapshot", Name: "nsflow", Region: "eu-central-1",
		Accounts: map[string]landscape.Account{"nonprod": {ID: "222222222222", Backend: &landscape.Backend{Bucket: w.bucket, Region: "eu-central-1", Lock: "s3"}}},
		Roles:    []landscape.Role{{Name: "platform-plan", Account: "nonprod", Purpose: "plan"}, {Name: "platform-apply", Account: "nonprod", Purpose: "apply"}}}
	raw, err := json.Marshal(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	w.write("snapshot.json", string(raw))
	w.write(".git/HEAD", "ref: refs/heads/main\n") // the stacks' names are their paths from here
	w.write("network/main.tf", stackText)
	w.env = map[string]string{"PATH": os.Getenv("PATH"), "HOME": t.TempDir(), "AWS_ENDPOINT_URL": endpoint,
		"CI_COMMIT_SHA": "c0ffee", "SLIPWAY_LANDSCAPE": filepath.Join(w.dir, "snapshot.json"),
		"SLIPWAY_TERRAFORM_OUT": filepath.Join(w.dir, "plan"), "SLIPWAY_TERRAFORM_REPORT_DIR": filepath.Join(w.dir, "report")}
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// run runs the program and checks its exit code.
func (w *world) run(code int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	all := append([]string{"slipway-terraform", args[0], "--dir", filepath.Join(w.dir, "network"), "--account", "nonprod"}, args[1:]...)
	got := tool.Start(context.Background(), all, func(n string) string { return w.env[n] }, tool.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, "test", cmd.Program())
	if got != code {
		w.t.Fatalf("%v exited with %d, want %d\n%s\n%s", args, got, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func want(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q is not in\n%s", part, text)
	}
}

func TestPlanApply(t *testing.T) {
	w := newWorld(t)
	w.run(64, "apply") // no plan yet
	out, _ := w.run(3, "plan", "--detailed-exitcode")
	want(t, out, "stack network in account nonprod: 2 to add, 0 to change, 0 to destroy")
	report, err := os.ReadFile(filepath.Join(w.dir, "plan", "tfplan.json"))
	if err != nil || string(report) != `{"create":2,"update":0,"delete":0}`+"\n" {
		t.Errorf("tfplan.json is %q, %v", report, err)
	}
	for _, f := range []string{"plan.tfplan", "plan.json"} {
		info, err := os.Stat(filepath.Join(w.dir, "plan", f))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", f, info, err)
		}
	}
	out, log := w.run(0, "apply")
	want(t, out, "applied (2 to add, 0 to change, 0 to destroy), read back: nothing left to change, 2 outputs")
	if strings.Contains(out+log, "s3cr3t-value") {
		t.Error("a sensitive output is in the log")
	}
	head, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &w.bucket, Key: aws.String("network/terraform.tfstate")})
	if err != nil || aws.ToInt64(head.ContentLength) == 0 {
		t.Errorf("the state is not in the bucket: %v", err)
	}
	_, log = w.run(4, "apply") // the same plan a second time
	want(t, log, "the state has changed since the plan was made")

	out, _ = w.run(0, "plan", "--detailed-exitcode")
	want(t, out, "nothing to change")
	out, _ = w.run(0, "apply")
	want(t, out, "nothing to change")

	w.write("big.tfvars", "size = 2\n")
	out, _ = w.run(0, "plan", "--var-file", filepath.Join(w.dir, "big.tfvars"))
	want(t, out, "0 to add, 1 to change, 0 to destroy")
	out, _ = w.run(0, "apply", "--var-file", filepath.Join(w.dir, "big.tfvars"))
	want(t, out, "applied (0 to add, 1 to change, 0 to destroy)")
}

// TestStacksOfOneBaseName: two folders of one name are two stacks, each with a
// state of its own.
func TestStacksOfOneBaseName(t *testing.T) {
	w := newWorld(t)
	for _, dir := range []string{"stacks/a/network", "stacks/b/network"} {
		w.write(dir+"/main.tf", stackText)
		out, _ := w.run(0, "plan", "--dir", filepath.Join(w.dir, dir))
		want(t, out, "2 to add, 0 to change, 0 to destroy")
		w.run(0, "apply", "--dir", filepath.Join(w.dir, dir))
		key := strings.ReplaceAll(dir, "/", ".") + "/terraform.tfstate"
		if _, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &w.bucket, Key: &key}); err != nil {
			t.Errorf("the state is not in %q: %v", key, err)
		}
	}
	w.run(0, "plan", "--dir", filepath.Join(w.dir, "stacks/a/network"), "--stack", "network")
	_, log := w.run(4, "apply", "--dir", filepath.Join(w.dir, "stacks/b/network"), "--stack", "network")
	want(t, log, `folder: planned with "stacks/a/network", here is "stacks/b/network"`)
}

func TestApplyRefusesAnotherPlan(t *testing.T) {
	w := newWorld(t)
	w.run(0, "plan")
	w.env["CI_COMMIT_SHA"] = "decaf"
	_, log := w.run(4, "apply")
	want(t, log, `commit: planned with "c0ffee", here is "decaf"`)
	w.env["CI_COMMIT_SHA"] = "c0ffee"
	w.write("plan/plan.tfplan", "something else")
	_, log = w.run(4, "apply")
	want(t, log, "plan file: planned with")
}

func TestLockHeld(t *testing.T) {
	w := newWorld(t)
	_, err := w.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &w.bucket, Key: aws.String("network/terraform.tfstate.tflock"),
		Body: strings.NewReader(`{"ID":"11111111-2222-3333-4444-555555555555","Operation":"OperationTypeApply","Who":"runner@pod-7","Version":"1.11.4","Created":"2026-11-20T10:00:00Z","Path":"x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	_, log := w.run(9, "plan", "--lock-timeout", "0s")
	want(t, log, "the state is locked, and it cannot be told whether its holder lives: ID 11111111-2222-3333-4444-555555555555")
	// The commands that are printed are those that work.
	var commands []string
	for _, m := range regexp.MustCompile(`(?m)^hint: (terraform .*)$`).FindAllStringSubmatch(log, -1) {
		commands = append(commands, m[1])
	}
	if len(commands) != 2 || !strings.HasSuffix(commands[1], " force-unlock 11111111-2222-3333-4444-555555555555") {
		t.Fatalf("the commands are %q", commands)
	}
	commands[1] = strings.Replace(commands[1], "force-unlock", "force-unlock -force", 1) // nobody answers its question here
	sh := exec.Command("sh", "-ec", strings.Join(commands, "\n"))
	sh.Dir = w.dir
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
	w.run(0, "plan", "--lock-timeout", "0s")
	want(t, log, "Who runner@pod-7")
}

// TestLockNotToBeHad: a lock that AWS does not give is nobody's. TestExplain has
// the cases in which the backend tries again for half a minute.
func TestLockNotToBeHad(t *testing.T) {
	w := newWorld(t)
	upstream, err := url.Parse(w.env["AWS_ENDPOINT_URL"])
	if err != nil {
		t.Fatal(err)
	}
	status, code := 0, ""
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".tflock") {
			proxy.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/xml")
		rw.WriteHeader(status)
		fmt.Fprintf(rw, "<Error><Code>%s</Code><Message>not given</Message></Error>", code)
	}))
	t.Cleanup(s.Close)
	for _, c := range []struct {
		verb   string
		status int
		code   string
		exit   int
	}{{"plan", 403, "AccessDenied", 77}, {"apply", 403, "AccessDenied", 77}, {"apply", 400, "Curious", 1}} {
		status, code = c.status, c.code
		if c.verb == "apply" { // a plan that fails takes the one before away
			w.env["AWS_ENDPOINT_URL"] = upstream.String()
			w.run(0, "plan")
		}
		w.env["AWS_ENDPOINT_URL"] = s.URL
		_, log := w.run(c.exit, c.verb, "--lock-timeout", "0s")
		want(t, log, "taking the lock of the state: ")
		want(t, log, c.code)
		if strings.Contains(log, "force-unlock") {
			t.Errorf("%s, %s: it says to give up a lock that nobody has:\n%s", c.verb, c.code, log)
		}
	}
}

// TestChildSeesNoToken runs a stack that prints its environment.
func TestChildSeesNoToken(t *testing.T) {
	w := newWorld(t)
	w.env["SLIPWAY_GITLAB_TOKEN"] = "gitlab-token-0123456789"
	w.write("network/main.tf", `terraform {
  backend "s3" {}
}
resource "terraform_data" "env" {
  provisioner "local-exec" {
    command = "env | cut -d= -f1 | sort > `+filepath.Join(w.dir, "env.txt")+`"
  }
}
`)
	w.run(0, "plan")
	w.run(0, "apply")
	raw, err := os.ReadFile(filepath.Join(w.dir, "env.txt"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, string(raw), "AWS_ACCESS_KEY_ID\n")
	for _, bad := range []string{"CI_COMMIT_SHA", "SLIPWAY_GITLAB_TOKEN", "SLIPWAY_LANDSCAPE"} {
		if strings.Contains(string(raw), bad) {
			t.Errorf("the child sees %s", bad)
		}
	}
}

func TestApplyThatFailsOnItsWay(t *testing.T) {
	w := newWorld(t)
	w.write("network/main.tf", `terraform {
  backend "s3" {}
}
resource "terraform_data" "done" {}
resource "terraform_data" "bad" {
  depends_on = [terraform_data.done]
  provisioner "local-exec" { command = "exit 9" }
}
`)
	w.run(0, "plan")
	_, log := w.run(6, "apply")
	want(t, log, "local-exec provisioner error")
}

// TestStateThatCannotBeSaved takes the bucket away while an apply runs: what was
// made is known only to the file that terraform leaves, and the error names it.
func TestStateThatCannotBeSaved(t *testing.T) {
	w := newWorld(t)
	w.write("network/main.tf", `terraform {
  backend "s3" {}
}
resource "terraform_data" "made" {
  provisioner "local-exec" {
    command = "touch applying; while [ ! -e bucket-gone ]; do sleep 0.1; done"
  }
}
`)
	w.run(0, "plan")
	gone := make(chan error, 1)
	go func() { gone <- w.dropBucket(filepath.Join(w.dir, "network")) }()
	_, log := w.run(6, "apply")
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	errored := filepath.Join(w.dir, "network", "errored.tfstate")
	want(t, log, "the state could not be saved: it is in \""+errored+"\"")
	want(t, log, "hint: terraform -chdir=network init -reconfigure -backend-config=bucket="+w.bucket+" -backend-config=key=network/terraform.tfstate")
	want(t, log, "hint: terraform -chdir=network state push errored.tfstate")
	if raw, err := os.ReadFile(errored); err != nil || !strings.Contains(string(raw), `"made"`) {
		t.Errorf("%s holds %s, %v", errored, raw, err)
	}
}

// dropBucket waits for an apply in dir and takes its bucket away.
func (w *world) dropBucket(dir string) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(dir, "applying")); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	list, err := w.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &w.bucket})
	if err != nil {
		return err
	}
	for _, o := range list.Contents {
		if _, err := w.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &w.bucket, Key: o.Key}); err != nil {
			return err
		}
	}
	if _, err := w.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &w.bucket}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bucket-gone"), nil, 0o600)
}

func TestMistakesOfAStackAllAtOnce(t *testing.T) {
	w := newWorld(t)
	w.write("network/main.tf", `terraform {
  backend "s3" {}
}
resource "terraform_data" "a" { input = var.nowhere }
resource "terraform_data" "b" { inptu = 1 }
`)
	_, log := w.run(64, "plan")
	want(t, log, "2 problems")
	want(t, log, "main.tf:4:")
	want(t, log, "main.tf:5:")
}
