// Package awsauth turns a job's ID token, or a person's profile, into an
// aws.Config: role chains, refresh before expiry, and tokens for EKS without
// the aws command line.
package awsauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Source is where credentials come from. With a Token, the role is assumed
// with that web identity; without, the SDK's ordinary chain (profile, SSO,
// environment) is used, which is for people, not for jobs.
type Source struct {
	Region  string
	Token   string // ID token; never logged
	Role    string // ARN to assume with Token
	Session string // RoleSessionName, see SessionName
}

// patience is how long a service may take to answer: the SDK's own client waits
// without end, and the job with it. What follows the answer may take longer,
// since a backup's archive is large.
const patience = time.Minute

// token hands the ID token to the SDK without a file.
type token string

// GetIdentityToken returns the token.
func (t token) GetIdentityToken() ([]byte, error) { return []byte(t), nil }

// Config returns the configuration for the source's role. No call is made
// before the first use.
func Config(ctx context.Context, s Source) (aws.Config, error) {
	client := config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = patience }))
	if s.Token == "" {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(s.Region), client)
		if err != nil {
			return aws.Config{}, fmt.Errorf("loading the AWS configuration: %w", err)
		}
		return cfg, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(s.Region), client, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	if err != nil {
		return aws.Config{}, fmt.Errorf("loading the AWS configuration: %w", err)
	}
	provider := stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(cfg), s.Role, token(s.Token), func(o *stscreds.WebIdentityRoleOptions) {
		o.RoleSessionName = s.Session
		o.Duration = time.Hour
	})
	cfg.Credentials = aws.NewCredentialsCache(provider, refreshEarly)
	return cfg, nil
}

// Chain returns cfg with a further role assumed through it. A chained session
// lasts an hour at the most, so that is what is asked for.
func Chain(cfg aws.Config, role, session string) aws.Config {
	provider := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = session
		o.Duration = time.Hour
	})
	out := cfg.Copy()
	out.Credentials = aws.NewCredentialsCache(provider, refreshEarly)
	return out
}

// refreshEarly renews credentials five minutes before they end, so that a call
// never leaves with credentials that end on its way.
func refreshEarly(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 5 * time.Minute }

// CustomEndpoint reports whether the configuration points at an endpoint other
// than AWS's own. S3 must then be spoken to path-style.
func CustomEndpoint(env func(string) string) bool {
	return env("AWS_ENDPOINT_URL") != "" || env("AWS_ENDPOINT_URL_S3") != ""
}

var sessionIllegal = regexp.MustCompile(`[^\w+=,.@-]`)

// SessionName returns the name a job's sessions carry into CloudTrail.
func SessionName(project, pipeline, job int64) string {
	return fmt.Sprintf("gl-%d-%d-%d", project, pipeline, job)
}

// PersonSession returns the session name of a person's run.
func PersonSession(user string) string {
	name := "person-" + sessionIllegal.ReplaceAllString(user, "-")
	return name[:min(len(name), 64)]
}

// refusals are the codes by which AWS's services refuse a caller.
var refusals = []string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InvalidIdentityToken", "IDPRejectedClaim", "ExpiredTokenException", "ExpiredToken",
	"InvalidClientTokenId", "InvalidAccessKeyId", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "UnrecognizedClientException",
	"SignatureDoesNotMatch", "InvalidSignatureException"}

// Refusal reports whether an error code of AWS's says that the caller has no right.
func Refusal(code string) bool { return slices.Contains(refusals, code) }

// Denied marks err, where AWS refused the caller, so that the program exits
// 77; every other error is returned as it is.
func Denied(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && Refusal(api.ErrorCode()) {
		return tool.Exit(tool.Denied, err)
	}
	return err
}

// passing marks a failure that may pass (no answer, throttling, an error of
// AWS's own, GitLab's keys out of AWS's reach), so that the program exits 75.
func passing(err error) error {
	var api smithy.APIError
	keys := errors.As(err, &api) && api.ErrorCode() == "IDPCommunicationError"
	if keys || retry.NewStandard().IsErrorRetryable(err) {
		return tool.Exit(tool.Temporary, err)
	}
	return err
}

// Check makes the first call with cfg, so that a refused role is told as such
// before anything else happens, and returns the caller's ARN.
func Check(ctx context.Context, cfg aws.Config) (string, error) {
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return "", fmt.Errorf("obtaining AWS credentials: %w", passing(Denied(err)))
	}
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("asking AWS who we are: %w", passing(Denied(err)))
	}
	return aws.ToString(out.Arn), nil
}
