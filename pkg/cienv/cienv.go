// Package cienv is the typed environment of a GitLab job. It is the only
// package that reads CI_* variables, and what decides about rights is read
// from the verified ID token, never from a variable: a pipeline may override
// every variable.
package cienv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// CI is what a job's variables say. None of it is proof of anything.
type CI struct {
	InJob         bool   // this is a job, or has what only a job is given
	ServerURL     string // the instance's public address
	Endpoint      string // where to connect to the instance; ServerURL unless SLIPWAY_GITLAB_ENDPOINT says otherwise
	JobURL        string
	JobToken      string
	IDToken       string
	Token         string // SLIPWAY_GITLAB_TOKEN: a person's or service account's, where a job token may not do the call
	Commit        string
	ProjectDir    string
	RegistryImage string
	// MergeRequest is the iid of the merge request whose pipeline this is, and
	// MergeRequestSHA its head where the pipeline runs on the merged result.
	MergeRequest    int64
	MergeRequestSHA string
}

// Read reads the variables through env. Whoever has a job's token is a job, and
// is held to its identity and its gates, whatever GITLAB_CI says: a pipeline
// may override that.
func Read(env func(string) string) CI {
	c := CI{
		InJob:         env("GITLAB_CI") == "true" || env("CI_JOB_TOKEN") != "" || env("SLIPWAY_ID_TOKEN") != "",
		ServerURL:     strings.TrimRight(env("CI_SERVER_URL"), "/"),
		Endpoint:      strings.TrimRight(env("SLIPWAY_GITLAB_ENDPOINT"), "/"),
		JobURL:        env("CI_JOB_URL"),
		JobToken:      env("CI_JOB_TOKEN"),
		IDToken:       env("SLIPWAY_ID_TOKEN"),
		Token:         env("SLIPWAY_GITLAB_TOKEN"),
		Commit:        env("CI_COMMIT_SHA"),
		ProjectDir:    env("CI_PROJECT_DIR"),
		RegistryImage: env("CI_REGISTRY_IMAGE"),

		MergeRequest:    number(env("CI_MERGE_REQUEST_IID")),
		MergeRequestSHA: env("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA"),
	}
	if c.Endpoint == "" {
		c.Endpoint = c.ServerURL
	}
	return c
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Identity is who a job is, as its verified ID token says.
type Identity struct {
	Subject      string `json:"sub"`
	ProjectID    int64  `json:"-"`
	ProjectPath  string `json:"project_path"`
	Ref          string `json:"ref"`
	RefType      string `json:"ref_type"`
	RefProtected bool   `json:"-"`
	PipelineID   int64  `json:"-"`
	JobID        int64  `json:"-"`
	User         string `json:"user_login"`
	Commit       string `json:"sha"`
	Environment  string `json:"environment"`
}

// Claims returns the identity as the rows a report shows.
func (i Identity) Claims() map[string]string {
	return map[string]string{"sub": i.Subject, "project": i.ProjectPath, "ref": i.Ref, "pipeline": strconv.FormatInt(i.PipelineID, 10),
		"job": strconv.FormatInt(i.JobID, 10), "user": i.User, "commit": i.Commit}
}

// ErrNoToken says that the job carries no ID token.
var ErrNoToken = errors.New("the job has no ID token in SLIPWAY_ID_TOKEN")

// ErrUnreachable says that the instance did not give out its keys, so that
// nothing is known of the token.
var ErrUnreachable = errors.New("the keys of GitLab's ID tokens cannot be fetched")

// watched notes whether the instance was there: the verifier's error does not
// carry the cause.
type watched struct {
	http.RoundTripper
	missed error
}

// RoundTrip makes the call.
func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(req)
	switch {
	case err != nil:
		w.missed = err
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError:
		w.missed = fmt.Errorf("it answers %s", resp.Status)
	}
	return resp, err
}

// patience is how long one answer of the instance may take.
const patience = time.Minute

// Verify checks the signature, issuer, audience and age of the job's ID token
// and returns who it names. issuer and audience come from the landscape; the
// keys are fetched from endpoint, the instance's address.
func Verify(ctx context.Context, token, issuer, endpoint, audience string) (Identity, error) {
	if token == "" {
		return Identity{}, ErrNoToken
	}
	seen := &watched{RoundTripper: http.DefaultTransport}
	ctx = oidc.ClientContext(ctx, &http.Client{Transport: seen, Timeout: patience})
	keys := oidc.NewRemoteKeySet(ctx, strings.TrimRight(endpoint, "/")+"/oauth/discovery/keys")
	verifier := oidc.NewVerifier(issuer, keys, &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{oidc.RS256}})
	t, err := verifier.Verify(ctx, token)
	if err != nil && seen.missed != nil {
		return Identity{}, fmt.Errorf("%w from %q: %w", ErrUnreachable, endpoint, seen.missed)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("verifying the job's ID token: %w", err)
	}
	var c struct {
		Identity
		ProjectID    string `json:"project_id"`
		RefProtected string `json:"ref_protected"`
		PipelineID   string `json:"pipeline_id"`
		JobID        string `json:"job_id"`
	}
	if err := t.Claims(&c); err != nil {
		return Identity{}, fmt.Errorf("reading the claims of the job's ID token: %w", err)
	}
	id := c.Identity
	id.ProjectID, id.PipelineID, id.JobID = number(c.ProjectID), number(c.PipelineID), number(c.JobID)
	id.RefProtected = c.RefProtected == "true"
	return id, nil
}
