package policy

import (
	"fmt"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

// AccessRole is the role that Organizations makes in a new account, for the
// management account.
const AccessRole = "OrganizationAccountAccessRole"

// BackupBucket names the bucket of a landscape's backups.
func BackupBucket(landscapeName string) string { return landscapeName + "-velero" }

// Permissions are what a role may do, by its purpose. Each is what the program
// that works under the role calls, and no more.
func Permissions(s *landscape.Snapshot, role landscape.Role, organizationID string) Document {
	account := s.Accounts[role.Account]
	switch role.Purpose {
	case landscape.PurposeBootstrap:
		return bootstrap(s, role, organizationID)
	case landscape.PurposePlan, landscape.PurposeApply:
		return state(account, role.Purpose == landscape.PurposeApply)
	case landscape.PurposeDeploy:
		return document(clusters(s, role), Statement{Sid: "SignBundles", Effect: "Allow",
			Action: []string{"kms:Sign", "kms:GetPublicKey", "kms:DescribeKey"}, Resource: []string{s.BundleKey}},
			secrets(s, role, "Allow", role.Service+"/*"))
	case landscape.PurposeEnvironment:
		return document(clusters(s, role), Statement{Sid: "VerifyBundles", Effect: "Allow",
			Action: []string{"kms:GetPublicKey", "kms:Verify", "kms:DescribeKey"}, Resource: []string{s.BundleKey}},
			// It deploys every service of its environment; a list of them all does
			// not fit into a policy. What is the platform's own stays closed.
			secrets(s, role, "Allow", "*"), secrets(s, role, "Deny", platformSecrets, strings.TrimPrefix(ParameterPath(s.Name), "/")+"*"))
	case landscape.PurposePlatform:
		return document(clusters(s, role), secrets(s, role, "Allow", platformSecrets))
	case landscape.PurposeBackup:
		bucket := "arn:aws:s3:::" + BackupBucket(s.Name)
		return document(clusters(s, role),
			Statement{Sid: "ListBackups", Effect: "Allow", Action: []string{"s3:ListBucket", "s3:GetBucketLocation"}, Resource: []string{bucket}},
			Statement{Sid: "ReadBackups", Effect: "Allow", Action: []string{"s3:GetObject"}, Resource: []string{bucket + "/*"}})
	default: // review reaches a cluster; what it may do there, Kubernetes decides
		return document(clusters(s, role))
	}
}

// platformSecrets are the secrets of add-ons.
const platformSecrets = "platform/*"

// secrets allows or denies the secrets and parameters of these names, for the
// references in values of charts. A parameter that is encrypted with a key of
// the account's own needs that key's right as well, which is not given here.
func secrets(s *landscape.Snapshot, role landscape.Role, effect string, names ...string) Statement {
	st := Statement{Sid: "ReadSecrets", Effect: effect, Action: []string{"ssm:GetParameter", "secretsmanager:GetSecretValue"}}
	if effect == "Deny" {
		st.Sid = "NotThePlatforms"
	}
	regions := []string{s.Region}
	for _, name := range role.Clusters {
		regions = append(regions, s.Clusters[name].Region)
	}
	slices.Sort(regions)
	for _, region := range slices.Compact(regions) {
		for _, name := range names {
			in := region + ":" + s.Accounts[role.Account].ID
			st.Resource = append(st.Resource, "arn:aws:ssm:"+in+":parameter/"+name, "arn:aws:secretsmanager:"+in+":secret:"+name)
		}
	}
	return st
}

// NeedsBundleKey reports whether the permissions of a role name the key that
// signs bundles.
func NeedsBundleKey(role landscape.Role) bool {
	return role.Purpose == landscape.PurposeDeploy || role.Purpose == landscape.PurposeEnvironment
}

func clusters(s *landscape.Snapshot, role landscape.Role) Statement {
	var arns []string
	for _, name := range role.Clusters {
		k := s.Clusters[name]
		arns = append(arns, fmt.Sprintf("arn:aws:eks:%s:%s:cluster/%s", k.Region, s.Accounts[k.Account].ID, k.EKSName))
	}
	return Statement{Sid: "ReachCluster", Effect: "Allow", Action: []string{"eks:DescribeCluster"}, Resource: arns}
}

// state is what Terraform needs of its backend. A plan writes the lock file and
// nothing else; under SSE-KMS even that takes a data key.
func state(account landscape.Account, write bool) Document {
	bucket := "arn:aws:s3:::" + account.Backend.Bucket
	out := []Statement{
		{Sid: "ListState", Effect: "Allow", Action: []string{"s3:ListBucket"}, Resource: []string{bucket}},
		{Sid: "ReadState", Effect: "Allow", Action: []string{"s3:GetObject"}, Resource: []string{bucket + "/*"}},
		{Sid: "LockState", Effect: "Allow", Action: []string{"s3:PutObject", "s3:DeleteObject"}, Resource: []string{bucket + "/*.tflock"}},
		{Sid: "StateKey", Effect: "Allow", Action: []string{"kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"}, Resource: []string{account.Backend.KMSKey}},
	}
	if write {
		out = append(out, Statement{Sid: "WriteState", Effect: "Allow", Action: []string{"s3:PutObject"}, Resource: []string{bucket + "/*"}})
	}
	return document(out...)
}

// bootstrap is what slipway-bootstrap calls in the management account. In the
// others it works through the role that Organizations made there.
func bootstrap(s *landscape.Snapshot, role landscape.Role, organizationID string) Document {
	id := s.Accounts[role.Account].ID
	in := func(service, rest string) string {
		return fmt.Sprintf("arn:aws:%s:%s:%s:%s", service, s.Region, id, rest)
	}
	everything := []string{"*"}
	return document(
		// These take no resource, or one that is only known once they were called.
		Statement{Sid: "ReadOrganization", Effect: "Allow", Resource: everything, Action: []string{
			"organizations:DescribeOrganization", "organizations:ListRoots", "organizations:ListAccounts", "organizations:ListParents",
			"organizations:ListOrganizationalUnitsForParent", "organizations:ListAWSServiceAccessForOrganization",
			"organizations:ListCreateAccountStatus", "organizations:DescribeCreateAccountStatus"}},
		Statement{Sid: "ChangeOrganization", Effect: "Allow", Resource: everything, Action: []string{
			"organizations:CreateAccount", "organizations:CreateOrganizationalUnit", "organizations:MoveAccount", "organizations:TagResource"}},
		Statement{Sid: "TrustServices", Effect: "Allow", Resource: everything, Action: []string{"organizations:EnableAWSServiceAccess"},
			Condition: conditions{"StringEquals": {"organizations:ServicePrincipal": {"cloudtrail.amazonaws.com"}}}},
		// The number of an account is not known before it is made; the
		// condition keeps the star inside of the organisation.
		Statement{Sid: "EnterMembers", Effect: "Allow", Resource: []string{"arn:aws:iam::*:role/" + AccessRole}, Action: []string{"sts:AssumeRole"},
			Condition: conditions{"StringEquals": {"aws:ResourceOrgID": {organizationID}}}},
		// It only looks at its own role and provider: a job that could write
		// them could give itself every right in the management account. Their
		// changes are a person's to apply.
		Statement{Sid: "OwnRole", Effect: "Allow", Resource: []string{landscape.RoleARN(id, role.Name)}, Action: []string{
			"iam:GetRole", "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies"}},
		Statement{Sid: "OwnProvider", Effect: "Allow", Resource: []string{ProviderARN(id, s.GitLab.URL)}, Action: []string{"iam:GetOpenIDConnectProvider"}},
		Statement{Sid: "Trail", Effect: "Allow", Resource: []string{in("cloudtrail", "trail/*")}, Action: []string{
			"cloudtrail:GetTrail", "cloudtrail:GetTrailStatus", "cloudtrail:CreateTrail", "cloudtrail:UpdateTrail", "cloudtrail:StartLogging", "cloudtrail:AddTags"}},
		// An organisation trail works through this service-linked role.
		Statement{Sid: "TrailServiceRole", Effect: "Allow", Action: []string{"iam:CreateServiceLinkedRole", "iam:GetRole"},
			Resource: []string{"arn:aws:iam::" + id + ":role/aws-service-role/cloudtrail.amazonaws.com/*"}},
		Statement{Sid: "Parameters", Effect: "Allow", Resource: []string{in("ssm", "parameter"+ParameterPath(s.Name)+"*")}, Action: []string{
			"ssm:GetParameter", "ssm:PutParameter"}},
	)
}

// ParameterPath is where the parameters of a landscape begin.
func ParameterPath(landscapeName string) string {
	return "/slipway/" + strings.Trim(landscapeName, "/") + "/"
}
