package awsfront

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	orgtypes "github.com/aws/aws-sdk-go-v2/service/organizations/types"
)

// view is what IAM knows of a role or a user.
type view struct {
	exists     bool
	arn, id    string
	trust      *document // of a role
	maxSession time.Duration
	identity   []*document
	boundary   *document
	tags       map[string]string
}

// views keeps what was read of moto until something changes: every request
// needs it, and every change comes through the front. A view that has changed
// may be shown late, as IAM does.
type views struct {
	mu         sync.Mutex
	generation int
	known      map[string]any
	late       map[string]lateView
}

type lateView struct {
	old   view
	until time.Time
}

// viewOf names a principal of an account: role or user.
func viewOf(account, kind, name string) string { return account + "/" + kind + "/" + name + "/" }

// cached returns what is kept under the name, or reads it.
func cached[T any](v *views, name string, read func() (T, error)) (T, error) {
	v.mu.Lock()
	generation := v.generation
	have, ok := v.known[name].(T)
	v.mu.Unlock()
	if ok {
		return have, nil
	}
	got, err := read()
	if err != nil {
		return got, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.generation == generation { // else it may be from before a change
		if v.known == nil {
			v.known = map[string]any{}
		}
		v.known[name] = got
	}
	return got, nil
}

// forget drops what is known by names that begin so. It is called before and
// after a change.
func (v *views) forget(prefix string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.generation++
	for name := range v.known {
		if strings.HasPrefix(name, prefix) {
			delete(v.known, name)
		}
	}
}

// memberships begins the names of what is known of the organization.
const memberships = "membership/"

// delay shows the old view until the time; one that is shown late already is
// shown longer.
func (v *views) delay(name string, old view, until time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.late == nil {
		v.late = map[string]lateView{}
	}
	if have, ok := v.late[name]; ok {
		old = have.old
	}
	v.late[name] = lateView{old, until}
}

func (v *views) lateAt(name string, now time.Time) (view, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	late, ok := v.late[name]
	if ok && !now.Before(late.until) {
		delete(v.late, name)
		return view{}, false
	}
	return late.old, ok
}

// principalView returns what IAM lets be seen of a role or a user now.
func (f *Front) principalView(ctx context.Context, account, kind, name string) (view, error) {
	key := viewOf(account, kind, name)
	if old, ok := f.views.lateAt(key, f.now()); ok {
		return old, nil
	}
	return cached(&f.views, key, func() (view, error) {
		if kind == "user" {
			return f.readUser(ctx, account, name)
		}
		return f.readRole(ctx, account, name)
	})
}

func (f *Front) readRole(ctx context.Context, account, name string) (view, error) {
	fail := func(err error) (view, error) {
		return view{}, fmt.Errorf("reading the role %q of account %s: %w", name, account, err)
	}
	client := f.moto.iam(account)
	out, err := client.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if hasCode(err, "NoSuchEntity") {
		return view{}, nil
	}
	if err != nil {
		return fail(err)
	}
	v := view{exists: true, arn: aws.ToString(out.Role.Arn), id: aws.ToString(out.Role.RoleId), tags: tagMap(out.Role.Tags),
		maxSession: time.Duration(aws.ToInt32(out.Role.MaxSessionDuration)) * time.Second}
	if v.maxSession == 0 {
		v.maxSession = time.Hour
	}
	if v.trust, err = unescaped(aws.ToString(out.Role.AssumeRolePolicyDocument)); err != nil {
		return fail(err)
	}
	inline, err := client.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: &name})
	if err != nil {
		return fail(err)
	}
	for _, p := range inline.PolicyNames {
		got, err := client.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &name, PolicyName: &p})
		if err != nil {
			return fail(err)
		}
		if err := v.add(aws.ToString(got.PolicyDocument)); err != nil {
			return fail(err)
		}
	}
	attached, err := client.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: &name})
	if err != nil {
		return fail(err)
	}
	return v, f.addManaged(ctx, &v, account, attached.AttachedPolicies, out.Role.PermissionsBoundary)
}

func (f *Front) readUser(ctx context.Context, account, name string) (view, error) {
	fail := func(err error) (view, error) {
		return view{}, fmt.Errorf("reading the user %q of account %s: %w", name, account, err)
	}
	client := f.moto.iam(account)
	out, err := client.GetUser(ctx, &iam.GetUserInput{UserName: &name})
	if hasCode(err, "NoSuchEntity") {
		return view{}, nil
	}
	if err != nil {
		return fail(err)
	}
	v := view{exists: true, arn: aws.ToString(out.User.Arn), id: aws.ToString(out.User.UserId), tags: tagMap(out.User.Tags)}
	inline, err := client.ListUserPolicies(ctx, &iam.ListUserPoliciesInput{UserName: &name})
	if err != nil {
		return fail(err)
	}
	for _, p := range inline.PolicyNames {
		got, err := client.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &name, PolicyName: &p})
		if err != nil {
			return fail(err)
		}
		if err := v.add(aws.ToString(got.PolicyDocument)); err != nil {
			return fail(err)
		}
	}
	attached, err := client.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: &name})
	if err != nil {
		return fail(err)
	}
	return v, f.addManaged(ctx, &v, account, attached.AttachedPolicies, out.User.PermissionsBoundary)
}

