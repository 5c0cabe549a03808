package awsfront

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"gitlab.com/slipway/slipway/internal/mototest"
)

func TestCallers(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	if account, arn, err := whoami(t, b.adminConfig()); err != nil || account != management || arn != "arn:aws:iam::111111111111:user/slipway-admin" {
		t.Fatalf("the administrator is %q in %q, %v", arn, account, err)
	}
	t.Run("unknown key", func(t *testing.T) {
		cfg := b.config("AKIA0000000000000000", "x", "")
		_, _, err := whoami(t, cfg)
		wantCode(t, err, "InvalidClientTokenId")
		_, err = kms.NewFromConfig(cfg).ListKeys(ctx, nil)
		wantCode(t, err, "UnrecognizedClientException")
		_, err = s3.NewFromConfig(cfg, pathStyle).ListBuckets(ctx, nil)
		wantCode(t, err, "InvalidAccessKeyId")
	})
	t.Run("no signature", func(t *testing.T) {
		cfg := b.config("", "", "")
		cfg.Credentials = aws.AnonymousCredentials{}
		_, err := kms.NewFromConfig(cfg).ListKeys(ctx, nil)
		if got := code(err); got == "" {
			t.Error("an unsigned call went through")
		}
	})
	t.Run("wrong secret", func(t *testing.T) {
		cfg := b.config(b.admin.AccessKey, "wrong", "")
		_, _, err := whoami(t, cfg)
		wantCode(t, err, "SignatureDoesNotMatch")
		_, err = organizations.NewFromConfig(cfg).DescribeOrganization(ctx, nil)
		wantCode(t, err, "InvalidSignatureException")
	})
	t.Run("keys of other users", func(t *testing.T) {
		client := iam.NewFromConfig(b.adminConfig())
		if _, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("dev")}); err != nil {
			t.Fatal(err)
		}
		key, err := client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("dev")})
		if err != nil {
			t.Fatal(err)
		}
		cfg := b.config(*key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, "")
		if _, arn, err := whoami(t, cfg); err != nil || !strings.HasSuffix(arn, ":user/dev") {
			t.Errorf("the key's user is %q, %v", arn, err)
		}
		if _, err := client.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("dev"), AccessKeyId: key.AccessKey.AccessKeyId}); err != nil {
			t.Fatal(err)
		}
		_, _, err = whoami(t, cfg)
		wantCode(t, err, "InvalidClientTokenId")
	})
	t.Run("state", func(t *testing.T) {
		info, err := os.Stat(b.cfg.StateFile)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the state file is %v, %v", info, err)
		}
		before := b.admin
		member := b.account("kept")
		session := b.in(member)
		b.restart()
		if b.admin.AccessKey != before.AccessKey || b.admin.SecretKey != before.SecretKey || b.admin.Fresh {
			t.Errorf("after a restart the administrator is %+v, was %+v", b.admin, before)
		}
		session.BaseEndpoint = &b.url
		if account, _, err := whoami(t, session); err != nil || account != member {
			t.Errorf("a session from before the restart is in %q, %v", account, err)
		}
		b.cfg.MotoURL = mototest.Start(t)
		b.restart()
		if b.admin.AccessKey != before.AccessKey || !b.admin.Fresh {
			t.Errorf("with a new moto the administrator is %+v", b.admin)
		}
		session.BaseEndpoint = &b.url
		_, _, err = whoami(t, session)
		wantCode(t, err, "InvalidClientTokenId")
	})
}

func pathStyle(o *s3.Options) { o.UsePathStyle = true }

