package session

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// TestOwnerIsTheTokens: who holds a lock, and the link to that job, is what the
// verified ID token says; a pipeline may override CI_JOB_URL.
func TestOwnerIsTheTokens(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	}))
	defer keys.Close()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any{"iss": "https://gitlab.example.com", "aud": "https://gitlab.example.com", "exp": time.Now().Add(time.Hour).Unix(),
		"project_id": "77", "project_path": "nsflow/orders", "pipeline_id": "5", "job_id": "9", "user_login": "ada"}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	s, err := openWith(t, map[string]string{"SLIPWAY_ID_TOKEN": token, "CI_SERVER_URL": "https://gitlab.example.com", "SLIPWAY_GITLAB_ENDPOINT": keys.URL,
		"CI_JOB_URL": "https://elsewhere.example.com/jobs/1", "CI_JOB_ID": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if o := s.Owner; o.Kind != "job" || o.Job != 9 || o.User != "ada" || o.URL != "https://gitlab.example.com/nsflow/orders/-/jobs/9" {
		t.Errorf("the owner is %+v", o)
	}
}
