package awsfront

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	orgtypes "github.com/aws/aws-sdk-go-v2/service/organizations/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// TestThrottles: beyond its rate each service refuses in its own words, per
// account, until time gives tokens back; and the SDK retries each of them.
func TestThrottles(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	member := b.account("nonprod")
	cfg := b.in(member)
	org := organizations.NewFromConfig(b.adminConfig())
	calls := map[string]struct {
		burst int
		code  string
		call  func() error
	}{
		"organizations": {2, "TooManyRequestsException", func() error {
			_, err := org.ListRoots(ctx, nil)
			return err
		}},
		"iam": {40, "Throttling", func() error { _, err := iam.NewFromConfig(cfg).ListRoles(ctx, nil); return err }},
		"kms": {5, "ThrottlingException", func() error { _, err := kms.NewFromConfig(cfg).CreateKey(ctx, nil); return err }},
		"ssm": {3, "ThrottlingException", func() error {
			_, err := ssm.NewFromConfig(cfg).PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String("/x"), Value: aws.String("v"), Type: "String", Overwrite: aws.Bool(true)})
			return err
		}},
	}
	b.clock.stop() // no token comes back meanwhile
	b.own(http.MethodPut, "settings", Settings{Throttle: true}, nil)
	for name, tt := range calls {
		t.Run(name, func(t *testing.T) {
			for range tt.burst {
				if err := tt.call(); err != nil {
					t.Fatal(err)
				}
			}
			err := tt.call()
			wantCode(t, err, tt.code)
			if !retry.NewStandard().IsErrorRetryable(err) {
				t.Errorf("the SDK does not retry %v", err)
			}
			b.clock.move(time.Second)
			wantCode(t, tt.call(), "")
		})
	}
	for service, want := range map[string]string{"s3": "SlowDown", "ec2": "RequestLimitExceeded", "sts": "Throttling", "eks": "ThrottlingException", "cloudtrail": "ThrottlingException"} {
		if got := throttled(service); got.code != want || !throttleCodes[got.code] {
			t.Errorf("%s says %v", service, got)
		}
	}
}

// fault asks for a fault.
func (b *bench) fault(f Fault) {
	b.t.Helper()
	b.own(http.MethodPost, "faults", f, nil)
}

// last returns the newest calls of an action, oldest first.
func (b *bench) last(action string) []Event {
	b.t.Helper()
	var log Events
	b.own(http.MethodGet, "calls/log", nil, &log)
	var out []Event
	for _, e := range log.Events {
		if e.Action == action {
			out = append(out, e)
		}
	}
	return out
}

