package estate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/policy"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// notYet is the observation of what lies in an account that does not exist.
func notYet() (resource.Observation, error) {
	return resource.Absent("in an account that is to be made"), nil
}

// errNoAccount ends an Apply in an account that does not exist: the phase that
// makes accounts comes first, so this is a fault of the program's.
var errNoAccount = errors.New("the account does not exist yet")

// provider is GitLab's OIDC provider in an account.
type provider struct {
	c       *Cloud
	account string
	gitlab  landscape.GitLab
	exists  bool
}

// Account returns the provider's account.
func (r *provider) Account() string { return r.account }

// Name returns the resource's name.
func (r *provider) Name() string { return "OIDC provider " + policy.Host(r.gitlab.URL) }

func (r *provider) arn() string {
	return policy.ProviderARN(r.c.facts.Account(r.account), r.gitlab.URL)
}

// Observe looks for the provider and the audience among its client ids.
// Thumbprints are AWS's matter: it fetches them itself.
func (r *provider) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	cfg, ok := r.c.config(r.account)
	if !ok {
		return notYet()
	}
	out, err := iam.NewFromConfig(cfg).GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(r.arn())})
	r.exists = err == nil
	if codeIs(err, "NoSuchEntity") {
		return resource.Absent("audience " + r.gitlab.Audience), nil
	}
	if err != nil {
		return o, failed("GetOpenIDConnectProvider", err)
	}
	o.Differ(!slices.Contains(out.ClientIDList, r.gitlab.Audience), "audience "+r.gitlab.Audience)
	return o, nil
}

// Apply makes the provider, or adds the audience.
func (r *provider) Apply(ctx context.Context) error {
	cfg, ok := r.c.config(r.account)
	if !ok {
		return errNoAccount
	}
	api := iam.NewFromConfig(cfg)
	if r.exists {
		_, err := api.AddClientIDToOpenIDConnectProvider(ctx, &iam.AddClientIDToOpenIDConnectProviderInput{
			OpenIDConnectProviderArn: aws.String(r.arn()), ClientID: &r.gitlab.Audience})
		return failed("AddClientIDToOpenIDConnectProvider", err)
	}
	_, err := api.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: &r.gitlab.URL, ClientIDList: []string{r.gitlab.Audience}, Tags: r.c.iamTags("")})
	return failed("CreateOpenIDConnectProvider", err)
}

func (c *Cloud) iamTags(purpose string) []types.Tag {
	tags := []types.Tag{{Key: aws.String(tagLandscape), Value: aws.String(c.facts.Source.Landscape.Name)}}
	if purpose != "" {
		tags = append(tags, types.Tag{Key: aws.String("slipway:purpose"), Value: &purpose})
	}
	return tags
}

// inlinePolicy is the name of the one policy that a role of ours has.
const inlinePolicy = "slipway"

// maxSession is an hour: what a chained session lasts at the most anyway.
const maxSession int32 = 3600

// role is an IAM role that jobs assume.
type role struct {
	c    *Cloud
	role landscape.Role // as compiled offline; ids come from the facts

	exists, trust, session, tags, permissions bool // what Observe found right
}

// Account returns the role's account.
func (r *role) Account() string { return r.role.Account }

// Name returns the resource's name.
func (r *role) Name() string { return "role " + r.role.Name }

// wanted returns the policies the role should have. ready is false while the
// permissions name something that is still to be made.
func (r *role) wanted() (trust, permissions string, ready bool, err error) {
	s, err := r.c.facts.Snapshot()
	if err != nil {
		return "", "", false, err
	}
	account := s.Accounts[r.role.Account]
	trust = policy.Trust(r.role, account.ID, s.GitLab).String()
	switch r.role.Purpose {
	case landscape.PurposePlan, landscape.PurposeApply:
		ready = account.Backend != nil && account.Backend.KMSKey != ""
	case landscape.PurposeBootstrap:
		ready = r.c.facts.Organization() != ""
	default:
		ready = s.BundleKey != "" || !policy.NeedsBundleKey(r.role)
	}
	if ready {
		permissions = policy.Permissions(s, r.role, r.c.facts.Organization()).String()
	}
	return trust, permissions, ready, nil
}

