package stack

import (
	"errors"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// What terraform 1.11 prints, with its line breaks.
const (
	lockHead = "exit status 1\n\nError: Error acquiring the state lock\n\nError message: "
	lockTail = `
Terraform acquires a state lock to protect the state from being written
by multiple users at the same time. Please resolve the issue above and try
again. For most commands, you can disable locking with the "-lock=false"
flag, but this is not recommended.
`
	lockDenied = lockHead + `operation error S3: PutObject, https response error
StatusCode: 403, RequestID: R, HostID: , api error AccessDenied: Access to it
is not given
unable to retrieve file from S3 bucket 'tfstate-nonprod' with key
'network/terraform.tfstate.tflock': operation error S3: GetObject, https
response error StatusCode: 403, RequestID: R, HostID: , api error
AccessDenied: Access to it is not given
` + lockTail
	lockSlow = lockHead + `operation error S3: PutObject, exceeded maximum number of
attempts, 1, https response error StatusCode: 503, RequestID: R, HostID: ,
api error SlowDown: Access to it is not given
unable to retrieve file from S3 bucket 'tfstate-nonprod' with key
'network/terraform.tfstate.tflock': operation error S3: GetObject, exceeded
maximum number of attempts, 1, https response error StatusCode: 503,
RequestID: R, HostID: , api error SlowDown: Access to it is not given
` + lockTail
	lockCut = lockHead + `operation error S3: PutObject, exceeded maximum number of
attempts, 5, https response error StatusCode: 0, RequestID: , HostID: ,
request send failed, Put "https://s3.example.com/b/k.tflock": dial tcp
192.0.2.1:443: connect: connection
refused
` + lockTail
	lockOdd  = lockHead + "a thing that nobody knows\n" + lockTail
	lockHeld = lockHead + `operation error S3: PutObject, https response error
StatusCode: 412, RequestID: R, HostID: , api error PreconditionFailed: At
least one of the pre-conditions you specified did not hold
Lock Info:
  ID:        11111111-2222-3333-4444-555555555555
  Path:      b/network/terraform.tfstate
  Operation: OperationTypeApply
  Who:       runner@pod-7
` + lockTail
	initDenied = `exit status 1

Error: Error refreshing state: Unable to access object "network/terraform.tfstate" in S3 bucket "tfstate-nonprod": operation error S3: HeadObject, https response error StatusCode: 403, RequestID: , HostID: , api error Forbidden: Forbidden
`
	initCut = `exit status 1

Error: Failed to get existing workspaces: Unable to list objects in S3 bucket "tfstate-nonprod" with prefix "env:/": operation error S3: ListObjectsV2, exceeded maximum number of attempts, 1, https response error StatusCode: 0, RequestID: , HostID: , request send failed, Get "http://127.0.0.1:29105/tfstate-nonprod?list-type=2&max-keys=1000&prefix=env%3A%2F": dial tcp 127.0.0.1:29105: connect: connection refused
`
	throttled = `exit status 1

Error: reading IAM Role (app): operation error IAM: GetRole, exceeded maximum number of attempts, 25, https response error StatusCode: 400, RequestID: R, api error Throttling: Rate exceeded

  with aws_iam_role.app,
  on main.tf line 5, in resource "aws_iam_role" "app":
   5: resource "aws_iam_role" "app" {
`
	mistake = `
Error: Reference to undeclared input variable

  on main.tf line 4, in resource "terraform_data" "a":
   4: resource "terraform_data" "a" { input = var.nowhere }
`
	nested = `exit status 1

Error: local-exec provisioner error

  with terraform_data.bad,
Error running command 'terraform apply': exit status 1. Output:
` + lockHead + "StatusCode: 503\n" + lockTail
)

// TestExplain: the code of what terraform printed, in a step that changes
// nothing and in an apply. 1 of an apply without a code of ours becomes 6.
func TestExplain(t *testing.T) {
	p := &Program{options: Options{Binary: "terraform", Dir: "/d"}}
	for name, c := range map[string]struct {
		text        string
		plan, apply int
		coded       bool // in an apply
		says        string
	}{
		"lock held":          {lockHeld, tool.Undecidable, tool.Undecidable, true, "ID 11111111-2222-3333-4444-555555555555"},
		"lock held, boxed":   {boxed(lockHeld), tool.Undecidable, tool.Undecidable, true, "Who runner@pod-7"},
		"lock denied":        {lockDenied, tool.Denied, tool.Denied, true, "taking the lock of the state: operation error S3: PutObject, https response error StatusCode: 403"},
		"lock denied, boxed": {boxed(lockDenied), tool.Denied, tool.Denied, true, "api error AccessDenied: Access to it is not given"},
		"lock slow":          {lockSlow, tool.Temporary, tool.Failed, true, "api error SlowDown"},
		"lock without net":   {lockCut, tool.Temporary, tool.Failed, true, "connection refused"},
		"lock, odd":          {lockOdd, tool.Failed, tool.Failed, true, "taking the lock of the state: a thing that nobody knows"},
		"init denied":        {initDenied, tool.Denied, tool.Failed, false, "StatusCode: 403"},
		"init without net":   {initCut, tool.Temporary, tool.Failed, false, "connection refused"},
		"throttled":          {throttled, tool.Temporary, tool.Failed, false, "Rate exceeded"},
		"mistake":            {"exit status 1\n" + mistake, tool.Failed, tool.Failed, false, "undeclared input variable"},
		"throttled, mistake": {throttled + mistake, tool.Failed, tool.Failed, false, "undeclared input variable"},
		"throttled, denied":  {throttled + initDenied, tool.Denied, tool.Failed, false, "StatusCode: 403"},
		"a lock of another":  {nested, tool.Failed, tool.Failed, false, "local-exec provisioner error"},
		"nothing printed":    {"signal: killed\n", tool.Failed, tool.Failed, false, "signal: killed"},
	} {
		cause := errors.New(c.text)
		plan, apply := untouched(p.explain(cause)), applied(p.explain(cause))
		var own *tool.Error
		if tool.CodeOf(plan) != c.plan || tool.CodeOf(apply) != c.apply || errors.As(apply, &own) != c.coded {
			t.Errorf("%s: plan ends with %d, apply with %d (coded %t); want %d, %d (%t)", name, tool.CodeOf(plan), tool.CodeOf(apply), own != nil, c.plan, c.apply, c.coded)
		}
		if !errors.Is(plan, cause) || !strings.Contains(plan.Error(), c.says) || strings.Contains(plan.Error(), "acquires a state lock") {
			t.Errorf("%s: %q does not keep its cause or say %q", name, plan, c.says)
		}
		if got := strings.Contains(strings.Join(tool.HintsOf(plan), "\n"), "force-unlock"); got != (c.plan == tool.Undecidable) {
			t.Errorf("%s: the hints are %q", name, tool.HintsOf(plan))
		}
	}
}

// boxed is the text as terraform draws it with colours on: beside a bar.
func boxed(text string) string {
	return "╷\n│ " + strings.ReplaceAll(text, "\n", "\n│ ") + "\n╵\n"
}
