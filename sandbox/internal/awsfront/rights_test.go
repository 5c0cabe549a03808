package awsfront

import (
	"bytes"
	"errors"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// worker makes a role in the account that everyone in it may assume, with an
// inline policy of the statements, and returns a session of it.
func (b *bench) worker(cfg aws.Config, account, name, statements string, change func(*sts.AssumeRoleInput)) aws.Config {
	b.t.Helper()
	arn := b.role(cfg, name, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"`+account+`"},"Action":["sts:AssumeRole","sts:TagSession"]}}`)
	b.grant(cfg, name, statements)
	session, err := b.chain(cfg, arn, change)
	if err != nil {
		b.t.Fatal(err)
	}
	return session
}

func (b *bench) grant(cfg aws.Config, role, statements string) {
	b.t.Helper()
	if _, err := iam.NewFromConfig(cfg).PutRolePolicy(b.t.Context(), &iam.PutRolePolicyInput{RoleName: &role, PolicyName: aws.String("p"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[` + statements + `]}`)}); err != nil {
		b.t.Fatal(err)
	}
}

func allow(action, resource string) string {
	return `{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}`
}

// refusedAs checks a refusal's code, status and words.
func refusedAs(t *testing.T, err error, status int, errorCode, words string) {
	t.Helper()
	var re *smithyhttp.ResponseError
	if code(err) != errorCode || !errors.As(err, &re) || re.HTTPStatusCode() != status || !strings.Contains(err.Error(), words) {
		t.Errorf("error = %v, want %d %s with %q", err, status, errorCode, words)
	}
}

// TestEachServiceRefuses: a role without rights is refused by each service in
// its own shape, as the SDK reads it, with AWS's words.
func TestEachServiceRefuses(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	member := b.account("nonprod")
	cfg := b.in(member)
	key, err := kms.NewFromConfig(cfg).CreateKey(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	who := "User: arn:aws:sts::" + member + ":assumed-role/idle/test-session is not authorized to perform: "
	idle := b.worker(cfg, member, "idle", allow("sts:GetCallerIdentity", "*"), nil)
	because := func(action string) string {
		return "because no identity-based policy allows the " + action + " action"
	}
	_, err = s3.NewFromConfig(idle, pathStyle).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	refusedAs(t, err, 403, "AccessDenied", who+`s3:GetObject on resource: "arn:aws:s3:::b/k" `+because("s3:GetObject"))
	_, err = iam.NewFromConfig(idle).GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("idle")})
	refusedAs(t, err, 403, "AccessDenied", who+"iam:GetRole on resource: arn:aws:iam::"+member+":role/idle "+because("iam:GetRole"))
	_, err = kms.NewFromConfig(idle).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key.KeyMetadata.KeyId})
	refusedAs(t, err, 400, "AccessDeniedException", who+"kms:DescribeKey on resource: "+*key.KeyMetadata.Arn+" "+because("kms:DescribeKey"))
	_, err = ssm.NewFromConfig(idle).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/slipway/x")})
	refusedAs(t, err, 400, "AccessDeniedException", who+"ssm:GetParameter on resource: arn:aws:ssm:"+testRegion+":"+member+":parameter/slipway/x "+because("ssm:GetParameter"))
	_, err = eks.NewFromConfig(idle).DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String("nsflow-nonprod")})
	refusedAs(t, err, 403, "AccessDeniedException", who+"eks:DescribeCluster on resource: arn:aws:eks:"+testRegion+":"+member+":cluster/nsflow-nonprod "+because("eks:DescribeCluster"))
	_, err = organizations.NewFromConfig(idle).ListAccounts(ctx, nil)
	refusedAs(t, err, 400, "AccessDeniedException", who+"organizations:ListAccounts on resource: * "+because("organizations:ListAccounts"))
	all := organizations.NewFromConfig(cfg) // with all rights, but in a member
	_, err = all.ListAccounts(ctx, nil)
	refusedAs(t, err, 400, "AccessDeniedException", "You don't have permissions to access this resource.")
	_, err = all.CreateOrganizationalUnit(ctx, &organizations.CreateOrganizationalUnitInput{Name: aws.String("mine"), ParentId: aws.String("r-abcd")})
	refusedAs(t, err, 400, "AccessDeniedException", "You don't have permissions to access this resource.")
	_, err = all.CreateOrganization(ctx, &organizations.CreateOrganizationInput{FeatureSet: "ALL"})
	refusedAs(t, err, 400, "AlreadyInOrganizationException", "")
	if org, err := all.DescribeOrganization(ctx, nil); err != nil || *org.Organization.MasterAccountId != management {
		t.Errorf("a member's own organization is %+v, %v", org, err)
	}
	_, err = cloudtrail.NewFromConfig(idle).GetTrail(ctx, &cloudtrail.GetTrailInput{Name: aws.String("audit")})
	refusedAs(t, err, 400, "AccessDeniedException", who+"cloudtrail:GetTrail on resource: arn:aws:cloudtrail:"+testRegion+":"+member+":trail/audit "+because("cloudtrail:GetTrail"))
	_, err = sts.NewFromConfig(idle).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + member + ":role/idle"), RoleSessionName: aws.String("xy")})
	refusedAs(t, err, 403, "AccessDenied", who+"sts:AssumeRole on resource: arn:aws:iam::"+member+":role/idle "+because("sts:AssumeRole"))
}