func tagMap(tags []iamtypes.Tag) map[string]string {
	out := map[string]string{}
	for _, t := range tags {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

// unescaped parses a policy as IAM gives it back: URL-encoded.
func unescaped(text string) (*document, error) {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return nil, fmt.Errorf("decoding a policy: %w", err)
	}
	return parsePolicy(plain)
}

func (v *view) add(text string) error {
	d, err := unescaped(text)
	if err != nil {
		return err
	}
	v.identity = append(v.identity, d)
	return nil
}

func (f *Front) addManaged(ctx context.Context, v *view, account string, attached []iamtypes.AttachedPolicy, boundary *iamtypes.AttachedPermissionsBoundary) error {
	for _, p := range attached {
		d, err := f.managedPolicy(ctx, account, aws.ToString(p.PolicyArn))
		if err != nil {
			return err
		}
		v.identity = append(v.identity, d)
	}
	if boundary == nil {
		return nil
	}
	var err error
	v.boundary, err = f.managedPolicy(ctx, account, aws.ToString(boundary.PermissionsBoundaryArn))
	return err
}

// managedPolicy reads the default version of a managed policy.
func (f *Front) managedPolicy(ctx context.Context, account, arn string) (*document, error) {
	text, err := f.managedText(ctx, account, arn)
	if err != nil {
		return nil, err
	}
	return parsePolicy(text)
}

func (f *Front) managedText(ctx context.Context, account, arn string) (string, error) {
	client := f.moto.iam(account)
	policy, err := client.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	if err != nil {
		return "", fmt.Errorf("reading the policy %q: %w", arn, err)
	}
	version, err := client.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: policy.Policy.DefaultVersionId})
	if err != nil {
		return "", fmt.Errorf("reading the policy %q: %w", arn, err)
	}
	return url.PathUnescape(aws.ToString(version.PolicyVersion.Document))
}

// membership is where an account stands in its organization.
type membership struct {
	organization, master string // "" outside of one
	scps                 [][]*document
}

// membershipOf reads the account's organization and the service control
// policies of each level above it. Those limit members only, and only where
// their type is switched on.
func (f *Front) membershipOf(ctx context.Context, account string) (membership, error) {
	return cached(&f.views, memberships+account, func() (membership, error) {
		var m membership
		out, err := f.moto.organizations(account).DescribeOrganization(ctx, &organizations.DescribeOrganizationInput{})
		if hasCode(err, "AWSOrganizationsNotInUseException") {
			return m, nil
		}
		if err != nil {
			return m, fmt.Errorf("asking for the organization of %s: %w", account, err)
		}
		m.organization, m.master = aws.ToString(out.Organization.Id), aws.ToString(out.Organization.MasterAccountId)
		if account == m.master {
			return m, nil
		}
		m.scps, err = f.controlPolicies(ctx, m.master, account)
		return m, err
	})
}

func (f *Front) controlPolicies(ctx context.Context, master, account string) ([][]*document, error) {
	client := f.moto.organizations(master)
	roots, err := client.ListRoots(ctx, &organizations.ListRootsInput{})
	if err != nil {
		return nil, fmt.Errorf("asking for the root of the organization: %w", err)
	}
	on := false
	for _, r := range roots.Roots {
		for _, t := range r.PolicyTypes {
			on = on || t.Type == orgtypes.PolicyTypeServiceControlPolicy && t.Status == orgtypes.PolicyTypeStatusEnabled
		}
	}
	if !on {
		return nil, nil
	}
	var levels [][]*document
	for target := account; target != ""; {
		level, err := f.policiesOf(ctx, client, target)
		if err != nil {
			return nil, err
		}
		levels = append(levels, level)
		if strings.HasPrefix(target, "r-") {
			break
		}
		parents, err := client.ListParents(ctx, &organizations.ListParentsInput{ChildId: &target})
		if err != nil {
			return nil, fmt.Errorf("asking for the parent of %s: %w", target, err)
		}
		if len(parents.Parents) != 1 {
			return nil, fmt.Errorf("asking for the parent of %s: it has %d", target, len(parents.Parents))
		}
		target = aws.ToString(parents.Parents[0].Id)
	}
	return levels, nil
}

func (f *Front) policiesOf(ctx context.Context, client *organizations.Client, target string) ([]*document, error) {
	level := []*document{}
	pages := organizations.NewListPoliciesForTargetPaginator(client, &organizations.ListPoliciesForTargetInput{
		TargetId: &target, Filter: orgtypes.PolicyTypeServiceControlPolicy})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing the policies of %s: %w", target, err)
		}
		for _, p := range page.Policies {
			got, err := client.DescribePolicy(ctx, &organizations.DescribePolicyInput{PolicyId: p.Id})
			if err != nil {
				return nil, fmt.Errorf("reading the policy %s: %w", aws.ToString(p.Id), err)
			}
			d, err := parsePolicy(aws.ToString(got.Policy.Content))
			if err != nil {
				return nil, err
			}
			level = append(level, d)
		}
	}
	return level, nil
}
