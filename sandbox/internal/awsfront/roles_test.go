package awsfront

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/organizations"
)

// bootstrapPolicies are the policies that slipway-bootstrap gives the example's
// roles, keys and buckets, as its own test holds them.
func bootstrapPolicies(t *testing.T) map[string]*document {
	t.Helper()
	raw, err := os.ReadFile("../../../tools/bootstrap/internal/policy/testdata/policies.golden")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*document{}
	for _, part := range strings.Split("\n"+string(raw), "\n== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		d, err := readPolicy(text, !strings.HasSuffix(name, " permissions"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = d
	}
	return out
}

// TestOurRoles: what each of our roles may do, and what it must not, judged
// with the policies of the keys and buckets that bootstrap makes.
func TestOurRoles(t *testing.T) {
	docs := bootstrapPolicies(t)
	const (
		nonprod, prod = "444444444444", "555555555555"
		state         = "arn:aws:s3:::nsflow-tfstate-555555555555-eu-central-1-an"
		stateKey      = "arn:aws:kms:eu-central-1:555555555555:key/state"
		bundles       = "arn:aws:kms:eu-central-1:222222222222:key/bundles"
		backups       = "arn:aws:s3:::nsflow-velero"
		cluster       = "arn:aws:eks:eu-central-1:444444444444:cluster/nsflow-nonprod"
		parameter     = "arn:aws:ssm:eu-central-1:444444444444:parameter/"
		secret        = "arn:aws:secretsmanager:eu-central-1:444444444444:secret:"
		member        = "arn:aws:iam::555555555555:role/OrganizationAccountAccessRole"
	)
	inOrganization := map[string][]string{"aws:resourceorgid": {"o-example"}}
	tests := []struct {
		role, action, resource string
		context                map[string][]string
		want                   bool
	}{
		{"prod/platform-plan", "s3:ListBucket", state, nil, true},
		{"prod/platform-plan", "s3:GetObject", state + "/baseline.tfstate", nil, true},
		{"prod/platform-plan", "kms:Decrypt", stateKey, nil, true},
		{"prod/platform-plan", "s3:PutObject", state + "/baseline.tfstate.tflock", nil, true},
		{"prod/platform-plan", "s3:DeleteObject", state + "/baseline.tfstate.tflock", nil, true},
		{"prod/platform-plan", "s3:PutObject", state + "/baseline.tfstate", nil, false},
		{"prod/platform-plan", "s3:DeleteObject", state + "/baseline.tfstate", nil, false},
		{"prod/platform-plan", "s3:DeleteObjectVersion", state + "/baseline.tfstate.tflock", nil, false},
		{"prod/platform-plan", "s3:GetObject", "arn:aws:s3:::nsflow-tfstate-444444444444-eu-central-1-an/x.tfstate", nil, false},
		{"prod/platform-apply", "s3:PutObject", state + "/baseline.tfstate", nil, true},
		{"prod/platform-apply", "s3:DeleteObject", state + "/baseline.tfstate", nil, false},
		{"prod/platform-apply", "s3:PutBucketPolicy", state, nil, false},
		{"prod/platform-apply", "kms:ScheduleKeyDeletion", stateKey, nil, false},
		{"prod/platform-apply", "iam:PutRolePolicy", "arn:aws:iam::555555555555:role/platform-apply", nil, false},
		{"prod/platform-apply", "sts:AssumeRole", member, inOrganization, false},
		{"prod/platform-apply", "kms:Sign", bundles, nil, false},

		{"nonprod/orders-dev", "eks:DescribeCluster", cluster, nil, true},
		{"nonprod/orders-dev", "eks:DescribeCluster", "arn:aws:eks:eu-central-1:555555555555:cluster/nsflow-prod", nil, false},
		{"nonprod/orders-dev", "kms:Sign", bundles, nil, true},
		{"nonprod/orders-dev", "kms:GetPublicKey", bundles, nil, true},
		{"nonprod/orders-dev", "kms:ScheduleKeyDeletion", bundles, nil, false},
		{"nonprod/orders-dev", "s3:GetObject", backups + "/nonprod/x", inOrganization, false},
		{"nonprod/orders-review", "eks:DescribeCluster", cluster, nil, true},
		{"nonprod/orders-review", "kms:Sign", bundles, nil, false},
		{"nonprod/environments-stage", "kms:GetPublicKey", bundles, nil, true},
		{"nonprod/environments-stage", "kms:Sign", bundles, nil, false},
		{"prod/environments-prod", "kms:GetPublicKey", bundles, nil, true},
		{"prod/environments-prod", "kms:Sign", bundles, nil, false},
		{"nonprod/backup-dev", "s3:GetObject", backups + "/nonprod/backups/a/velero-backup.json", inOrganization, true},
		{"nonprod/backup-dev", "s3:ListBucket", backups, inOrganization, true},
		{"prod/backup-prod", "s3:GetObject", backups + "/nonprod/backups/a/velero-backup.json", inOrganization, true},
		{"prod/backup-prod", "s3:GetObject", backups + "/nonprod/backups/a/velero-backup.json", map[string][]string{"aws:resourceorgid": {"o-other"}}, false},
		{"prod/backup-prod", "s3:GetObject", backups + "/nonprod/backups/a/velero-backup.json", nil, false},
		{"nonprod/backup-dev", "s3:PutObject", backups + "/nonprod/backups/a/velero-backup.json", inOrganization, false},
		{"nonprod/backup-dev", "s3:DeleteObject", backups + "/nonprod/backups/a/velero-backup.json", inOrganization, false},

		{"nonprod/orders-dev", "ssm:GetParameter", parameter + "orders/smtp", nil, true},
		{"nonprod/orders-dev", "secretsmanager:GetSecretValue", secret + "orders/db-a1b2c3", nil, true},
		{"nonprod/orders-dev", "ssm:GetParameter", parameter + "catalog/smtp", nil, false},
		{"nonprod/orders-dev", "secretsmanager:GetSecretValue", secret + "catalog/db-a1b2c3", nil, false},
		{"nonprod/orders-dev", "secretsmanager:GetSecretValue", secret + "ordersx/db-a1b2c3", nil, false},
		{"nonprod/orders-dev", "secretsmanager:PutSecretValue", secret + "orders/db-a1b2c3", nil, false},
		{"nonprod/orders-dev", "ssm:GetParameter", parameter + "slipway/nsflow/landscape", nil, false},
		{"nonprod/orders-review", "secretsmanager:GetSecretValue", secret + "orders/db-a1b2c3", nil, false},
		{"nonprod/orders-review", "ssm:GetParameter", parameter + "orders/smtp", nil, false},
		{"nonprod/environments-stage", "secretsmanager:GetSecretValue", secret + "catalog/db-a1b2c3", nil, true},
		{"nonprod/environments-stage", "secretsmanager:GetSecretValue", secret + "platform/dns-a1b2c3", nil, false},
		{"nonprod/environments-stage", "ssm:GetParameter", parameter + "slipway/nsflow/landscape", nil, false},
		{"nonprod/environments-stage", "secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-central-1:555555555555:secret:orders/db-a1b2c3", nil, false},
		{"nonprod/platform-deploy", "secretsmanager:GetSecretValue", secret + "platform/dns-a1b2c3", nil, true},
		{"nonprod/platform-deploy", "secretsmanager:GetSecretValue", secret + "orders/db-a1b2c3", nil, false},

		{"management/bootstrap", "sts:AssumeRole", member, inOrganization, true},
		{"management/bootstrap", "sts:AssumeRole", member, map[string][]string{"aws:resourceorgid": {"o-other"}}, false},
		{"management/bootstrap", "sts:AssumeRole", member, nil, false},
		{"management/bootstrap", "organizations:CreateAccount", "*", nil, true},
		{"management/bootstrap", "organizations:CloseAccount", "arn:aws:organizations::111111111111:account/o-example/555555555555", nil, false},
		{"management/bootstrap", "organizations:EnableAWSServiceAccess", "*", map[string][]string{"organizations:serviceprincipal": {cloudTrail}}, true},
		{"management/bootstrap", "organizations:EnableAWSServiceAccess", "*", map[string][]string{"organizations:serviceprincipal": {"sso.amazonaws.com"}}, false},
		{"management/bootstrap", "iam:GetRole", "arn:aws:iam::111111111111:role/bootstrap", nil, true},
		{"management/bootstrap", "iam:PutRolePolicy", "arn:aws:iam::111111111111:role/bootstrap", nil, false},
		{"management/bootstrap", "iam:CreateRole", "arn:aws:iam::111111111111:role/another", nil, false},
		{"management/bootstrap", "cloudtrail:StopLogging", "arn:aws:cloudtrail:eu-central-1:111111111111:trail/nsflow-audit", nil, false},
		{"management/bootstrap", "cloudtrail:StartLogging", "arn:aws:cloudtrail:eu-central-1:111111111111:trail/nsflow-audit", nil, true},
	}
	accounts := map[string]string{"management": management, "nonprod": nonprod, "prod": prod}
	bucket, err := readPolicy(backupPolicy(t), true)
	if err != nil {
		t.Fatal(err)
	}
	guards := map[string]*document{backups: bucket, state: docs["bucket state"], stateKey: docs["key state"], bundles: docs["key bundles"]}
	for _, tt := range tests {
		t.Run(tt.role+" "+tt.action+" "+tt.resource, func(t *testing.T) {
			d := docs["role "+tt.role+" permissions"]
			if d == nil {
				t.Fatal("there is no such role")
			}
			account, name, _ := strings.Cut(tt.role, "/")
			id := accounts[account]
			arn := "arn:aws:iam::" + id + ":role/" + name
			q := query{who: principal{account: id, role: arn, arn: "arn:aws:sts::" + id + ":assumed-role/" + name + "/gl-1-2-3"}, action: tt.action, resource: tt.resource,
				context: map[string][]string{"aws:principalarn": {arn}, "aws:principalorgid": {"o-example"}, "aws:securetransport": {"true"}}}
			for k, v := range tt.context {
				q.context[k] = v
			}
			var g guard
			for of, policy := range guards {
				if strings.HasPrefix(tt.resource, of) {
					parts := strings.Split(of, ":")
					g = guard{policy: policy, sole: parts[2] == "kms", foreign: of == backups || parts[4] != "" && parts[4] != id}
				}
			}
			if reason := (&rights{identity: []*document{d}}).evaluate(q, g); (reason == "") != tt.want {
				t.Errorf("refused %q, want allowed %v", reason, tt.want)
			}
		})
	}
	q := query{who: principal{account: prod, arn: "x"}, action: "s3:GetObject", resource: state + "/x", context: map[string][]string{"aws:securetransport": {"false"}}}
	if got := docs["bucket state"].decide(q); got != denied {
		t.Errorf("plain HTTP to the state bucket is %v", got)
	}
}