// TestUnknownCalls: what the front cannot judge is refused to every role, the
// administrator's in an account included, and named in the log.
func TestUnknownCalls(t *testing.T) {
	var mu sync.Mutex
	var text bytes.Buffer
	b := newBench(t, func(c *Config) {
		c.Log = log.New(writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return text.Write(p) }), "", 0)
	})
	cfg := b.in(b.account("nonprod"))
	_, err := iam.NewFromConfig(cfg).GetAccountSummary(t.Context(), nil)
	wantCode(t, err, "AccessDenied")
	mu.Lock()
	if !strings.Contains(text.String(), "refused iam:GetAccountSummary to arn:aws:sts::") {
		t.Errorf("the log says %q", text.String())
	}
	mu.Unlock()
	if _, err := iam.NewFromConfig(b.adminConfig()).GetAccountSummary(t.Context(), nil); err != nil {
		t.Errorf("the administrator's user: %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestLimitsOfRights: boundary, session policy, attached policy, session tags
// and service control policies, through the real API.
func TestLimitsOfRights(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	member := b.account("nonprod")
	cfg := b.in(member)
	client := iam.NewFromConfig(cfg)
	managed := func(name, statements string) string {
		out, err := client.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: &name, PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[` + statements + `]}`)})
		if err != nil {
			t.Fatal(err)
		}
		return *out.Policy.Arn
	}
	keys := func(c aws.Config) error { _, err := kms.NewFromConfig(c).ListKeys(ctx, nil); return err }
	buckets := func(c aws.Config) error {
		_, err := s3.NewFromConfig(c, pathStyle).ListBuckets(ctx, nil)
		return err
	}
	both := allow("kms:ListKeys", "*") + "," + allow("s3:ListAllMyBuckets", "*")
	keysOnly := managed("keys-only", allow("kms:ListKeys", "*"))

	session := b.worker(cfg, member, "bounded", both, nil)
	if _, err := client.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: aws.String("bounded"), PermissionsBoundary: &keysOnly}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, keys(session), "")
	refusedAs(t, buckets(session), 403, "AccessDenied", "because no permissions boundary allows the s3:ListAllMyBuckets action")

	session = b.worker(cfg, member, "narrowed", both, func(in *sts.AssumeRoleInput) {
		in.Policy = aws.String(`{"Version":"2012-10-17","Statement":[` + allow("s3:*", "*") + `]}`)
	})
	wantCode(t, buckets(session), "")
	refusedAs(t, keys(session), 400, "AccessDeniedException", "because no session policy allows the kms:ListKeys action")
	session = b.worker(cfg, member, "narrowed-by-arn", both, func(in *sts.AssumeRoleInput) { in.PolicyArns = []ststypes.PolicyDescriptorType{{Arn: &keysOnly}} })
	wantCode(t, keys(session), "")
	refusedAs(t, buckets(session), 403, "AccessDenied", "because no session policy allows")

	session = b.worker(cfg, member, "attached", allow("sts:GetCallerIdentity", "*"), nil)
	if _, err := client.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String("attached"), PolicyArn: &keysOnly}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, keys(session), "")
	if _, err := client.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: aws.String("attached"), PolicyArn: &keysOnly}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, keys(session), "AccessDeniedException")

	session = b.worker(cfg, member, "tagged", `{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"orders"}}}`,
		func(in *sts.AssumeRoleInput) {
			in.Tags = []ststypes.Tag{{Key: aws.String("team"), Value: aws.String("orders")}}
		})
	wantCode(t, keys(session), "")

	org := organizations.NewFromConfig(b.adminConfig())
	roots, err := org.ListRoots(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := org.CreatePolicy(ctx, &organizations.CreatePolicyInput{Name: aws.String("no-keys"), Description: aws.String("-"), Type: "SERVICE_CONTROL_POLICY",
		Content: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := org.AttachPolicy(ctx, &organizations.AttachPolicyInput{PolicyId: policy.Policy.PolicySummary.Id, TargetId: roots.Roots[0].Id}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, keys(cfg), "") // the type of policy is not switched on
	if _, err := org.EnablePolicyType(ctx, &organizations.EnablePolicyTypeInput{RootId: roots.Roots[0].Id, PolicyType: "SERVICE_CONTROL_POLICY"}); err != nil {
		t.Fatal(err)
	}
	refusedAs(t, keys(cfg), 400, "AccessDeniedException", "with an explicit deny in a service control policy")
	wantCode(t, buckets(cfg), "")
	wantCode(t, keys(b.adminConfig()), "") // it does not bind the management account
}

// TestResourcePolicies: buckets and keys of this account and of another, and
// the key that a bucket encrypts with.
func TestResourcePolicies(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	one, two := b.account("one"), b.account("two")
	inOne, inTwo := b.in(one), b.in(two)
	name := "nsflow-shared-" + one + "-" + testRegion + "-an"
	reader := b.worker(inTwo, two, "reader", allow("s3:GetObject", "arn:aws:s3:::"+name+"/*"), nil)
	bucket(t, inOne, name, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+two+`:root"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::`+name+`/open/*"}]}`)
	put := func(cfg aws.Config, key string) error {
		_, err := s3.NewFromConfig(cfg, pathStyle).PutObject(ctx, &s3.PutObjectInput{Bucket: &name, Key: &key, Body: strings.NewReader("text")})
		return err
	}
	get := func(cfg aws.Config, key string, change ...func(*s3.GetObjectInput)) error {
		in := &s3.GetObjectInput{Bucket: &name, Key: &key}
		for _, f := range change {
			f(in)
		}
		_, err := s3.NewFromConfig(cfg, pathStyle).GetObject(ctx, in)
		return err
	}
	wantCode(t, put(inOne, "open/a"), "")
	wantCode(t, put(inOne, "closed/a"), "")
	wantCode(t, get(reader, "open/a"), "")
	refusedAs(t, get(reader, "closed/a"), 403, "AccessDenied", "because no resource-based policy allows the s3:GetObject action")
	refusedAs(t, put(reader, "open/b"), 403, "AccessDenied", "is not authorized to perform: s3:PutObject")
	wantCode(t, get(reader, "open/absent"), "AccessDenied") // who may not list does not learn that it is not there
	wantCode(t, get(inOne, "open/absent"), "NoSuchKey")
	wantCode(t, get(reader, "open/a", func(in *s3.GetObjectInput) { in.ExpectedBucketOwner = &two }), "AccessDenied")
	wantCode(t, get(reader, "open/a", func(in *s3.GetObjectInput) { in.ExpectedBucketOwner = &one }), "")

	_, err := s3.NewFromConfig(inTwo, pathStyle).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: testRegion}})
	if code(err) == "" || code(err) == "BucketAlreadyOwnedByYou" {
		t.Errorf("another account's bucket: %v", err)
	}
	writer := b.worker(inOne, one, "writer", allow("s3:*", "arn:aws:s3:::"+name+"/*")+","+allow("s3:ListBucket", "arn:aws:s3:::"+name), nil)
	key, err := kms.NewFromConfig(inOne).CreateKey(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s3.NewFromConfig(inOne, pathStyle).PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: &name,
		ServerSideEncryptionConfiguration: &s3types.ServerSideEncryptionConfiguration{Rules: []s3types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: &s3types.ServerSideEncryptionByDefault{
			SSEAlgorithm: s3types.ServerSideEncryptionAwsKms, KMSMasterKeyID: key.KeyMetadata.Arn}}}}}); err != nil {
		t.Fatal(err)
	}
	refusedAs(t, put(writer, "b"), 403, "AccessDenied", "is not authorized to perform: kms:GenerateDataKey on resource: \""+*key.KeyMetadata.Arn+"\"")
	refusedAs(t, get(writer, "open/a"), 403, "AccessDenied", "is not authorized to perform: kms:Decrypt")
	b.grant(inOne, "writer", allow("s3:*", "arn:aws:s3:::"+name+"/*")+","+allow("kms:GenerateDataKey", *key.KeyMetadata.Arn))
	wantCode(t, put(writer, "b"), "")
	wantCode(t, get(writer, "b"), "AccessDenied")
	remove := func(keys ...string) error {
		in := &s3types.Delete{}
		for _, k := range keys {
			in.Objects = append(in.Objects, s3types.ObjectIdentifier{Key: &k})
		}
		_, err := s3.NewFromConfig(writer, pathStyle).DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &name, Delete: in})
		return err
	}
	b.grant(inOne, "writer", allow("s3:DeleteObject", "arn:aws:s3:::"+name+"/open/*"))
	refusedAs(t, remove("open/a", "closed/a"), 403, "AccessDenied", "s3:DeleteObject on resource: \"arn:aws:s3:::"+name+"/closed/a\"")
	wantCode(t, remove("open/a"), "")
}

// TestTrustPoliciesThatAreRefused: what IAM itself refuses when a role is made.
func TestTrustPoliciesThatAreRefused(t *testing.T) {
	b := newBench(t, nil)
	cfg := b.in(b.account("nonprod"))
	for name, tt := range map[string]struct{ trust, want string }{
		"unknown operator":   {webTrust("arn:aws:iam::1:oidc-provider/gitlab.example.com", `{"StringMatches":{"a":"b"}}`), "Invalid Condition type"},
		"nobody":             {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:role/x"},"Action":"sts:AssumeRole"}]}`, "Invalid principal"},
		"everyone on GitLab": {webTrust("arn:aws:iam::1:oidc-provider/gitlab.com", `{"StringEquals":{"gitlab.com:aud":"x"}}`), "gitlab.com:sub"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := iam.NewFromConfig(cfg).CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("x"), AssumeRolePolicyDocument: &tt.trust})
			refusedAs(t, err, 400, "MalformedPolicyDocument", tt.want)
		})
	}
	out := b.provider(cfg)
	if _, err := iam.NewFromConfig(cfg).AddClientIDToOpenIDConnectProvider(t.Context(), &iam.AddClientIDToOpenIDConnectProviderInput{OpenIDConnectProviderArn: &out, ClientID: aws.String("more")}); err != nil {
		t.Fatal(err)
	}
	got, err := iam.NewFromConfig(cfg).GetOpenIDConnectProvider(t.Context(), &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &out})
	if err != nil || len(got.ClientIDList) != 2 || got.ClientIDList[1] != "more" {
		t.Errorf("the provider is %+v, %v", got, err)
	}
}