func TestAssumeRole(t *testing.T) {
	b := newBench(t, nil)
	member, other := b.account("nonprod"), b.account("prod")
	access := "arn:aws:iam::" + member + ":role/OrganizationAccountAccessRole"
	inMember := b.in(member)
	if account, arn, err := whoami(t, inMember); err != nil || account != member || arn != "arn:aws:sts::"+member+":assumed-role/OrganizationAccountAccessRole/test-session" {
		t.Fatalf("the session is %q in %q, %v", arn, account, err)
	}
	t.Run("lands in the account", func(t *testing.T) {
		roles, err := iam.NewFromConfig(inMember).ListRoles(t.Context(), nil)
		if err != nil || len(roles.Roles) != 1 || *roles.Roles[0].Arn != access {
			t.Errorf("roles = %v, %v", roles, err)
		}
	})
	_, err := b.chain(inMember, "arn:aws:iam::"+other+":role/OrganizationAccountAccessRole", nil)
	wantCode(t, err, "AccessDenied") // it trusts the management account
	_, err = b.chain(b.adminConfig(), "arn:aws:iam::"+member+":role/absent", nil)
	wantCode(t, err, "AccessDenied")
	_, err = b.chain(b.adminConfig(), access, func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(7200) })
	wantCode(t, err, "ValidationError")

	org, err := organizations.NewFromConfig(b.adminConfig()).DescribeOrganization(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := func(principal, action, condition string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":` + action + `,"Condition":` + condition + `}}`
	}
	caller := "arn:aws:iam::" + member + ":role/OrganizationAccountAccessRole"
	b.role(inMember, "other", trust(caller, `"sts:AssumeRole"`, `{}`))
	tests := []struct {
		name, trust, want string
		change            func(*sts.AssumeRoleInput)
	}{
		{"by-role", trust(caller, `"sts:AssumeRole"`, `{}`), "", nil},
		{"other-role", trust("arn:aws:iam::"+member+":role/other", `"sts:AssumeRole"`, `{}`), "AccessDenied", nil},
		{"principal-arn", trust("*", `"sts:AssumeRole"`, `{"ArnLike":{"aws:PrincipalArn":"`+caller+`"}}`), "", nil},
		{"organization", trust("*", `"sts:AssumeRole"`, `{"StringEquals":{"aws:PrincipalOrgID":"`+*org.Organization.Id+`"}}`), "", nil},
		{"other-organization", trust("*", `"sts:AssumeRole"`, `{"StringEquals":{"aws:PrincipalOrgID":"o-other"}}`), "AccessDenied", nil},
		{"session-name", trust("*", `"sts:AssumeRole"`, `{"StringLike":{"sts:RoleSessionName":"gl-*"}}`), "AccessDenied", nil},
		{"external-id-absent", trust("*", `"sts:AssumeRole"`, `{"StringEquals":{"sts:ExternalId":"e1"}}`), "AccessDenied", nil},
		{"external-id", trust("*", `"sts:AssumeRole"`, `{"StringEquals":{"sts:ExternalId":"e1"}}`), "", func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("e1") }},
		{"source-identity-unasked", trust("*", `"sts:AssumeRole"`, `{}`), "AccessDenied", func(in *sts.AssumeRoleInput) { in.SourceIdentity = aws.String("jane") }},
		{"source-identity", trust("*", `["sts:AssumeRole","sts:SetSourceIdentity"]`, `{"StringEquals":{"sts:SourceIdentity":"jane"}}`), "", func(in *sts.AssumeRoleInput) { in.SourceIdentity = aws.String("jane") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			arn := b.role(b.in(other), tt.name, tt.trust)
			_, err := b.chain(inMember, arn, tt.change)
			wantCode(t, err, tt.want)
		})
	}
	t.Run("expired", func(t *testing.T) {
		b.clock.move(2 * time.Hour)
		defer b.clock.move(-2 * time.Hour)
		_, _, err := whoami(t, inMember)
		wantCode(t, err, "ExpiredToken")
		_, err = kms.NewFromConfig(inMember).ListKeys(t.Context(), nil)
		wantCode(t, err, "ExpiredTokenException")
	})
}

func TestWebIdentity(t *testing.T) {
	b := newBench(t, nil)
	member, other := b.account("nonprod"), b.account("prod")
	inMember := b.in(member)
	provider := b.provider(inMember)
	exact := `{"StringEquals":{"gitlab.example.com:aud":"https://gitlab.example.com","gitlab.example.com:sub":"` + subject + `"}}`
	dev := b.role(inMember, "orders-dev", webTrust(provider, exact))
	unprovided := b.role(b.in(other), "orders-stage", webTrust("arn:aws:iam::"+other+":oidc-provider/gitlab.example.com", exact))
	claims := b.role(inMember, "by-claim", webTrust(provider, `{"StringEquals":{"gitlab.example.com:project_id":"77"}}`))
	stage := b.role(inMember, "orders-stage", webTrust(provider, strings.Replace(exact, "project_id:77", "project_id:43", 1)))
	foreign := &gitlab{key: newGitLab(t).key}
	token := b.gitlab.token(t, nil)
	tests := []struct {
		name, role, token string
		seconds           int32
		want              string
	}{
		{"trusted", dev, token, 0, ""},
		{"role of another subject", stage, token, 0, "AccessDenied"},
		{"other subject", dev, b.gitlab.token(t, map[string]any{"sub": "project_id:78:ref_protected:true:ref_type:branch:ref:main"}), 0, "AccessDenied"},
		{"unprotected ref", dev, b.gitlab.token(t, map[string]any{"sub": "project_id:77:ref_protected:false:ref_type:branch:ref:x"}), 0, "AccessDenied"},
		{"a claim that is no key", claims, token, 0, "AccessDenied"},
		{"absent role", "arn:aws:iam::" + member + ":role/absent", token, 0, "AccessDenied"},
		{"no provider in the account", unprovided, token, 0, "InvalidIdentityToken"},
		{"audience", dev, b.gitlab.token(t, map[string]any{"aud": "sts.amazonaws.com"}), 0, "InvalidIdentityToken"},
		{"expired", dev, b.gitlab.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), 0, "ExpiredTokenException"},
		{"not yet valid", dev, b.gitlab.token(t, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}), 0, "InvalidIdentityToken"},
		{"other issuer", dev, b.gitlab.token(t, map[string]any{"iss": "https://gitlab.com"}), 0, "InvalidIdentityToken"},
		{"forged", dev, foreign.token(t, nil), 0, "InvalidIdentityToken"},
		{"no token", dev, "glpat-abc", 0, "InvalidIdentityToken"},
		{"longer than the role's maximum", dev, token, 7200, "ValidationError"},
		{"shorter than allowed", dev, token, 60, "ValidationError"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := b.web(tt.role, tt.token, tt.seconds)
			wantCode(t, err, tt.want)
			if err != nil || tt.want != "" {
				return
			}
			account, arn, err := whoami(t, cfg)
			if err != nil || account != member || arn != "arn:aws:sts::"+member+":assumed-role/orders-dev/gl-77-1-2" {
				t.Errorf("the session is %q in %q, %v", arn, account, err)
			}
		})
	}
}