// TestFaults: a reply is lost and the call was done, a request is lost and it
// was not, an error is answered, an answer takes its time; each as often as it
// was asked for, and kept with the call.
func TestFaults(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	member := b.account("nonprod")
	cfg := b.in(member)
	client := kms.NewFromConfig(cfg)
	count := func() int {
		t.Helper()
		out, err := client.ListKeys(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Keys)
	}
	create := func() error { _, err := client.CreateKey(ctx, nil); return err }

	b.fault(Fault{Service: "kms", Action: "CreateKey", Kind: faultLostReply, Skip: 1, Times: 1})
	wantCode(t, create(), "")
	if err := create(); err == nil || strings.Contains(code(err), "Exception") || count() != 2 {
		t.Errorf("a lost reply: %v, %d keys", err, count())
	}
	wantCode(t, create(), "")
	b.fault(Fault{Service: "*", Action: "Create*", Kind: faultLostRequest, Times: 1})
	if err := create(); err == nil || count() != 3 {
		t.Errorf("a lost request: %v, %d keys", err, count())
	}
	b.fault(Fault{Service: "kms", Action: "CreateKey", Kind: faultError, Code: "KMSInternalException", Status: 500, Message: "so it is", Times: 1})
	refusedAs(t, create(), 500, "KMSInternalException", "so it is")
	b.fault(Fault{Service: "kms", Action: "CreateKey", Kind: faultError, Times: 1})
	wantCode(t, create(), "ThrottlingException")
	b.fault(Fault{Service: "kms", Action: "CreateKey", Kind: faultDelay, Delay: Duration(10 * time.Millisecond), Times: 1})
	wantCode(t, create(), "")
	if n := count(); n != 4 {
		t.Errorf("%d keys, want 4", n)
	}
	want := []struct{ outcome, fault, code string }{{outcomeDone, "", ""}, {outcomeNoReply, faultLostReply, ""}, {outcomeDone, "", ""}, {outcomeNoCall, faultLostRequest, ""},
		{outcomeFailed, faultError, "KMSInternalException"}, {outcomeThrottle, faultError, "ThrottlingException"}, {outcomeDone, faultDelay, ""}}
	got := b.last("CreateKey")
	if len(got) != len(want) {
		t.Fatalf("kept %+v", got)
	}
	for i, w := range want {
		if e := got[i]; e.Outcome != w.outcome || e.Fault != w.fault || e.Code != w.code || !e.Mutating || !e.Known || !strings.Contains(e.Principal, "assumed-role/") {
			t.Errorf("call %d was kept as %+v, want %+v", i, e, w)
		}
	}

	for name, f := range map[string]Fault{"no action": {Service: "kms", Kind: faultError}, "no such kind": {Service: "*", Action: "*", Kind: "bang"},
		"no delay": {Service: "*", Action: "*", Kind: faultDelay}, "no error": {Service: "*", Action: "*", Kind: faultError, Status: 200}} {
		if f.check() == nil {
			t.Errorf("%s: the fault is taken", name)
		}
	}
	name := "nsflow-lost-" + member + "-" + testRegion + "-an"
	store := s3.NewFromConfig(cfg, pathStyle)
	bucket(t, cfg, name, "")
	b.own(http.MethodDelete, "faults", nil, nil)
	b.fault(Fault{Service: "s3", Action: "PutObject", Kind: faultLostReply, Times: 1})
	if _, err := store.PutObject(ctx, &s3.PutObjectInput{Bucket: &name, Key: aws.String("k"), Body: strings.NewReader("text")}); err == nil {
		t.Error("the reply was not lost")
	}
	if _, err := store.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &name, Key: aws.String("k")}); err != nil {
		t.Errorf("the object whose reply was lost: %v", err)
	}
}

// TestPropagation: IAM tells at once what was written, and lets it count late.
func TestPropagation(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	member := b.account("nonprod")
	cfg := b.in(member)
	b.clock.stop()
	b.own(http.MethodPut, "settings", Settings{Propagation: Duration(10 * time.Second)}, nil)
	client := iam.NewFromConfig(cfg)
	arn := b.role(cfg, "late", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"`+member+`"},"Action":"sts:AssumeRole"}}`)
	b.grant(cfg, "late", allow("kms:ListKeys", "*"))
	if _, err := client.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("late")}); err != nil {
		t.Fatal(err)
	}
	_, err := b.chain(cfg, arn, nil)
	wantCode(t, err, "AccessDenied")
	_, err = client.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("next"),
		AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + arn + `"},"Action":"sts:AssumeRole"}}`)})
	refusedAs(t, err, 400, "MalformedPolicyDocument", "Invalid principal in policy")
	b.clock.move(10 * time.Second)
	session, err := b.chain(cfg, arn, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := func() error { _, err := kms.NewFromConfig(session).ListKeys(ctx, nil); return err }
	wantCode(t, keys(), "")
	b.grant(cfg, "late", allow("s3:ListAllMyBuckets", "*"))
	wantCode(t, keys(), "") // the right that was taken away still counts
	b.clock.move(10 * time.Second)
	wantCode(t, keys(), "AccessDeniedException")
	if _, err := client.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("late"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole"}}`)}); err != nil {
		t.Fatal(err)
	}
	_, err = b.chain(cfg, arn, nil)
	wantCode(t, err, "")
	b.clock.move(10 * time.Second)
	_, err = b.chain(cfg, arn, nil)
	wantCode(t, err, "AccessDenied")
}

