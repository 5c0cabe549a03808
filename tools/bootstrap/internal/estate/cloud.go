package estate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/policy"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// Patience bounds the waiting for what AWS needs time to know.
type Patience struct {
	Propagation time.Duration // a write of IAM's is known everywhere
	NewAccount  time.Duration // a new account lets the first call in
	Creation    time.Duration // an account is made
}

// DefaultPatience is what Terraform's provider and AWS's own pages go by.
func DefaultPatience() Patience {
	return Patience{Propagation: 2 * time.Minute, NewAccount: 5 * time.Minute, Creation: 15 * time.Minute}
}

// Cloud gives the configuration for each account: that of the management
// account is the caller's own, the others are entered through the role that
// Organizations made there.
type Cloud struct {
	base      aws.Config
	session   string
	pathStyle bool
	facts     *Facts
	patience  Patience
	members   map[string]aws.Config
}

// NewCloud returns a cloud over the caller's configuration for the management
// account. pathStyle is for S3 behind an endpoint that is not AWS's own.
func NewCloud(base aws.Config, session string, pathStyle bool, facts *Facts, patience Patience) *Cloud {
	base = base.Copy()
	base.Retryer = func() aws.Retryer {
		// Not among the SDK's own: another writer was faster, try again.
		return retry.AddWithErrorCodes(retry.AddWithMaxAttempts(retry.NewStandard(), 6), "ConcurrentModificationException",
			"ConcurrentModification", "OperationAborted", "ConflictException", "EntityTemporarilyUnmodifiable")
	}
	return &Cloud{base: base, session: session, pathStyle: pathStyle, facts: facts, patience: patience, members: map[string]aws.Config{}}
}

// config returns the configuration for an account, and false where the account
// does not exist yet.
func (c *Cloud) config(account string) (aws.Config, bool) {
	id := c.facts.Account(account)
	switch {
	case account == landscape.Management:
		return c.base, true
	case id == "":
		return aws.Config{}, false
	}
	c.facts.mu.Lock()
	defer c.facts.mu.Unlock()
	if cfg, ok := c.members[id]; ok {
		return cfg, true
	}
	cfg := awsauth.Chain(c.base, landscape.RoleARN(id, policy.AccessRole), c.session)
	c.members[id] = cfg
	return cfg, true
}

func (c *Cloud) s3(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = c.pathStyle })
}

// enter makes the first call in an account. A new one refuses it for a while.
func (c *Cloud) enter(ctx context.Context, account string) error {
	cfg, ok := c.config(account)
	if !ok {
		return fmt.Errorf("entering account %q: it has no id", account)
	}
	patience := time.Duration(0)
	if get(c.facts, c.facts.fresh, account) {
		patience = c.patience.NewAccount
	}
	refused := func(err error) bool {
		return codeIs(err, "AccessDenied", "InvalidClientTokenId", "SubscriptionRequiredException", "OptInRequired")
	}
	err := resource.Retry(ctx, patience, refused, func() error {
		out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
		if err == nil && aws.ToString(out.Account) != c.facts.Account(account) {
			return fmt.Errorf("the role leads into account %s instead", aws.ToString(out.Account))
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("entering account %q (%s) through role %q: %w", account, c.facts.Account(account), policy.AccessRole, awsauth.Denied(err))
		if patience > 0 && refused(err) {
			return tool.Hint(err, fmt.Sprintf("the account is new, and its role was not usable within %s: run it again in some minutes", patience))
		}
		return err
	}
	return nil
}

// settled runs a write whose policy names something that IAM may not know yet.
func (c *Cloud) settled(ctx context.Context, fn func() error) error {
	return resource.Retry(ctx, c.patience.Propagation, func(err error) bool {
		return codeIs(err, "MalformedPolicyDocument", "MalformedPolicyDocumentException", "MalformedPolicy", "InvalidPrincipal",
			"InsufficientS3BucketPolicyException", "InsufficientEncryptionPolicyException")
	}, fn)
}

// codeIs reports whether err is an answer of AWS's with one of the codes.
func codeIs(err error, codes ...string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode())
}

// maybeDone reports whether a call that failed may have been done: no answer
// came, or the answer is that somebody did it before, who may have been the
// same call whose answer was lost.
func maybeDone(err error) bool {
	var lost *smithyhttp.RequestSendError
	return errors.As(err, &lost) || codeIs(err, "AlreadyInOrganizationException", "DuplicateOrganizationalUnitException", "DuplicateAccountException",
		"EntityAlreadyExists", "AlreadyExistsException", "BucketAlreadyOwnedByYou", "ParameterAlreadyExists", "TrailAlreadyExistsException", "ResourceInUseException")
}

// once is for calls that make another thing each time they are done: they are
// repeated where the service has refused them, and not where no answer came.
type once struct{ aws.Retryer }

// IsErrorRetryable reports whether the service has refused the call, for a
// reason that passes.
func (r once) IsErrorRetryable(err error) bool {
	status := status(err) // 0 without an answer
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError && r.Retryer.IsErrorRetryable(err)
}

// failed gives a refusal of AWS's its exit code, and other errors the call.
func failed(call string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", call, awsauth.Denied(err))
}
