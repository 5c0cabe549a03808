package cienv_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gitlab.com/slipway/slipway/pkg/cienv"
)

const issuer, audience = "https://gitlab.example.com", "https://gitlab.example.com"

type signer struct {
	key *rsa.PrivateKey
	url string
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/oauth/discovery/keys" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	}))
	t.Cleanup(srv.Close)
	return signer{key, srv.URL}
}

func (s signer) token(t *testing.T, change func(map[string]any)) string {
	t.Helper()
	claims := map[string]any{"iss": issuer, "aud": audience, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"sub": "project_id:77:ref_protected:true:ref_type:branch:ref:main", "project_id": "77", "project_path": "nsflow/orders",
		"ref": "main", "ref_type": "branch", "ref_protected": "true", "pipeline_id": "5", "job_id": "9", "user_login": "ada", "sha": "abc"}
	change(claims)
	sig, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: s.key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(sig).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestVerify(t *testing.T) {
	s := newSigner(t)
	id, err := cienv.Verify(context.Background(), s.token(t, func(map[string]any) {}), issuer, s.url, audience)
	if err != nil {
		t.Fatal(err)
	}
	if id.ProjectID != 77 || id.PipelineID != 5 || id.JobID != 9 || !id.RefProtected || id.ProjectPath != "nsflow/orders" || id.User != "ada" {
		t.Errorf("identity is %+v", id)
	}
}

func TestVerifyRefuses(t *testing.T) {
	s, stranger := newSigner(t), newSigner(t)
	stranger.url = s.url
	for name, token := range map[string]string{
		"another audience": s.token(t, func(c map[string]any) { c["aud"] = "https://elsewhere.example.com" }),
		"another issuer":   s.token(t, func(c map[string]any) { c["iss"] = "https://elsewhere.example.com" }),
		"expired":          s.token(t, func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }),
		"another key":      stranger.token(t, func(map[string]any) {}),
		"no token":         "x.y.z",
	} {
		if _, err := cienv.Verify(context.Background(), token, issuer, s.url, audience); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := cienv.Verify(context.Background(), "", issuer, s.url, audience); !errors.Is(err, cienv.ErrNoToken) {
		t.Errorf("without a token: %v", err)
	}
}

// TestJobStaysAJob: a pipeline that overrides GITLAB_CI makes no person of it.
func TestJobStaysAJob(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"GITLAB_CI": {"GITLAB_CI": "true"}, "job token": {"GITLAB_CI": "false", "CI_JOB_TOKEN": "t"}, "ID token": {"GITLAB_CI": "", "SLIPWAY_ID_TOKEN": "t"},
	} {
		if !cienv.Read(func(k string) string { return env[k] }).InJob {
			t.Errorf("%s: it is taken for a person", name)
		}
	}
	if cienv.Read(func(k string) string { return map[string]string{"SLIPWAY_GITLAB_TOKEN": "t", "CI_SERVER_URL": "u"}[k] }).InJob {
		t.Error("a person with a token of their own is taken for a job")
	}
}

// TestVerifyWithoutKeys: an instance that does not answer says nothing of the
// token, and is not waited for without end.
func TestVerifyWithoutKeys(t *testing.T) {
	s := newSigner(t)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(broken.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, endpoint := range map[string]string{"no answer": gone.URL, "502": broken.URL} {
		if _, err := cienv.Verify(t.Context(), s.token(t, func(map[string]any) {}), issuer, endpoint, audience); !errors.Is(err, cienv.ErrUnreachable) {
			t.Errorf("%s: %v, want ErrUnreachable", name, err)
		}
	}
	if _, err := cienv.Verify(t.Context(), "x.y.z", issuer, s.url, audience); err == nil || errors.Is(err, cienv.ErrUnreachable) {
		t.Errorf("a bad token: %v", err)
	}
}

func TestRead(t *testing.T) {
	env := map[string]string{"GITLAB_CI": "true", "CI_SERVER_URL": "https://gitlab.example.com/", "CI_COMMIT_SHA": "abc"}
	c := cienv.Read(func(k string) string { return env[k] })
	if !c.InJob || c.ServerURL != "https://gitlab.example.com" || c.Endpoint != c.ServerURL || c.Commit != "abc" {
		t.Errorf("read %+v", c)
	}
	env["SLIPWAY_GITLAB_ENDPOINT"] = "http://10.0.0.1:8080"
	if c = cienv.Read(func(k string) string { return env[k] }); c.Endpoint != "http://10.0.0.1:8080" {
		t.Errorf("endpoint is %q", c.Endpoint)
	}
}