// TestAccountsTakeTime: a creation is in progress first, five at the most; the
// account is listed and lets somebody in when its time has come; every reason
// of the API's is shown where it fails.
func TestAccountsTakeTime(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	client := organizations.NewFromConfig(b.adminConfig())
	create := func(name string) (*orgtypes.CreateAccountStatus, error) {
		out, err := client.CreateAccount(ctx, &organizations.CreateAccountInput{AccountName: &name, Email: aws.String(name + "@example.com")})
		if err != nil {
			return nil, err
		}
		return out.CreateAccountStatus, nil
	}
	status := func(id *string) *orgtypes.CreateAccountStatus {
		t.Helper()
		out, err := client.DescribeCreateAccountStatus(ctx, &organizations.DescribeCreateAccountStatusInput{CreateAccountRequestId: id})
		if err != nil {
			t.Fatal(err)
		}
		return out.CreateAccountStatus
	}
	_, err := create("early")
	wantCode(t, err, "AWSOrganizationsNotInUseException")
	if _, err := client.CreateOrganization(ctx, &organizations.CreateOrganizationInput{FeatureSet: "ALL"}); err != nil {
		t.Fatal(err)
	}
	b.clock.stop()
	b.own(http.MethodPut, "settings", Settings{AccountCreation: Duration(time.Minute), AccountEntry: Duration(30 * time.Second)}, nil)
	var first *orgtypes.CreateAccountStatus
	for _, name := range []string{"one", "two", "three", "four", "five"} {
		s, err := create(name)
		if err != nil || s.State != orgtypes.CreateAccountStateInProgress || s.AccountId != nil {
			t.Fatalf("creation of %s: %+v, %v", name, s, err)
		}
		if first == nil {
			first = s
		}
	}
	_, err = create("six")
	refusedAs(t, err, 400, "ConstraintViolationException", "in progress")
	b.clock.move(59 * time.Second)
	if s := status(first.Id); s.State != orgtypes.CreateAccountStateInProgress {
		t.Errorf("after 59 s: %+v", s)
	}
	b.restart() // the requests are kept
	client = organizations.NewFromConfig(b.adminConfig())
	b.own(http.MethodPut, "settings", Settings{AccountEntry: Duration(30 * time.Second)}, nil)
	b.clock.move(time.Second)
	done := status(first.Id)
	if done.State != orgtypes.CreateAccountStateSucceeded || done.AccountId == nil {
		t.Fatalf("after a minute: %+v", done)
	}
	list, err := client.ListAccounts(ctx, nil)
	if err != nil || len(list.Accounts) != 6 {
		t.Errorf("accounts: %+v, %v", list, err)
	}
	enter := func() error {
		_, err := sts.NewFromConfig(b.adminConfig()).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + *done.AccountId + ":role/OrganizationAccountAccessRole"), RoleSessionName: aws.String("xy")})
		return err
	}
	wantCode(t, enter(), "AccessDenied")
	b.clock.move(30 * time.Second)
	wantCode(t, enter(), "")

	again, err := create("ONE")
	if err != nil {
		t.Fatal(err)
	}
	if s := status(again.Id); s.FailureReason != orgtypes.CreateAccountFailureReasonEmailAlreadyExists {
		t.Errorf("with an address that is taken: %+v", s)
	}
	for _, reason := range orgtypes.CreateAccountFailureReason("").Values() {
		b.own(http.MethodPut, "settings", Settings{AccountFailures: map[string][]string{"bad@example.com": {string(reason)}}}, nil)
		s, err := create("bad")
		if err != nil {
			t.Fatal(err)
		}
		if s = status(s.Id); s.State != orgtypes.CreateAccountStateFailed || s.FailureReason != reason {
			t.Errorf("asked for %s: %+v", reason, s)
		}
	}
	failed, err := client.ListCreateAccountStatus(ctx, &organizations.ListCreateAccountStatusInput{States: []orgtypes.CreateAccountState{"FAILED"}})
	if want := 1 + len(orgtypes.CreateAccountFailureReason("").Values()); err != nil || len(failed.CreateAccountStatuses) != want {
		t.Errorf("%d failures are listed, want %d: %v", len(failed.CreateAccountStatuses), want, err)
	}
	if checkFailures(map[string][]string{"x": {"BECAUSE"}}) == nil {
		t.Error("a reason that the API does not have is taken")
	}
}

