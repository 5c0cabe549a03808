// Package gitlabapi holds the GitLab calls that the programs make, over
// GitLab's own Go client.
package gitlabapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Config says which instance is called, and as whom. Token (a person's or a
// service account's) is preferred where both tokens are set, since a job token
// may do little.
type Config struct {
	URL      string // the instance's public address
	Endpoint string // where to connect; URL where empty
	JobToken string
	Token    string
}

// Client calls one GitLab instance.
type Client struct {
	api   *gitlab.Client
	asJob bool
}

// patience is how long one call may take, with the file it carries: the
// snapshot is the largest.
const patience = time.Minute

// New returns a client. It makes no call.
func New(c Config) (*Client, error) {
	base := c.Endpoint
	if base == "" {
		base = c.URL
	}
	if base == "" {
		return nil, errors.New("connecting to GitLab: no address is known")
	}
	// Retrying a POST could make a second note, commit or deployment.
	options := []gitlab.ClientOptionFunc{gitlab.WithBaseURL(base), gitlab.WithOnlyIdempotentRetries(),
		gitlab.WithHTTPClient(&http.Client{Transport: http.DefaultTransport, Timeout: patience})}
	var api *gitlab.Client
	var err error
	if c.Token != "" {
		api, err = gitlab.NewClient(c.Token, options...)
	} else {
		api, err = gitlab.NewJobClient(c.JobToken, options...)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to GitLab at %q: %w", base, err)
	}
	return &Client{api: api, asJob: c.Token == ""}, nil
}

// AsJob reports whether calls are made with a job token.
func (c *Client) AsJob() bool { return c.asJob }

// NotFound reports whether err is GitLab's 404, which also means "not yours to see".
func NotFound(err error) bool { return gitlab.HasStatusCode(err, http.StatusNotFound) }

// Denied marks a refusal of GitLab's, so that the program exits 77.
func Denied(err error) error {
	if gitlab.HasStatusCode(err, http.StatusUnauthorized) || gitlab.HasStatusCode(err, http.StatusForbidden) {
		return tool.Exit(tool.Denied, err)
	}
	return err
}

// Passing marks a failure that may pass (no answer, 429, an error of the
// instance's own), so that the program exits 75 and GitLab runs the job again.
// It is for calls that change nothing.
func Passing(err error) error {
	var answer *gitlab.ErrorResponse
	var lost *url.Error
	switch {
	case errors.As(err, &answer):
		if answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode < http.StatusInternalServerError {
			return err
		}
	case !errors.As(err, &lost) || errors.Is(err, context.Canceled):
		return err
	}
	return tool.Exit(tool.Temporary, err)
}

// SnapshotPackage is the generic package that landscape snapshots are in, and
// Current the version that always holds the newest.
const (
	SnapshotPackage = "landscape"
	SnapshotFile    = "snapshot.json"
	Current         = "current"
)

// Snapshot returns the published landscape snapshot of the platform project.
func (c *Client) Snapshot(ctx context.Context, project string) ([]byte, error) {
	raw, err := c.PackageFile(ctx, project, SnapshotPackage, Current, SnapshotFile)
	if err != nil {
		return nil, fmt.Errorf("fetching the landscape snapshot of project %q: %w", project, err)
	}
	return raw, nil
}

// PackageFile returns a file of a generic package.
func (c *Client) PackageFile(ctx context.Context, project, name, version, file string) ([]byte, error) {
	raw, _, err := c.api.GenericPackages.DownloadPackageFile(project, name, version, file, gitlab.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("downloading package file \"%s/%s/%s\": %w", name, version, file, Denied(err))
	}
	return raw, nil
}
