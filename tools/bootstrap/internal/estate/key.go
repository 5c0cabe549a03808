package estate

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/policy"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// key is a KMS key, found by its alias.
type key struct {
	c       *Cloud
	account string
	alias   string
	signing bool                           // ECC_NIST_P256 for signatures; else a symmetric key that rotates
	policy  func() (policy.Document, bool) // false while it names something that is to be made

	id, arn                             string
	enabled, pending, rotates, policyOK bool
}

// Account returns the key's account.
func (r *key) Account() string { return r.account }

// Name returns the resource's name.
func (r *key) Name() string { return "KMS key " + r.alias }

// Observe finds the key by its alias and reads its state, policy and rotation.
func (r *key) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	cfg, ok := r.c.config(r.account)
	if !ok {
		return notYet()
	}
	api := kms.NewFromConfig(cfg)
	out, err := api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &r.alias})
	if codeIs(err, "NotFoundException") {
		r.arn = ""
		return resource.Absent(), nil
	}
	if err != nil {
		return o, failed("DescribeKey", err)
	}
	m := out.KeyMetadata
	spec, usage := r.kind()
	if m.KeySpec != spec || m.KeyUsage != usage {
		return o, tool.Exit(tool.Refused, fmt.Errorf("%s is a key of %s for %s; it must be %s for %s", r.alias, m.KeySpec, m.KeyUsage, spec, usage),
			"a key cannot change its kind: point the alias elsewhere, or remove it")
	}
	r.id, r.arn = aws.ToString(m.KeyId), aws.ToString(m.Arn)
	put(r.c.facts, r.c.facts.keys, r.account+"/"+r.alias, r.arn)
	r.pending = m.KeyState == types.KeyStatePendingDeletion
	r.enabled = m.KeyState == types.KeyStateEnabled
	got, err := api.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &r.arn, PolicyName: aws.String("default")})
	if err != nil {
		return o, failed("GetKeyPolicy", err)
	}
	want, ready := r.policy()
	r.policyOK = ready && policy.Equal(aws.ToString(got.Policy), want.String())
	r.rotates = true
	if !r.signing && !r.pending {
		rotation, err := api.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &r.arn})
		if err != nil {
			return o, failed("GetKeyRotationStatus", err)
		}
		r.rotates = rotation.KeyRotationEnabled
	}
	o.Differ(r.pending, "cancel its deletion")
	o.Differ(!r.enabled, "enable")
	o.Differ(!r.policyOK, "policy")
	o.Differ(!r.rotates, "rotation")
	return o, nil
}

func (r *key) kind() (types.KeySpec, types.KeyUsageType) {
	if r.signing {
		return types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify
	}
	return types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt
}

// Apply makes the key, or mends what Observe found wrong. A key that is to be
// deleted is kept: what it encrypted would be lost with it.
func (r *key) Apply(ctx context.Context) error {
	cfg, ok := r.c.config(r.account)
	if !ok {
		return errNoAccount
	}
	api := kms.NewFromConfig(cfg)
	doc, ready := r.policy()
	if !ready {
		return errors.New("its policy names something that does not exist")
	}
	text := doc.String()
	if r.arn == "" {
		if err := r.create(ctx, api, text); err != nil {
			return err
		}
	}
	if r.pending {
		if _, err := api.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &r.id}); err != nil {
			return failed("CancelKeyDeletion", err)
		}
	}
	if !r.enabled {
		if _, err := api.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &r.id}); err != nil {
			return failed("EnableKey", err)
		}
	}
	if !r.policyOK {
		err := r.c.settled(ctx, func() error {
			_, err := api.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &r.arn, PolicyName: aws.String("default"), Policy: &text})
			return err
		})
		if err != nil {
			return failed("PutKeyPolicy", err)
		}
	}
	if r.signing || r.rotates {
		return nil
	}
	_, err := api.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &r.arn})
	return failed("EnableKeyRotation", err)
}

const tagKey = "slipway:alias"

// create makes the key and its alias. CreateKey has no name, so one that an
// earlier run made and did not come to name is found by its tag.
func (r *key) create(ctx context.Context, api *kms.Client, policyText string) error {
	arn, err := r.nameless(ctx, api)
	if err != nil {
		return err
	}
	r.enabled, r.policyOK, r.rotates = true, arn == "", r.signing
	if arn == "" {
		spec, usage := r.kind()
		err := r.c.settled(ctx, func() error {
			out, err := api.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Policy: &policyText, Description: aws.String("slipway " + r.alias),
				Tags: []types.Tag{{TagKey: aws.String(tagKey), TagValue: &r.alias}, {TagKey: aws.String(tagLandscape), TagValue: aws.String(r.c.facts.Source.Landscape.Name)}}},
				func(o *kms.Options) { o.Retryer = once{o.Retryer} })
			if err == nil {
				arn = aws.ToString(out.KeyMetadata.Arn)
			}
			return err
		})
		if err != nil {
			return failed("CreateKey", err)
		}
	}
	r.arn = arn
	_, err = api.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &r.alias, TargetKeyId: &r.arn})
	return failed("CreateAlias", err)
}

// nameless returns an enabled key with our tag, "" where there is none. It is
// called only when the alias is missing, since it reads the tags of every key.
func (r *key) nameless(ctx context.Context, api *kms.Client) (string, error) {
	pages := kms.NewListKeysPaginator(api, &kms.ListKeysInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", failed("ListKeys", err)
		}
		for _, k := range page.Keys {
			tags, err := api.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: k.KeyArn})
			if codeIs(err, "AccessDeniedException", "NotFoundException", "KMSInvalidStateException") {
				continue // not a key of ours
			}
			if err != nil {
				return "", failed("ListResourceTags", err)
			}
			for _, t := range tags.Tags {
				if aws.ToString(t.TagKey) != tagKey || aws.ToString(t.TagValue) != r.alias {
					continue
				}
				d, err := api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.KeyArn})
				if err != nil {
					return "", failed("DescribeKey", err)
				}
				if d.KeyMetadata.KeyState == types.KeyStateEnabled {
					return aws.ToString(k.KeyArn), nil
				}
			}
		}
	}
	return "", nil
}
