package gitlabapitest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func loadKey(file string) (*rsa.PrivateKey, string, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, kerr := rsa.GenerateKey(rand.Reader, 2048)
		if kerr != nil {
			return nil, "", fmt.Errorf("making the id token key: %w", kerr)
		}
		data = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
		err = writeAtomically(file, data)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the id token key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, "", fmt.Errorf("reading the id token key %q: no PEM block", file)
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("reading the id token key %q: %w", file, err)
	}
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	return key, hex.EncodeToString(sum[:16]), nil
}

var errBurnedPath = errors.New("ID token issuance is disabled: the project's path was that of another project; let the subject begin with project_id")

// idToken signs the claims GitLab puts into a job's ID token, with GitLab's types: numbers as strings, and
// ref_protected as the text "true".
func (s *Server) idToken(p *project, pl *pipeline, j *job, u user, audience []string, now time.Time) (string, error) {
	// Of a merge request from a fork, the token's project and ref are the fork's; only job_* name the project that
	// runs the job.
	source := p
	if pl.MergeRequest != 0 && pl.SourceProject != p.ID {
		s.mu.Lock()
		copied := *s.st.Projects[pl.SourceProject]
		s.mu.Unlock()
		source = &copied
	}
	refType, refPath := "branch", "refs/heads/"+pl.Ref
	if pl.Tag {
		refType, refPath = "tag", "refs/tags/"+pl.Ref
	}
	namespace, _, _ := cutLast(source.Path, "/")
	jobNamespace, _, _ := cutLast(p.Path, "/")
	host := strings.TrimPrefix(strings.TrimPrefix(s.cfg.ExternalURL, "https://"), "http://")
	visibility := "private"
	if source.Public {
		visibility = "public"
	}
	claims := map[string]any{
		"iss": s.cfg.ExternalURL, "iat": now.Unix(), "nbf": now.Add(-5 * time.Second).Unix(),
		"exp": now.Add(j.Definition.timeout()).Unix(), "jti": randomHex(16),
		"namespace_id": id(source.Group), "namespace_path": namespace,
		"project_id": id(source.ID), "project_path": source.Path, "project_visibility": visibility,
		"job_namespace_id": id(p.Group), "job_namespace_path": jobNamespace, "job_source": pl.Source,
		"job_project_id": id(p.ID), "job_project_path": p.Path,
		"user_id": id(u.ID), "user_login": u.Login, "user_email": u.Email, "user_access_level": u.levelName(),
		"pipeline_id": id(pl.ID), "pipeline_source": pl.Source, "job_id": id(j.ID),
		"ref": pl.Ref, "ref_type": refType, "ref_path": refPath, "ref_protected": strconv.FormatBool(p.runsProtected(pl)),
		"runner_id": 1, "runner_environment": "self-hosted", "sha": pl.SHA,
		"ci_config_ref_uri": host + "/" + p.Path + "//.gitlab-ci.yml@" + refPath, "ci_config_sha": pl.SHA,
	}
	if len(audience) == 1 {
		claims["aud"] = audience[0]
	} else {
		claims["aud"] = audience
	}
	if env := j.Definition.Environment; env != nil {
		claims["environment"] = env.Name
		s.mu.Lock()
		claims["environment_protected"] = strconv.FormatBool(s.protection(p.ID, env.Name) != nil)
		s.mu.Unlock()
		claims["environment_action"] = env.Action
		claims["deployment_tier"] = env.tier()
	}
	components := p.SubComponents
	if len(components) == 0 {
		components = []string{"project_path", "ref_type", "ref"}
	}
	if source.PathUsedBefore && slices.Contains(components, "project_path") {
		return "", errBurnedPath
	}
	parts := make([]string, 0, len(components))
	for _, name := range components {
		value, ok := claims[name]
		if !ok {
			return "", fmt.Errorf("signing an id token: subject component %q is no claim of this job", name)
		}
		parts = append(parts, fmt.Sprintf("%s:%v", name, value))
	}
	claims["sub"] = strings.Join(parts, ":")
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("signing an id token: %w", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: s.key, KeyID: s.keyID}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("signing an id token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing an id token: %w", err)
	}
	return signed.CompactSerialize()
}

// subComponents are the claims that GitLab lets a project build its subject from.
func subComponents() []string {
	return []string{"project_id", "project_path", "job_project_id", "job_project_path", "namespace_id", "namespace_path",
		"ref", "ref_type", "ref_protected", "environment_protected", "deployment_tier", "user_id", "user_login"}
}

// discovery names the key set under the endpoint, which can be reached, while the issuer stays the identity.
func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{
		"issuer": s.cfg.ExternalURL, "jwks_uri": s.cfg.Endpoint + "/oauth/discovery/keys",
		"authorization_endpoint": s.cfg.ExternalURL + "/oauth/authorize", "token_endpoint": s.cfg.ExternalURL + "/oauth/token",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"claims_supported":                      append([]string{"iss", "sub", "aud", "exp", "iat"}, subComponents()...),
	})
}

func (s *Server) keys(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &s.key.PublicKey, KeyID: s.keyID, Algorithm: "RS256", Use: "sig"}}})
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24: it ends the program instead
	return hex.EncodeToString(b)
}

func id(n int64) string { return strconv.FormatInt(n, 10) }

func cutLast(s, sep string) (string, string, bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
