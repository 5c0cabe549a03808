package awsfront

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gitlab.com/slipway/slipway/internal/mototest"
)

const (
	testIssuer = "https://gitlab.example.com"
	management = "111111111111"
	testRegion = "eu-central-1"
)

// clock can be moved, and stopped.
type clock struct {
	mu      sync.Mutex
	shift   time.Duration
	stopped time.Time
}

// stop has the clock stand where it is, but for moves.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = time.Now()
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped.IsZero() {
		return c.stopped.Add(c.shift)
	}
	return time.Now().Add(c.shift)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shift += d
}

// gitlab issues ID tokens.
type gitlab struct {
	key  *rsa.PrivateKey
	jwks string
}

func newGitLab(t *testing.T) *gitlab {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	}))
	t.Cleanup(server.Close)
	return &gitlab{key, server.URL}
}

func (g *gitlab) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": testIssuer, "aud": testIssuer, "sub": subject, "project_id": "77",
		"iat": time.Now().Unix(), "nbf": time.Now().Add(-5 * time.Second).Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: g.key}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// bench is a front before a moto, with an administrator.
type bench struct {
	t      *testing.T
	front  *Front
	url    string
	cfg    Config
	clock  *clock
	gitlab *gitlab
	admin  Seeded
}

func newBench(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, clock: &clock{}, gitlab: newGitLab(t)}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("der")}), 0o600); err != nil {
		t.Fatal(err)
	}
	b.cfg = Config{
		MotoURL: mototest.Start(t), Region: testRegion, Issuers: map[string]string{testIssuer: b.gitlab.jwks},
		Clusters:          []Cluster{{Name: "nsflow-nonprod", AccountName: "nonprod", Region: testRegion, Version: "1.37", Endpoint: "https://127.0.0.1:6443", CAFile: ca}},
		ManagementAccount: management, StateFile: filepath.Join(t.TempDir(), "state.json"), Now: b.clock.now,
	}
	if change != nil {
		change(&b.cfg)
	}
	b.restart()
	return b
}

// restart puts a new front before the same moto.
func (b *bench) restart() {
	b.t.Helper()
	var err error
	if b.front, err = New(b.cfg); err != nil {
		b.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, b.front) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Serve: %v", err)
		}
	})
	b.url = "http://" + l.Addr().String()
	if b.admin, err = b.front.Seed(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) config(access, secret, token string) aws.Config {
	return aws.Config{Region: testRegion, BaseEndpoint: &b.url, RetryMaxAttempts: 1,
		Credentials:                credentials.NewStaticCredentialsProvider(access, secret, token),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired}
}

func (b *bench) adminConfig() aws.Config {
	return b.config(b.admin.AccessKey, b.admin.SecretKey, "")
}

// account creates a member account.
func (b *bench) account(name string) string {
	b.t.Helper()
	client := organizations.NewFromConfig(b.adminConfig())
	if _, err := client.CreateOrganization(b.t.Context(), &organizations.CreateOrganizationInput{FeatureSet: "ALL"}); err != nil && code(err) != "AlreadyInOrganizationException" {
		b.t.Fatal(err)
	}
	out, err := client.CreateAccount(b.t.Context(), &organizations.CreateAccountInput{AccountName: &name, Email: aws.String(name + "@example.com")})
	if err != nil {
		b.t.Fatal(err)
	}
	status, err := client.DescribeCreateAccountStatus(b.t.Context(), &organizations.DescribeCreateAccountStatusInput{CreateAccountRequestId: out.CreateAccountStatus.Id})
	if err != nil || status.CreateAccountStatus.AccountId == nil {
		b.t.Fatalf("the account %q is not made: %+v, %v", name, status, err)
	}
	return *status.CreateAccountStatus.AccountId
}

// chain assumes a role with cfg.
func (b *bench) chain(cfg aws.Config, arn string, change func(*sts.AssumeRoleInput)) (aws.Config, error) {
	in := &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("test-session")}
	if change != nil {
		change(in)
	}
	out, err := sts.NewFromConfig(cfg).AssumeRole(b.t.Context(), in)
	if err != nil {
		return aws.Config{}, err
	}
	return b.config(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken), nil
}

// in returns the administrator's access to a member account.
func (b *bench) in(account string) aws.Config {
	b.t.Helper()
	cfg, err := b.chain(b.adminConfig(), "arn:aws:iam::"+account+":role/OrganizationAccountAccessRole", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return cfg
}

// web assumes a role with an ID token.
func (b *bench) web(arn, token string, seconds int32) (aws.Config, error) {
	cfg := b.config("", "", "")
	cfg.Credentials = aws.AnonymousCredentials{}
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: &arn, RoleSessionName: aws.String("gl-77-1-2"), WebIdentityToken: &token}
	if seconds > 0 {
		in.DurationSeconds = &seconds
	}
	out, err := sts.NewFromConfig(cfg).AssumeRoleWithWebIdentity(b.t.Context(), in)
	if err != nil {
		return aws.Config{}, err
	}
	return b.config(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken), nil
}

func (b *bench) role(cfg aws.Config, name, trust string) string {
	b.t.Helper()
	out, err := iam.NewFromConfig(cfg).CreateRole(b.t.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust})
	if err != nil {
		b.t.Fatal(err)
	}
	return aws.ToString(out.Role.Arn)
}

// provider makes the account's OIDC provider for GitLab.
func (b *bench) provider(cfg aws.Config) string {
	b.t.Helper()
	out, err := iam.NewFromConfig(cfg).CreateOpenIDConnectProvider(b.t.Context(), &iam.CreateOpenIDConnectProviderInput{Url: aws.String(testIssuer), ClientIDList: []string{testIssuer}})
	if err != nil {
		b.t.Fatal(err)
	}
	return aws.ToString(out.OpenIDConnectProviderArn)
}

func webTrust(provider, condition string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + provider + `"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":` + condition + `}]}`
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func wantCode(t *testing.T, err error, want string) {
	t.Helper()
	if code(err) != want {
		t.Errorf("error = %v, want code %q", err, want)
	}
}

func whoami(t *testing.T, cfg aws.Config) (account, arn string, err error) {
	t.Helper()
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		return "", "", err
	}
	return aws.ToString(out.Account), aws.ToString(out.Arn), nil
}