// TestNoWildcards: none of our roles has every action of a service, and a star
// for a resource only where the call knows none, or a condition bounds it.
func TestNoWildcards(t *testing.T) {
	docs := bootstrapPolicies(t)
	roles := 0
	for name, d := range docs {
		if !strings.HasSuffix(name, " permissions") {
			continue
		}
		roles++
		for _, s := range d.Statement {
			for _, action := range s.Action {
				if strings.Contains(action, "*") {
					t.Errorf("%s: %s: the action %q", name, s.Sid, action)
				}
				if _, known := operations()[action]; !known && !strings.HasPrefix(action, "s3:") && action != "eks:DescribeCluster" {
					t.Errorf("%s: %s: %s is a right for no call that the front knows", name, s.Sid, action)
				}
				for _, resource := range s.Resource {
					if resource == "*" && !strings.HasPrefix(action, "organizations:") {
						t.Errorf("%s: %s: %s on everything", name, s.Sid, action)
					}
				}
			}
		}
	}
	if roles < 15 {
		t.Errorf("only %d roles were looked at", roles)
	}
}

// TestBootstrapAsItsRole: the job's role, whose rights are judged call by call,
// makes an account and a unit more, and all that is in it; it mends the trail;
// and what is a person's to change, it cannot.
func TestBootstrapAsItsRole(t *testing.T) {
	e := newEstate(t, Settings{})
	e.must(0, "apply")
	token := e.gitlab.token(t, map[string]any{"sub": "project_id:42:ref_protected:true:ref_type:branch:ref:main"})
	session, err := e.web("arn:aws:iam::"+management+":role/bootstrap", token, 0)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := session.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.as(creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken)
	e.must(0, "verify")
	file := filepath.Join(e.dir, "landscape", "landscape.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(raw), "  nonprod: {ou: workloads}\n", "  nonprod: {ou: workloads}\n  laboratory: {ou: laboratories}\n", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := e.must(0, "apply")
	for _, want := range []string{"created management: organizational unit laboratories", "created management: account laboratory", "created laboratory: role platform-apply"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	list, err := organizations.NewFromConfig(e.adminConfig()).ListAccounts(t.Context(), nil)
	if err != nil || len(list.Accounts) != 6 {
		t.Errorf("accounts: %+v, %v", list, err)
	}
	e.own(http.MethodPost, "faults", Fault{Service: "cloudtrail", Action: "GetTrail", Kind: faultError, Code: "TrailNotFoundException", Times: 1}, nil)
	if code, out := e.run("apply"); code != 0 {
		t.Errorf("a trail that is there after all: %d\n%s", code, out)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(text, "platformProject: {path: nsflow/platform, id: 42}", "platformProject: {path: nsflow/platform, id: 4242}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := e.run("apply")
	if code != 6 && code != 77 || !strings.Contains(out, "is not authorized to perform: iam:UpdateAssumeRolePolicy on resource: arn:aws:iam::"+management+":role/bootstrap") {
		t.Errorf("its own trust policy: exit code %d\n%s", code, out)
	}
}
