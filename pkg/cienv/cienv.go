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

	"github.com/coreos/go-oidc/v3/oidc"
)

// CI is what a job's variables say. None of it is proof of anything.
type CI struct {
	InJob         bool   // GITLAB_CI is true
	ServerURL     string // the instance's public address
	Endpoint      string // where to connect to the instance; ServerURL unless SLIPWAY_GITLAB_ENDPOINT says otherwise
	ProjectID     int64
	ProjectPath   string
	PipelineID    int64
	JobID         int64
	JobName       string
	JobURL        string
	JobToken      string
	IDToken       string
	Token         string // SLIPWAY_GITLAB_TOKEN: a person's or service account's, where a job token may not do the call
	Commit        string
	Ref           string
	DefaultBranch string
	User          string
	ProjectDir    string
	Environment   string
	RegistryImage string
	// MergeRequest is the iid of the merge request whose pipeline this is, and
	// MergeRequestSHA its head where the pipeline runs on the merged result.
	MergeRequest    int64
	MergeRequestSHA string
}

// Read reads the variables through env.
func Read(env func(string) string) CI {
	c := CI{
		InJob:         env("GITLAB_CI") == "true",
		ServerURL:     strings.TrimRight(env("CI_SERVER_URL"), "/"),
		Endpoint:      strings.TrimRight(env("SLIPWAY_GITLAB_ENDPOINT"), "/"),
		ProjectID:     number(env("CI_PROJECT_ID")),
		ProjectPath:   env("CI_PROJECT_PATH"),
		PipelineID:    number(env("CI_PIPELINE_ID")),
		JobID:         number(env("CI_JOB_ID")),
		JobName:       env("CI_JOB_NAME"),
		JobURL:        env("CI_JOB_URL"),
		JobToken:      env("CI_JOB_TOKEN"),
		IDToken:       env("SLIPWAY_ID_TOKEN"),
		Token:         env("SLIPWAY_GITLAB_TOKEN"),
		Commit:        env("CI_COMMIT_SHA"),
		Ref:           env("CI_COMMIT_REF_NAME"),
		DefaultBranch: env("CI_DEFAULT_BRANCH"),
		User:          env("GITLAB_USER_LOGIN"),
		ProjectDir:    env("CI_PROJECT_DIR"),
		Environment:   env("CI_ENVIRONMENT_NAME"),
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

// Verify checks the signature, issuer, audience and age of the job's ID token
// and returns who it names. issuer and audience come from the landscape; the
// keys are fetched from endpoint, the instance's address.
func Verify(ctx context.Context, client *http.Client, token, issuer, endpoint, audience string) (Identity, error) {
	if token == "" {
		return Identity{}, ErrNoToken
	}
	ctx = oidc.ClientContext(ctx, client)
	keys := oidc.NewRemoteKeySet(ctx, strings.TrimRight(endpoint, "/")+"/oauth/discovery/keys")
	verifier := oidc.NewVerifier(issuer, keys, &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{oidc.RS256}})
	t, err := verifier.Verify(ctx, token)
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