// Observe reads the role and compares its policies as what they say.
func (r *role) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	cfg, ok := r.c.config(r.role.Account)
	if !ok {
		return notYet()
	}
	trust, permissions, ready, err := r.wanted()
	if err != nil {
		return o, err
	}
	api := iam.NewFromConfig(cfg)
	got, err := api.GetRole(ctx, &iam.GetRoleInput{RoleName: &r.role.Name})
	r.exists = err == nil
	if codeIs(err, "NoSuchEntity") {
		return resource.Absent("for " + strings.Join(r.role.Subjects, ", ")), nil
	}
	if err != nil {
		return o, failed("GetRole", err)
	}
	r.trust = policy.Equal(aws.ToString(got.Role.AssumeRolePolicyDocument), trust)
	r.session = aws.ToInt32(got.Role.MaxSessionDuration) == maxSession
	r.tags = true
	for _, want := range r.c.iamTags(r.role.Purpose) {
		r.tags = r.tags && slices.ContainsFunc(got.Role.Tags, func(t types.Tag) bool {
			return aws.ToString(t.Key) == aws.ToString(want.Key) && aws.ToString(t.Value) == aws.ToString(want.Value)
		})
	}
	inline, err := api.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &r.role.Name, PolicyName: aws.String(inlinePolicy)})
	if err != nil && !codeIs(err, "NoSuchEntity") {
		return o, failed("GetRolePolicy", err)
	}
	r.permissions = err == nil && ready && policy.Equal(aws.ToString(inline.PolicyDocument), permissions)
	o.Differ(!r.trust, "trust policy")
	o.Differ(!r.session, "longest session")
	o.Differ(!r.tags, "tags")
	o.Differ(!r.permissions, "permissions")
	return o, r.others(ctx, api, &o)
}

// others reports policies that somebody else gave the role. They are not taken
// away: nothing here deletes.
func (r *role) others(ctx context.Context, api *iam.Client, o *resource.Observation) error {
	inline, err := api.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: &r.role.Name})
	if err != nil {
		return failed("ListRolePolicies", err)
	}
	attached, err := api.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: &r.role.Name})
	if err != nil {
		return failed("ListAttachedRolePolicies", err)
	}
	var names []string
	for _, n := range inline.PolicyNames {
		if n != inlinePolicy {
			names = append(names, n)
		}
	}
	for _, p := range attached.AttachedPolicies {
		names = append(names, aws.ToString(p.PolicyName))
	}
	if len(names) > 0 {
		o.Findings = append(o.Findings, report.Finding{Level: "warning", Class: "foreign-policy", Object: r.role.Account + "/" + r.role.Name,
			Message: fmt.Sprintf("role %q in account %q has policies that the landscape does not give it: %s", r.role.Name, r.role.Account, strings.Join(names, ", ")),
			Next:    "take them away, or keep them knowingly"})
	}
	return nil
}

// Apply makes the role, or mends what Observe found wrong.
func (r *role) Apply(ctx context.Context) error {
	cfg, ok := r.c.config(r.role.Account)
	if !ok {
		return errNoAccount
	}
	api := iam.NewFromConfig(cfg)
	trust, permissions, ready, err := r.wanted()
	if err != nil {
		return err
	}
	if !ready {
		return errors.New("its permissions name a key that does not exist")
	}
	if !r.exists {
		err := r.c.settled(ctx, func() error {
			_, err := api.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &r.role.Name, AssumeRolePolicyDocument: &trust, MaxSessionDuration: aws.Int32(maxSession),
				Description: aws.String("GitLab jobs: " + r.role.Purpose), Tags: r.c.iamTags(r.role.Purpose)})
			return err
		})
		if err != nil {
			return failed("CreateRole", err)
		}
		r.trust, r.session, r.tags, r.permissions = true, true, true, false
	}
	if !r.trust {
		err := r.c.settled(ctx, func() error {
			_, err := api.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &r.role.Name, PolicyDocument: &trust})
			return err
		})
		if err != nil {
			return failed("UpdateAssumeRolePolicy", err)
		}
	}
	if !r.session {
		if _, err := api.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: &r.role.Name, MaxSessionDuration: aws.Int32(maxSession)}); err != nil {
			return failed("UpdateRole", err)
		}
	}
	if !r.tags {
		if _, err := api.TagRole(ctx, &iam.TagRoleInput{RoleName: &r.role.Name, Tags: r.c.iamTags(r.role.Purpose)}); err != nil {
			return failed("TagRole", err)
		}
	}
	if r.permissions {
		return nil
	}
	_, err = api.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &r.role.Name, PolicyName: aws.String(inlinePolicy), PolicyDocument: &permissions})
	return failed("PutRolePolicy", err)
}
