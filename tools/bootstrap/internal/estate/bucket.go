package estate

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/policy"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// bucket is a versioned, encrypted, private bucket with a name in its
// account's own namespace.
type bucket struct {
	c          *Cloud
	account    string
	what       string                         // state, audit
	name       func(accountID string) string  //
	keyAlias   string                         // of its encryption, in the same account
	policy     func() (policy.Document, bool) // false while it names something that is to be made
	noncurrent int32                          // days that old versions are kept

	exists                                                 bool
	access, versioning, encryption, owner, text, lifecycle bool // what Observe found right
}

// Account returns the bucket's account.
func (r *bucket) Account() string { return r.account }

// Name returns the resource's name.
func (r *bucket) Name() string { return r.what + " bucket" }

func (r *bucket) bucket() *string { return aws.String(r.name(r.c.facts.Account(r.account))) }
func (r *bucket) id() *string     { return aws.String(r.c.facts.Account(r.account)) }

// Observe looks whether the bucket is there and ours, and reads its settings.
func (r *bucket) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	cfg, ok := r.c.config(r.account)
	if !ok {
		return notYet()
	}
	api := r.c.s3(cfg)
	r.exists = false
	_, err := api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id()})
	switch status(err) {
	case http.StatusNotFound:
		return resource.Absent(*r.bucket()), nil
	case http.StatusForbidden, http.StatusMovedPermanently:
		return o, tool.Exit(tool.Refused, fmt.Errorf("bucket %q is somebody else's: %w", *r.bucket(), err), "nothing is written to it; find out whose it is")
	}
	if err != nil {
		return o, failed("HeadBucket", err)
	}
	r.exists = true
	for _, look := range []func(context.Context, *s3.Client) error{r.seeAccess, r.seeVersioning, r.seeEncryption, r.seeOwner, r.seePolicy, r.seeLifecycle} {
		if err := look(ctx, api); err != nil {
			return o, err
		}
	}
	o.Differ(!r.access, "public access block")
	o.Differ(!r.versioning, "versioning")
	o.Differ(!r.encryption, "encryption")
	o.Differ(!r.owner, "object ownership")
	o.Differ(!r.text, "policy")
	o.Differ(!r.lifecycle, "lifecycle")
	return o, nil
}

func status(err error) int {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) {
		return re.HTTPStatusCode()
	}
	return 0
}

func (r *bucket) seeAccess(ctx context.Context, api *s3.Client) error {
	out, err := api.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id()})
	if codeIs(err, "NoSuchPublicAccessBlockConfiguration") {
		r.access = false
		return nil
	}
	if err != nil {
		return failed("GetPublicAccessBlock", err)
	}
	b := out.PublicAccessBlockConfiguration
	r.access = aws.ToBool(b.BlockPublicAcls) && aws.ToBool(b.BlockPublicPolicy) && aws.ToBool(b.IgnorePublicAcls) && aws.ToBool(b.RestrictPublicBuckets)
	return nil
}

func (r *bucket) seeVersioning(ctx context.Context, api *s3.Client) error {
	out, err := api.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id()})
	r.versioning = err == nil && out.Status == types.BucketVersioningStatusEnabled
	return failed("GetBucketVersioning", err)
}

func (r *bucket) keyARN() string { return r.c.facts.Key(r.account, r.keyAlias) }

func (r *bucket) seeEncryption(ctx context.Context, api *s3.Client) error {
	out, err := api.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id()})
	r.encryption = false
	if codeIs(err, "ServerSideEncryptionConfigurationNotFoundError") {
		return nil
	}
	if err != nil {
		return failed("GetBucketEncryption", err)
	}
	for _, rule := range out.ServerSideEncryptionConfiguration.Rules {
		if d := rule.ApplyServerSideEncryptionByDefault; d != nil {
			r.encryption = d.SSEAlgorithm == types.ServerSideEncryptionAwsKms && aws.ToBool(rule.BucketKeyEnabled) &&
				r.keyARN() != "" && aws.ToString(d.KMSMasterKeyID) == r.keyARN()
		}
	}
	return nil
}

func (r *bucket) seeOwner(ctx context.Context, api *s3.Client) error {
	out, err := api.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id()})
	r.owner = false
	if codeIs(err, "OwnershipControlsNotFoundError") {
		return nil
	}
	if err != nil {
		return failed("GetBucketOwnershipControls", err)
	}
	for _, rule := range out.OwnershipControls.Rules {
		r.owner = rule.ObjectOwnership == types.ObjectOwnershipBucketOwnerEnforced
	}
	return nil
}

