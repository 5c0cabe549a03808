package cmd_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/landscape"
)

// TestFromNothing is the story of an empty management account.
func TestFromNothing(t *testing.T) {
	w := newWorld(t)
	out, _, calls := w.run(3, "plan", "--detailed-exitcode")
	want(t, out, "create management: organization")
	want(t, out, "create prod: role platform-apply")
	if len(calls) != 0 {
		t.Errorf("plan made mutating calls: %v", calls)
	}
	out, log, _ := w.run(0, "apply")
	want(t, out, " created, 4 updated, ")
	want(t, log, "created management: account prod (aws+prod@example.com)")
	want(t, log, "waiting: nonprod: access of orders-dev to cluster nsflow-nonprod: cluster nsflow-nonprod does not exist yet")
	want(t, log, "created gitlab: landscape snapshot (sha256:")

	out, _, calls = w.run(0, "apply")
	want(t, out, "nothing to change: 0 created, 0 updated")
	if len(calls) != 0 {
		t.Errorf("the second run made mutating calls: %v", calls)
	}
	out, _, calls = w.run(0, "verify")
	want(t, out, "0 missing, 0 different")
	if len(calls) != 0 {
		t.Errorf("verify made mutating calls: %v", calls)
	}

	// Without a token for GitLab the run says what it did not look at.
	w.env["SLIPWAY_GITLAB_TOKEN"] = ""
	out, log, _ = w.run(0, "apply")
	want(t, out, "5 not looked at")
	want(t, log, "warning: the settings of project nsflow/orders (77) were not looked at: no token is known")
	want(t, log, "warning: the snapshot is not published")
	_, log, _ = w.run(7, "verify")
	want(t, log, "5 things were not looked at; what was seen is as the landscape says")
	want(t, log, "hint: nsflow/orders: set SLIPWAY_GITLAB_TOKEN to a maintainer's token")

	// An environment more is one entry; what it needs is made, and nothing else changes.
	w.env["SLIPWAY_GITLAB_TOKEN"] = gitlabToken
	w.edit("landscape.yaml", "  stage: {", "  test: {cluster: nonprod, tier: testing, namespace: \"{service}-test\"}\n  stage: {")
	w.edit("services/orders.yaml", "[review, dev,", "[review, dev, test,")
	out, log, _ = w.run(0, "apply")
	want(t, out, "2 created, 2 updated, ")
	want(t, log, "created nonprod: role orders-test (for project_id:77:ref_protected:true:ref_type:branch:ref:main)")
	want(t, log, "updated shared: KMS key alias/nsflow-bundles (policy)")
	want(t, log, "updated gitlab: landscape snapshot")
}

func (w *world) edit(name, old, text string) {
	w.t.Helper()
	raw := w.read(name)
	if !strings.Contains(raw, old) {
		w.t.Fatalf("%q is not in %s", old, name)
	}
	w.write(name, strings.Replace(raw, old, text, 1))
}

