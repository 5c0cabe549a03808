package awsfront

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	cttypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	orgtypes "github.com/aws/aws-sdk-go-v2/service/organizations/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// bucket makes a bucket in the account-regional namespace, with a policy.
func bucket(t *testing.T, cfg aws.Config, name, policy string) {
	t.Helper()
	client := s3.NewFromConfig(cfg, pathStyle)
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name, BucketNamespace: s3types.BucketNamespaceAccountRegional,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: testRegion}}); err != nil {
		t.Fatal(err)
	}
	if policy != "" {
		if _, err := client.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &name, Policy: &policy}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServicesOfAMember(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	member := b.account("nonprod")
	cfg := b.in(member)
	key, err := kms.NewFromConfig(cfg).CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil || !strings.Contains(*key.KeyMetadata.Arn, ":"+member+":") {
		t.Fatalf("key = %+v, %v", key, err)
	}
	params := ssm.NewFromConfig(cfg)
	if _, err := params.PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String("/slipway/a"), Value: aws.String("v"), Type: ssmtypes.ParameterTypeString}); err != nil {
		t.Fatal(err)
	}
	if got, err := params.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/slipway/a")}); err != nil || *got.Parameter.Value != "v" {
		t.Errorf("parameter = %+v, %v", got, err)
	}
	if _, err := ssm.NewFromConfig(b.adminConfig()).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/slipway/a")}); code(err) != "ParameterNotFound" {
		t.Errorf("the management account sees the member's parameter: %v", err)
	}
	secrets := secretsmanager.NewFromConfig(cfg)
	if _, err := secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("orders/db"), SecretString: aws.String("{}")}); err != nil {
		t.Fatal(err)
	}
	if got, err := secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("orders/db")}); err != nil || *got.SecretString != "{}" {
		t.Errorf("secret = %+v, %v", got, err)
	}
	if _, err := secretsmanager.NewFromConfig(b.adminConfig()).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("orders/db")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("the management account sees the member's secret: %v", err)
	}
	name := "nsflow-tfstate-" + member + "-" + testRegion + "-an"
	bucket(t, cfg, name, "")
	client := s3.NewFromConfig(cfg, pathStyle)
	for _, key := range []string{"a/state.tfstate", "odd name+(é)=&.txt"} {
		put := func() error {
			_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &name, Key: &key, Body: strings.NewReader("text"), IfNoneMatch: aws.String("*")})
			return err
		}
		wantCode(t, put(), "")
		wantCode(t, put(), "PreconditionFailed")
		out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &name, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(out.Body)
		if err != nil || string(body) != "text" {
			t.Errorf("object = %q, %v", body, err)
		}
	}
	presigned, err := s3.NewPresignClient(client).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &name, Key: aws.String("a/state.tfstate")})
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]int{presigned.URL: 200, presigned.URL + "0": 403, b.url + "/" + name + "/a/state.tfstate": 403, b.url + "/moto-api/data.json": 404} {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s = %s, want %d", url, resp.Status, want)
		}
	}
}