// TestChainedSession: an hour at most for who is in a role already, whatever
// the next role allows; a user may have all that it allows.
func TestChainedSession(t *testing.T) {
	b := newBench(t, nil)
	inMember := b.in(b.account("nonprod"))
	arn := b.role(inMember, "long", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}}`)
	if _, err := iam.NewFromConfig(inMember).UpdateRole(t.Context(), &iam.UpdateRoleInput{RoleName: aws.String("long"), MaxSessionDuration: aws.Int32(7200)}); err != nil {
		t.Fatal(err)
	}
	assume := func(cfg aws.Config, seconds int32) error {
		_, err := b.chain(cfg, arn, func(in *sts.AssumeRoleInput) { in.DurationSeconds = &seconds })
		return err
	}
	refusedAs(t, assume(inMember, 3601), 400, "ValidationError", "role chaining")
	wantCode(t, assume(inMember, 3600), "")
	wantCode(t, assume(b.adminConfig(), 7200), "")
}

// TestLongestSession: the role's own limit.
func TestLongestSession(t *testing.T) {
	b := newBench(t, nil)
	member := b.account("nonprod")
	inMember := b.in(member)
	provider := b.provider(inMember)
	trust := webTrust(provider, `{"StringEquals":{"gitlab.example.com:aud":"https://gitlab.example.com","gitlab.example.com:sub":"`+subject+`"}}`)
	arn := b.role(inMember, "orders-dev", trust)
	token := b.gitlab.token(t, nil)
	_, err := b.web(arn, token, 7200)
	refusedAs(t, err, 400, "ValidationError", "MaxSessionDuration set for this role")
	if _, err := iam.NewFromConfig(inMember).UpdateRole(t.Context(), &iam.UpdateRoleInput{RoleName: aws.String("orders-dev"), MaxSessionDuration: aws.Int32(7200)}); err != nil {
		t.Fatal(err)
	}
	session, err := b.web(arn, token, 7200)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = whoami(t, session)
	wantCode(t, err, "")
	b.clock.move(3 * time.Hour)
	_, _, err = whoami(t, session)
	wantCode(t, err, "ExpiredToken")
	_, err = s3.NewFromConfig(session, pathStyle).ListBuckets(t.Context(), nil)
	refusedAs(t, err, http.StatusBadRequest, "ExpiredToken", "")
}