// member returns the configuration of an account that bootstrap made.
func (w *world) member(name string) (aws.Config, string) {
	w.t.Helper()
	cfg, err := config.LoadDefaultConfig(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := organizations.NewFromConfig(cfg).ListAccounts(w.t.Context(), &organizations.ListAccountsInput{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range list.Accounts {
		if aws.ToString(a.Name) == name {
			return awsauth.Chain(cfg, landscape.RoleARN(*a.Id, "OrganizationAccountAccessRole"), "test"), *a.Id
		}
	}
	w.t.Fatalf("there is no account %q", name)
	return cfg, ""
}

// TestDrift changes things by hand: verify finds each, apply mends them, and
// nothing else.
func TestDrift(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply")
	cfg, id := w.member("prod")
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	roles, keys := iam.NewFromConfig(cfg), kms.NewFromConfig(cfg)
	buckets := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	bucket := aws.String(landscape.StateBucket("nsflow", id, "eu-central-1"))
	must(roles.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("platform-apply"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}`)}))
	must(roles.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: aws.String("platform-plan"), PolicyName: aws.String("slipway")}))
	must(roles.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("environments-prod"), PolicyName: aws.String("more"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)}))
	must(buckets.DeletePublicAccessBlock(ctx, &s3.DeletePublicAccessBlockInput{Bucket: bucket}))
	must(buckets.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: bucket}))
	must(buckets.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: bucket,
		VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusSuspended}}))
	key, err := keys.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/nsflow-tfstate")})
	must(key, err)
	must(keys.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyMetadata.KeyId}))

	out, log, calls := w.run(3, "verify")
	if len(calls) != 0 {
		t.Errorf("verify made mutating calls: %v", calls)
	}
	found := []string{"update prod: role platform-apply (trust policy)", "update prod: role platform-plan (permissions)",
		"update prod: state bucket (public access block, versioning, policy)", "update prod: KMS key alias/nsflow-tfstate (cancel its deletion, enable)"}
	for _, f := range found {
		want(t, out, f)
	}
	want(t, out, "0 missing, 4 different")
	want(t, log, `role "environments-prod" in account "prod" has policies that the landscape does not give it: more`)
	out, _, _ = w.run(0, "apply")
	want(t, out, "0 created, 4 updated")
	w.run(0, "verify")
}

// TestResumes is the story of a run that died: between CreateKey and
// CreateAlias, and with an account made by hand under the wrong name.
func TestResumes(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		t.Fatal(err)
	}
	org := organizations.NewFromConfig(cfg)
	if _, err := org.CreateOrganization(ctx, &organizations.CreateOrganizationInput{FeatureSet: "ALL"}); err != nil {
		t.Fatal(err)
	}
	if _, err := org.CreateAccount(ctx, &organizations.CreateAccountInput{AccountName: aws.String("Production"), Email: aws.String("AWS+Prod@example.com")}); err != nil {
		t.Fatal(err)
	}
	production, id := w.member("Production")
	keys := kms.NewFromConfig(production)
	if _, err := keys.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kmstypes.KeySpecSymmetricDefault, KeyUsage: kmstypes.KeyUsageTypeEncryptDecrypt,
		Tags: []kmstypes.Tag{{TagKey: aws.String("slipway:alias"), TagValue: aws.String("alias/nsflow-tfstate")}}}); err != nil {
		t.Fatal(err)
	}
	_, log, calls := w.run(0, "apply")
	if slices.ContainsFunc(calls, func(c string) bool { return strings.Contains(c, "CreateOrganization ") }) {
		t.Error("a second organisation was made")
	}
	want(t, log, "updated management: account prod (move to workloads)")
	list, err := keys.ListKeys(ctx, &kms.ListKeysInput{})
	if err != nil || len(list.Keys) != 1 {
		t.Errorf("account %s has %d keys, want the one that was there: %v", id, len(list.Keys), err)
	}
	accounts, err := org.ListAccounts(ctx, &organizations.ListAccountsInput{})
	if err != nil || len(accounts.Accounts) != 5 {
		t.Errorf("%d accounts, want 5: %v", len(accounts.Accounts), err)
	}
	if n := len(regexp.MustCompile(`created management: account`).FindAllString(log, -1)); n != 3 {
		t.Errorf("%d accounts were made, want 3", n)
	}
}

// TestMistypedAccounts: accounts that are not in the organisation are named
// before anything is made, all of them, in an empty organisation and later.
func TestMistypedAccounts(t *testing.T) {
	w := newWorld(t)
	refused := func() {
		t.Helper()
		w.edit("landscape.yaml", "prod: {ou: workloads, guard", `prod: {id: "210987654321", ou: workloads, guard`)
		w.edit("landscape.yaml", "shared: {ou", `shared: {id: "210987654322", ou`)
		_, log, calls := w.run(64, "apply")
		want(t, log, "account 210987654321 is not in the organisation")
		want(t, log, "account 210987654322 is not in the organisation")
		if len(calls) != 0 {
			t.Errorf("mutating calls: %v", calls)
		}
	}
	whole := w.read("landscape.yaml")
	refused()
	w.write("landscape.yaml", whole)
	w.run(0, "apply")
	refused()
}

// TestForeignCredentials: nothing is touched with those of another account.
func TestForeignCredentials(t *testing.T) {
	w := newWorld(t)
	w.edit("landscape.yaml", w.management, "123456789012")
	_, log, calls := w.run(77, "apply")
	want(t, log, "and the management account is 123456789012")
	if len(calls) != 0 {
		t.Errorf("mutating calls: %v", calls)
	}
	w.edit("landscape.yaml", "123456789012", w.management)
	w.edit("landscape.yaml", ", organization: create", ", organization: adopt")
	_, log, calls = w.run(64, "apply")
	want(t, log, "the management account has no organisation, and aws.organization is adopt")
	if len(calls) != 0 {
		t.Errorf("mutating calls: %v", calls)
	}
}