func TestCounting(t *testing.T) {
	b := newBench(t, nil)
	member := b.account("nonprod")
	cfg := b.in(member)
	own := func(method, path string) (out Calls) {
		req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s = %s", method, path, resp.Status)
		}
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	own(http.MethodGet, "/_slipway/health")
	if got := own(http.MethodPost, "/_slipway/calls/reset"); len(got.Calls) != 0 {
		t.Errorf("after the reset: %+v", got)
	}
	if _, err := iam.NewFromConfig(cfg).ListRoles(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	name := "nsflow-x-" + member + "-" + testRegion + "-an"
	bucket(t, cfg, name, `{"Version":"2012-10-17","Statement":[]}`)
	client := s3.NewFromConfig(cfg, pathStyle)
	if _, err := client.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	if _, err := kms.NewFromConfig(cfg).CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	got := own(http.MethodGet, "/_slipway/calls")
	want := map[string]bool{"iam:ListRoles": false, "s3:CreateBucket": true, "s3:PutBucketPolicy": true, "s3:GetBucketPolicy": false, "s3:ListObjects": false, "kms:CreateKey": true}
	for _, c := range got.Calls {
		mutates, ok := want[c.Service+":"+c.Action]
		if !ok || c.Mutating != mutates || c.Count != 1 || c.Account != member {
			t.Errorf("counted %+v", c)
		}
		delete(want, c.Service+":"+c.Action)
	}
	if len(want) > 0 || got.Mutating != 3 {
		t.Errorf("not counted: %v; %d mutating", want, got.Mutating)
	}
}

func TestAccountEmails(t *testing.T) {
	b := newBench(t, nil)
	first := b.account("nonprod")
	client := organizations.NewFromConfig(b.adminConfig())
	out, err := client.CreateAccount(t.Context(), &organizations.CreateAccountInput{AccountName: aws.String("again"), Email: aws.String("NonProd@example.com")})
	if err != nil || out.CreateAccountStatus.State != orgtypes.CreateAccountStateInProgress {
		t.Fatalf("status = %+v, %v", out, err)
	}
	b.restart()
	client = organizations.NewFromConfig(b.adminConfig())
	got, err := client.DescribeCreateAccountStatus(t.Context(), &organizations.DescribeCreateAccountStatusInput{CreateAccountRequestId: out.CreateAccountStatus.Id})
	if err != nil || got.CreateAccountStatus.State != orgtypes.CreateAccountStateFailed || got.CreateAccountStatus.FailureReason != orgtypes.CreateAccountFailureReasonEmailAlreadyExists {
		t.Errorf("status = %+v, %v", got, err)
	}
	list, err := client.ListCreateAccountStatus(t.Context(), &organizations.ListCreateAccountStatusInput{States: []orgtypes.CreateAccountState{"FAILED", "SUCCEEDED"}})
	if err != nil {
		t.Fatal(err)
	}
	failures := 0
	for _, s := range list.CreateAccountStatuses {
		if s.State == orgtypes.CreateAccountStateFailed {
			failures++
		}
	}
	if failures != 1 || len(list.CreateAccountStatuses) < 2 {
		t.Errorf("statuses = %+v", list)
	}
	accounts, err := client.ListAccounts(t.Context(), nil)
	if err != nil || len(accounts.Accounts) != 2 || *accounts.Accounts[1].Id != first {
		t.Errorf("accounts = %+v, %v", accounts, err)
	}
}

func TestTrailInAnotherAccount(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	security := b.account("security")
	inSecurity, admin := b.in(security), b.adminConfig()
	org, err := organizations.NewFromConfig(admin).DescribeOrganization(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:cloudtrail:" + testRegion + ":" + management + ":trail/nsflow-audit"
	name := "nsflow-audit-" + security + "-" + testRegion + "-an"
	put := func(path string) string {
		return `{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":"s3:PutObject","Resource":"arn:aws:s3:::` + name + `/AWSLogs/` + path + `/*",
			"Condition":{"StringEquals":{"aws:SourceArn":"` + arn + `","s3:x-amz-acl":"bucket-owner-full-control"}}}`
	}
	policy := func(statements ...string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":"s3:GetBucketAcl","Resource":"arn:aws:s3:::` + name + `","Condition":{"StringEquals":{"aws:SourceArn":"` + arn + `"}}},
			{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}},` + strings.Join(statements, ",") + `]}`
	}
	keyPolicy := func(source string) *string {
		return aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + security + `:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":["kms:GenerateDataKey*","kms:DescribeKey"],"Resource":"*","Condition":{"StringEquals":{"aws:SourceArn":"` + source + `"}}}]}`)
	}
	keys := kms.NewFromConfig(inSecurity)
	key, err := keys.CreateKey(ctx, &kms.CreateKeyInput{Policy: keyPolicy("arn:other"), KeySpec: kmstypes.KeySpecSymmetricDefault})
	if err != nil {
		t.Fatal(err)
	}
	client := cloudtrail.NewFromConfig(admin)
	create := func() error {
		_, err := client.CreateTrail(ctx, &cloudtrail.CreateTrailInput{Name: aws.String("nsflow-audit"), S3BucketName: &name, KmsKeyId: key.KeyMetadata.Arn,
			IsMultiRegionTrail: aws.Bool(true), IsOrganizationTrail: aws.Bool(true), EnableLogFileValidation: aws.Bool(true)})
		return err
	}
	wantCode(t, create(), "CloudTrailAccessNotEnabledException")
	if _, err := organizations.NewFromConfig(admin).EnableAWSServiceAccess(ctx, &organizations.EnableAWSServiceAccessInput{ServicePrincipal: aws.String(cloudTrail)}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, create(), "InsufficientEncryptionPolicyException")
	if _, err := keys.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key.KeyMetadata.KeyId, PolicyName: aws.String("default"), Policy: keyPolicy(arn)}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, create(), "S3BucketDoesNotExistException")
	bucket(t, inSecurity, name, "")
	wantCode(t, create(), "InsufficientS3BucketPolicyException")
	setPolicy := func(text string) {
		if _, err := s3.NewFromConfig(inSecurity, pathStyle).PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &name, Policy: &text}); err != nil {
			t.Fatal(err)
		}
	}
	setPolicy(policy(put(management)))
	wantCode(t, create(), "InsufficientS3BucketPolicyException") // the organization's path is missing
	setPolicy(policy(put(management), put(*org.Organization.Id)))
	right := key.KeyMetadata.Arn
	key.KeyMetadata.Arn = aws.String(*right + "0")
	wantCode(t, create(), "KmsKeyNotFoundException")
	key.KeyMetadata.Arn = right
	wantCode(t, create(), "")
	wantCode(t, create(), "TrailAlreadyExistsException")

	status := func() bool {
		out, err := client.GetTrailStatus(ctx, &cloudtrail.GetTrailStatusInput{Name: &arn})
		if err != nil {
			t.Fatal(err)
		}
		return *out.IsLogging
	}
	if status() {
		t.Error("a new trail logs")
	}
	if _, err := client.StartLogging(ctx, &cloudtrail.StartLoggingInput{Name: aws.String("nsflow-audit")}); err != nil {
		t.Fatal(err)
	}
	b.restart()
	admin = b.adminConfig()
	client = cloudtrail.NewFromConfig(admin)
	if !status() {
		t.Error("the trail does not log after StartLogging")
	}
	got, err := client.GetTrail(ctx, &cloudtrail.GetTrailInput{Name: aws.String("nsflow-audit")})
	if err != nil {
		t.Fatal(err)
	}
	if tr := got.Trail; *tr.TrailARN != arn || *tr.HomeRegion != testRegion || !*tr.IsOrganizationTrail || !*tr.LogFileValidationEnabled || !*tr.IncludeGlobalServiceEvents || *tr.KmsKeyId != *right || *tr.S3BucketName != name {
		t.Errorf("trail = %+v", tr)
	}
	selectors, err := client.GetEventSelectors(ctx, &cloudtrail.GetEventSelectorsInput{TrailName: &arn})
	if err != nil || len(selectors.EventSelectors) != 1 || selectors.EventSelectors[0].ReadWriteType != cttypes.ReadWriteTypeAll {
		t.Errorf("selectors = %+v, %v", selectors, err)
	}
	if _, err := client.PutEventSelectors(ctx, &cloudtrail.PutEventSelectorsInput{TrailName: &arn, EventSelectors: []cttypes.EventSelector{{ReadWriteType: cttypes.ReadWriteTypeWriteOnly, IncludeManagementEvents: aws.Bool(true)}}}); err != nil {
		t.Fatal(err)
	}
	if selectors, err = client.GetEventSelectors(ctx, &cloudtrail.GetEventSelectorsInput{TrailName: &arn}); err != nil || selectors.EventSelectors[0].ReadWriteType != cttypes.ReadWriteTypeWriteOnly {
		t.Errorf("selectors = %+v, %v", selectors, err)
	}
	if _, err := client.UpdateTrail(ctx, &cloudtrail.UpdateTrailInput{Name: &arn, EnableLogFileValidation: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	list, err := client.DescribeTrails(ctx, nil)
	if err != nil || len(list.TrailList) != 1 || *list.TrailList[0].LogFileValidationEnabled || !*list.TrailList[0].HasCustomEventSelectors {
		t.Errorf("trails = %+v, %v", list, err)
	}
	away := admin.Copy()
	away.Region = "eu-west-1"
	_, err = cloudtrail.NewFromConfig(away).UpdateTrail(ctx, &cloudtrail.UpdateTrailInput{Name: &arn, EnableLogFileValidation: aws.Bool(true)})
	wantCode(t, err, "InvalidHomeRegionException")
	_, err = cloudtrail.NewFromConfig(b.in(security)).CreateTrail(ctx, &cloudtrail.CreateTrailInput{Name: aws.String("own"), S3BucketName: &name, IsOrganizationTrail: aws.Bool(true)})
	wantCode(t, err, "NotOrganizationMasterAccountException")
	if _, err := client.DeleteTrail(ctx, &cloudtrail.DeleteTrailInput{Name: &arn}); err != nil {
		t.Fatal(err)
	}
	_, err = client.GetTrail(ctx, &cloudtrail.GetTrailInput{Name: &arn})
	wantCode(t, err, "TrailNotFoundException")
}