func (r *bucket) seePolicy(ctx context.Context, api *s3.Client) error {
	out, err := api.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id()})
	r.text = false
	if codeIs(err, "NoSuchBucketPolicy") {
		return nil
	}
	if err != nil {
		return failed("GetBucketPolicy", err)
	}
	want, ready := r.policy()
	r.text = ready && policy.Equal(aws.ToString(out.Policy), want.String())
	return nil
}

// abandoned is how many days the parts of an upload that was never finished stay.
const abandoned int32 = 7

func (r *bucket) seeLifecycle(ctx context.Context, api *s3.Client) error {
	out, err := api.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id()})
	r.lifecycle = false
	if codeIs(err, "NoSuchLifecycleConfiguration") {
		return nil
	}
	if err != nil {
		return failed("GetBucketLifecycleConfiguration", err)
	}
	old, parts := false, false
	for _, rule := range out.Rules {
		if rule.Status != types.ExpirationStatusEnabled {
			continue
		}
		if n := rule.NoncurrentVersionExpiration; n != nil {
			old = old || aws.ToInt32(n.NoncurrentDays) == r.noncurrent
		}
		if a := rule.AbortIncompleteMultipartUpload; a != nil {
			parts = parts || aws.ToInt32(a.DaysAfterInitiation) == abandoned
		}
	}
	r.lifecycle = old && parts
	return nil
}

// Apply makes the bucket, or mends what Observe found wrong: one call after
// another, since S3 refuses settings of one bucket side by side.
func (r *bucket) Apply(ctx context.Context) error {
	cfg, ok := r.c.config(r.account)
	if !ok {
		return errNoAccount
	}
	doc, ready := r.policy()
	if !ready || r.keyARN() == "" {
		return errors.New("its policy or its encryption names something that does not exist")
	}
	api := r.c.s3(cfg)
	if !r.exists {
		in := &s3.CreateBucketInput{Bucket: r.bucket(), BucketNamespace: types.BucketNamespaceAccountRegional, ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced}
		if region := r.c.facts.Source.Landscape.AWS.Region; region != "us-east-1" { // which refuses its own name here
			in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(region)}
		}
		if _, err := api.CreateBucket(ctx, in); err != nil {
			return failed("CreateBucket", err)
		}
		r.access, r.versioning, r.encryption, r.owner, r.text, r.lifecycle = false, false, false, true, false, false
	}
	for _, step := range []struct {
		right bool
		call  string
		do    func() error
	}{
		{r.access, "PutPublicAccessBlock", func() error {
			_, err := api.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id(),
				PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true),
					IgnorePublicAcls: aws.Bool(true), RestrictPublicBuckets: aws.Bool(true)}})
			return err
		}},
		{r.versioning, "PutBucketVersioning", func() error {
			_, err := api.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id(),
				VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
			return err
		}},
		{r.encryption, "PutBucketEncryption", func() error {
			_, err := api.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id(),
				ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{Rules: []types.ServerSideEncryptionRule{{BucketKeyEnabled: aws.Bool(true),
					ApplyServerSideEncryptionByDefault: &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAwsKms, KMSMasterKeyID: aws.String(r.keyARN())}}}}})
			return err
		}},
		{r.owner, "PutBucketOwnershipControls", func() error {
			_, err := api.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id(),
				OwnershipControls: &types.OwnershipControls{Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced}}}})
			return err
		}},
		{r.text, "PutBucketPolicy", func() error {
			return r.c.settled(ctx, func() error {
				_, err := api.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id(), Policy: aws.String(doc.String())})
				return err
			})
		}},
		{r.lifecycle, "PutBucketLifecycleConfiguration", func() error {
			everything := &types.LifecycleRuleFilter{Prefix: aws.String("")}
			_, err := api.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: r.bucket(), ExpectedBucketOwner: r.id(),
				LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{
					{ID: aws.String("old-versions"), Status: types.ExpirationStatusEnabled, Filter: everything,
						NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(r.noncurrent)}},
					{ID: aws.String("abandoned-uploads"), Status: types.ExpirationStatusEnabled, Filter: everything,
						AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(abandoned)}}}}})
			return err
		}},
	} {
		if step.right {
			continue
		}
		if err := step.do(); err != nil {
			return failed(step.call, err)
		}
	}
	return nil
}
