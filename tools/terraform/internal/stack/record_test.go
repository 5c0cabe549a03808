package stack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/terraform/internal/stack"
)

func TestCount(t *testing.T) {
	change := func(a ...tfjson.Action) *tfjson.ResourceChange {
		return &tfjson.ResourceChange{Change: &tfjson.Change{Actions: a}}
	}
	plan := &tfjson.Plan{ResourceChanges: []*tfjson.ResourceChange{
		change(tfjson.ActionCreate), change(tfjson.ActionCreate), change(tfjson.ActionUpdate), change(tfjson.ActionDelete),
		change(tfjson.ActionDelete, tfjson.ActionCreate), change(tfjson.ActionCreate, tfjson.ActionDelete),
		change(tfjson.ActionNoop), change(tfjson.ActionRead), {},
	}}
	if got, want := stack.Count(plan), (stack.Counts{Create: 4, Update: 1, Delete: 3}); got != want {
		t.Errorf("Count = %+v, want %+v", got, want)
	}
}

func TestRecordCheck(t *testing.T) {
	o := stack.Options{Stack: "network", Source: "stacks/network", Account: "prod", Landscape: "sha256:l", Commit: "c"}
	good := stack.Record{Schema: stack.RecordSchema, Stack: "network", Source: "stacks/network", Account: "prod", Landscape: "sha256:l", Commit: "c", Plan: "sha256:p"}
	if err := good.Check(o, "sha256:p"); err != nil {
		t.Errorf("Check of the same = %v", err)
	}
	for name, spoil := range map[string]func(*stack.Record){
		"stack":       func(r *stack.Record) { r.Stack = "x" },
		"folder":      func(r *stack.Record) { r.Source = "x" },
		"account":     func(r *stack.Record) { r.Account = "x" },
		"landscape":   func(r *stack.Record) { r.Landscape = "x" },
		"commit":      func(r *stack.Record) { r.Commit = "x" },
		"plan file":   func(r *stack.Record) { r.Plan = "x" },
		"form of the": func(r *stack.Record) { r.Schema = "x" },
	} {
		r := good
		spoil(&r)
		err := r.Check(o, "sha256:p")
		if tool.CodeOf(err) != tool.Refused || !strings.Contains(err.Error(), name) || strings.Count(err.Error(), "planned with") != 1 {
			t.Errorf("Check with another %s = %v (code %d), want one refusal that names it", name, err, tool.CodeOf(err))
		}
	}
}

// TestNameOf: no two folders have one name.
func TestNameOf(t *testing.T) {
	for source, want := range map[string]string{
		"network": "network", "stacks/a/network": "stacks.a.network", "stacks/a-b": "stacks.a-b", "stacks/a/b": "stacks.a.b",
		"stacks/a.b": "", "stacks/Network": "", "stacks/my_network": "", "": "", ".": "", strings.Repeat("a/", 60) + "b": "",
	} {
		if got := stack.NameOf(source); got != want {
			t.Errorf("NameOf(%q) = %q, want %q", source, got, want)
		}
	}
}

func TestSourceOf(t *testing.T) {
	top := t.TempDir()
	deep := filepath.Join(top, "repository", "stacks", "network")
	for _, dir := range []string{deep, filepath.Join(top, "repository", ".git")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{deep: "stacks/network", filepath.Join(top, "repository"): "", top: ""} {
		if got := stack.SourceOf(dir); got != want {
			t.Errorf("SourceOf(%q) = %q, want %q", dir, got, want)
		}
	}
}

func TestBackendConfig(t *testing.T) {
	base := landscape.Backend{Bucket: "b", Region: "eu-central-1", KMSKey: "arn:k", LockTable: "locks"}
	for _, c := range []struct {
		lock   string
		custom bool
		want   string
	}{
		{"s3", false, "bucket=b key=network/terraform.tfstate region=eu-central-1 encrypt=true kms_key_id=arn:k use_lockfile=true"},
		{"dynamodb", false, "bucket=b key=network/terraform.tfstate region=eu-central-1 encrypt=true kms_key_id=arn:k dynamodb_table=locks"},
		{"both", true, "bucket=b key=network/terraform.tfstate region=eu-central-1 encrypt=true kms_key_id=arn:k use_lockfile=true dynamodb_table=locks use_path_style=true"},
	} {
		b := base
		b.Lock = c.lock
		o := stack.Options{Stack: "network", Backend: b, CustomEndpoint: c.custom}
		if got := strings.Join(o.BackendConfig(), " "); got != c.want {
			t.Errorf("BackendConfig with lock %s = %s, want %s", c.lock, got, c.want)
		}
	}
}

func TestChildEnv(t *testing.T) {
	job := map[string]string{"PATH": "/bin", "CI_JOB_TOKEN": "t", "SLIPWAY_ID_TOKEN": "t", "TF_CLI_ARGS": "-lock=false", "TF_VAR_x": "1", "AWS_PROFILE": "p"}
	got := stack.ChildEnv(func(n string) string { return job[n] }, stack.Credentials{ID: "i", Secret: "s", Token: "t"}, "eu-central-1")
	want := map[string]string{"PATH": "/bin", "CHECKPOINT_DISABLE": "1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "eu-central-1",
		"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
	if len(got) != len(want) {
		t.Errorf("the child gets %v, want %v", got, want)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %q, want %q", k, got[k], v)
		}
	}
}