// TestNewRoleOfAJob: a job whose role was made a moment ago gets in when IAM
// knows the role; a job that the role does not mean is refused at once.
func TestNewRoleOfAJob(t *testing.T) {
	b := newBench(t, nil)
	cfg := b.in(b.account("nonprod"))
	provider := b.provider(cfg)
	b.own(http.MethodPut, "settings", Settings{Propagation: Duration(2 * time.Second)}, nil)
	arn := b.role(cfg, "orders-dev", webTrust(provider, `{"StringEquals":{"gitlab.example.com:aud":"`+testIssuer+`","gitlab.example.com:sub":"`+subject+`"}}`))
	t.Setenv("AWS_ENDPOINT_URL", b.url)
	s := session.Session{CI: cienv.CI{InJob: true, IDToken: b.gitlab.token(t, nil)}, Snapshot: &landscape.Snapshot{Region: testRegion},
		Identity: cienv.Identity{ProjectID: 77, PipelineID: 1, JobID: 2, Subject: subject}}
	role := landscape.Role{Name: "orders-dev", ARN: arn, Subjects: []string{"project_id:1:ref:main"}}
	_, err := s.AWS(t.Context(), role)
	if tool.CodeOf(err) != tool.Denied || !strings.Contains(strings.Join(tool.HintsOf(err), " "), "trusts the subjects project_id:1:ref:main") {
		t.Errorf("a job that is not meant: %v, %v", err, tool.HintsOf(err))
	}
	if calls := b.last("AssumeRoleWithWebIdentity"); len(calls) != 1 {
		t.Errorf("it was tried %d times", len(calls))
	}
	role.Subjects = []string{subject}
	if _, err := s.AWS(t.Context(), role); err != nil {
		t.Errorf("a job that is meant: %v", err)
	}
	if calls := b.last("AssumeRoleWithWebIdentity"); len(calls) < 3 || calls[1].Outcome != outcomeRefused || calls[len(calls)-1].Outcome != outcomeDone {
		t.Errorf("the calls were %+v", calls)
	}
}

// A delayed call whose client goes away meanwhile is not done, and is kept so.
func TestClientThatGoesAway(t *testing.T) {
	b := newBench(t, nil)
	client := kms.NewFromConfig(b.in(b.account("nonprod")))
	b.fault(Fault{Service: "kms", Action: "CreateKey", Kind: faultDelay, Delay: Duration(time.Hour), Times: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := client.CreateKey(ctx, nil); err == nil {
		t.Fatal("it was answered")
	}
	// The front sees it a moment later.
	deadline := time.Now().Add(30 * time.Second)
	for kept := b.last("CreateKey"); kept[0].Outcome != outcomeNoCall; kept = b.last("CreateKey") {
		if time.Now().After(deadline) {
			t.Fatalf("it is kept as %+v", kept)
		}
	}
}

// TestAdministrationIsLocal: only this machine reads the calls and brings
// faults about; the clusters' webhook and the health are for the networks of
// the sandbox too.
func TestAdministrationIsLocal(t *testing.T) {
	b := newBench(t, nil)
	for path, want := range map[string]int{"calls": 403, "calls/log": 403, "settings": 403, "faults": 403, "health": 200} {
		for address, want := range map[string]int{"10.88.0.7:41000": want, "127.0.0.2:41000": want, "127.0.0.1:41000": 200, "[::1]:41000": 200} {
			r := httptest.NewRequest(http.MethodGet, "http://front/_slipway/"+path, nil)
			r.RemoteAddr = address
			w := httptest.NewRecorder()
			b.front.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("GET %s from %s = %d, want %d", path, address, w.Code, want)
			}
		}
	}
	for body, path := range map[string]string{`{"propagation":"-1s"}`: "settings", `{"propagation":"soon"}`: "settings", `{"unknown":1}`: "settings",
		`{"accountFailures":{"a@b.c":["BECAUSE"]}}`: "settings", `{"service":"s3"}`: "faults"} {
		method := map[string]string{"settings": http.MethodPut, "faults": http.MethodPost}[path]
		r := httptest.NewRequest(method, "http://front/_slipway/"+path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:41000"
		w := httptest.NewRecorder()
		b.front.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s %s %s = %d", method, path, body, w.Code)
		}
	}
}
