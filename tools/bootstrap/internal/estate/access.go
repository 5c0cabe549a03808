package estate

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// clusterAdmin is the access policy of EKS that rules a whole cluster.
const clusterAdmin = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

// access is a role's entry to a cluster: a group, to which the tenancy release
// binds what the role may do there.
type access struct {
	c       *Cloud
	role    landscape.Role
	cluster string // key of the landscape's clusters
	info    landscape.Cluster

	exists, groups, admin bool
}

// Account returns the account of the cluster and the role.
func (r *access) Account() string { return r.role.Account }

// Name returns the resource's name.
func (r *access) Name() string { return "access of " + r.role.Name + " to cluster " + r.info.EKSName }

func (r *access) group() string { return "slipway:" + r.role.Name }

func (r *access) api() (*eks.Client, *string, bool) {
	cfg, ok := r.c.config(r.role.Account)
	if !ok {
		return nil, nil, false
	}
	arn := landscape.RoleARN(r.c.facts.Account(r.role.Account), r.role.Name)
	return eks.NewFromConfig(cfg, func(o *eks.Options) { o.Region = r.info.Region }), &arn, true
}

func (r *access) ruler() bool { return r.role.Purpose == landscape.PurposePlatform }

// Observe looks whether the cluster is there, and reads the entry.
func (r *access) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	o.Waiting = fmt.Sprintf("cluster %s does not exist yet", r.info.EKSName)
	api, arn, ok := r.api()
	if !ok {
		return o, nil
	}
	_, err := api.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: &r.info.EKSName})
	if codeIs(err, "ResourceNotFoundException") {
		return o, nil
	}
	o.Waiting = ""
	if err != nil {
		return o, failed("DescribeCluster", err)
	}
	got, err := api.DescribeAccessEntry(ctx, &eks.DescribeAccessEntryInput{ClusterName: &r.info.EKSName, PrincipalArn: arn})
	r.exists = err == nil
	if codeIs(err, "ResourceNotFoundException") {
		return resource.Absent("group " + r.group()), nil
	}
	if err != nil {
		return o, failed("DescribeAccessEntry", err)
	}
	r.groups = slices.Equal(got.AccessEntry.KubernetesGroups, []string{r.group()})
	o.Differ(!r.groups, "groups")
	r.admin = !r.ruler()
	if r.ruler() {
		out, err := api.ListAssociatedAccessPolicies(ctx, &eks.ListAssociatedAccessPoliciesInput{ClusterName: &r.info.EKSName, PrincipalArn: arn})
		if err != nil {
			return o, failed("ListAssociatedAccessPolicies", err)
		}
		r.admin = slices.ContainsFunc(out.AssociatedAccessPolicies, func(p types.AssociatedAccessPolicy) bool {
			return aws.ToString(p.PolicyArn) == clusterAdmin && p.AccessScope != nil && p.AccessScope.Type == types.AccessScopeTypeCluster
		})
		o.Differ(!r.admin, "cluster administration")
	}
	return o, nil
}

// Apply makes the entry, or mends it.
func (r *access) Apply(ctx context.Context) error {
	api, arn, ok := r.api()
	if !ok {
		return errNoAccount
	}
	groups := []string{r.group()}
	switch {
	case !r.exists:
		// EKS refuses a role that it cannot see yet.
		err := resource.Retry(ctx, r.c.patience.Propagation, func(err error) bool { return codeIs(err, "InvalidParameterException") }, func() error {
			_, err := api.CreateAccessEntry(ctx, &eks.CreateAccessEntryInput{ClusterName: &r.info.EKSName, PrincipalArn: arn, KubernetesGroups: groups,
				Tags: map[string]string{tagLandscape: r.c.facts.Source.Landscape.Name}})
			return err
		})
		if err != nil {
			return failed("CreateAccessEntry", err)
		}
		r.admin = !r.ruler()
	case !r.groups:
		if _, err := api.UpdateAccessEntry(ctx, &eks.UpdateAccessEntryInput{ClusterName: &r.info.EKSName, PrincipalArn: arn, KubernetesGroups: groups}); err != nil {
			return failed("UpdateAccessEntry", err)
		}
	}
	if r.admin {
		return nil
	}
	_, err := api.AssociateAccessPolicy(ctx, &eks.AssociateAccessPolicyInput{ClusterName: &r.info.EKSName, PrincipalArn: arn,
		PolicyArn: aws.String(clusterAdmin), AccessScope: &types.AccessScope{Type: types.AccessScopeTypeCluster}})
	return failed("AssociateAccessPolicy", err)
}
