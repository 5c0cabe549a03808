package awsfront

import (
	"maps"
	"strings"
)

// operation is what the front knows of a call: whether it changes something
// that stays, and which rights it needs. Sessions and cryptography with a key
// change nothing.
type operation struct {
	mutates bool
	// asks lists the rights that the call needs, all of them; nil: none.
	asks func(*Front, *call) ([]ask, *apiError)
}

// ask is one right that a call needs.
type ask struct {
	action, resource string
	context          map[string][]string // condition keys of this action, beside those of every call
	guard            guard
	denial           *apiError // nil: the service's usual refusal
	unusable         *apiError // what those who have all rights are told of the resource; nil: nothing
}

// calls is a row of the table: calls of one service on one kind of resource.
type calls struct {
	service string
	mutates bool
	on      func(*Front, *call) ([]string, *apiError) // ARNs
	names   string
}

// operations is every call that the front knows. A call that is not here is
// refused to everyone but the administrator's own user.
func operations() map[string]operation {
	out := map[string]operation{}
	for _, row := range append(accountCalls(), serviceCalls()...) {
		for name := range strings.FieldsSeq(row.names) {
			out[row.service+":"+name] = operation{row.mutates, func(f *Front, c *call) ([]ask, *apiError) {
				return f.plainAsks(c, row.on)
			}}
		}
	}
	for name := range strings.FieldsSeq(s3Reads) {
		out["s3:"+name] = operation{false, (*Front).s3Asks}
	}
	for name := range strings.FieldsSeq(s3Writes) {
		out["s3:"+name] = operation{true, (*Front).s3Asks}
	}
	maps.Copy(out, map[string]operation{
		"sts:GetCallerIdentity":         {false, nil},
		"sts:AssumeRole":                {false, nil}, // judged with the role's trust policy
		"sts:AssumeRoleWithWebIdentity": {false, nil},
		"cloudtrail:CreateTrail":        {true, (*Front).createTrailAsks},
	})
	return out
}

// accountCalls are those on identities and on the organization.
func accountCalls() []calls {
	return []calls{
		{"iam", false, onRole, "GetRole GetRolePolicy ListRolePolicies ListAttachedRolePolicies ListRoleTags"},
		{"iam", true, onRole, "CreateRole UpdateRole DeleteRole TagRole UntagRole UpdateAssumeRolePolicy PutRolePolicy DeleteRolePolicy " +
			"AttachRolePolicy DetachRolePolicy PutRolePermissionsBoundary DeleteRolePermissionsBoundary"},
		{"iam", true, onLinkedRole, "CreateServiceLinkedRole"},
		{"iam", false, onUser, "GetUser GetUserPolicy ListUserPolicies ListAttachedUserPolicies ListAccessKeys"},
		{"iam", true, onUser, "CreateUser DeleteUser TagUser UntagUser CreateAccessKey UpdateAccessKey DeleteAccessKey PutUserPolicy DeleteUserPolicy " +
			"AttachUserPolicy DetachUserPolicy PutUserPermissionsBoundary DeleteUserPermissionsBoundary"},
		{"iam", false, onPolicy, "GetPolicy GetPolicyVersion ListPolicyVersions"},
		{"iam", true, onPolicy, "CreatePolicy DeletePolicy CreatePolicyVersion DeletePolicyVersion"},
		{"iam", false, onProvider, "GetOpenIDConnectProvider"},
		{"iam", true, onProvider, "CreateOpenIDConnectProvider DeleteOpenIDConnectProvider AddClientIDToOpenIDConnectProvider " +
			"RemoveClientIDFromOpenIDConnectProvider UpdateOpenIDConnectProviderThumbprint TagOpenIDConnectProvider"},
		{"iam", false, onAnything, "ListRoles ListUsers ListPolicies ListOpenIDConnectProviders ListAccountAliases GetAccountPasswordPolicy"},
		{"iam", true, onAnything, "UpdateAccountPasswordPolicy CreateAccountAlias"},
		{"organizations", false, onAnything, "DescribeOrganization ListRoots ListAccounts ListAWSServiceAccessForOrganization " +
			"ListCreateAccountStatus DescribeCreateAccountStatus ListPolicies"},
		{"organizations", true, onAnything, "CreateOrganization CreateAccount EnableAWSServiceAccess DisableAWSServiceAccess CreatePolicy"},
		{"organizations", false, onUnits, "DescribeAccount DescribeOrganizationalUnit ListParents ListChildren ListAccountsForParent " +
			"ListOrganizationalUnitsForParent ListPoliciesForTarget ListTargetsForPolicy DescribePolicy ListTagsForResource"},
		{"organizations", true, onUnits, "MoveAccount CreateOrganizationalUnit UpdateOrganizationalUnit DeleteOrganizationalUnit CloseAccount " +
			"AttachPolicy DetachPolicy UpdatePolicy DeletePolicy EnablePolicyType DisablePolicyType TagResource UntagResource"},
	}
}

// serviceCalls are those of the services inside of an account, S3 apart.
func serviceCalls() []calls {
	return []calls{
		{"kms", false, onAnything, "ListKeys ListAliases"},
		{"kms", true, onAnything, "CreateKey"},
		{"kms", true, onAlias, "CreateAlias UpdateAlias DeleteAlias"},
		{"kms", false, onKey, "DescribeKey GetKeyPolicy ListKeyPolicies ListResourceTags GetKeyRotationStatus GetPublicKey Sign Verify " +
			"Encrypt Decrypt GenerateDataKey GenerateDataKeyWithoutPlaintext ListGrants"},
		{"kms", true, onKey, "PutKeyPolicy TagResource UntagResource EnableKeyRotation DisableKeyRotation EnableKey DisableKey " +
			"ScheduleKeyDeletion CancelKeyDeletion UpdateKeyDescription CreateGrant RevokeGrant"},
		{"eks", false, onAnything, "ListClusters"},
		{"eks", true, onCluster, "CreateCluster DeleteCluster CreateAccessEntry"},
		{"eks", false, onCluster, "DescribeCluster ListAccessEntries"},
		{"eks", false, onEntry, "DescribeAccessEntry ListAssociatedAccessPolicies"},
		{"eks", true, onEntry, "UpdateAccessEntry DeleteAccessEntry AssociateAccessPolicy DisassociateAccessPolicy"},
		{"cloudtrail", false, onAnything, "DescribeTrails ListTrails"},
		{"cloudtrail", false, onTrail, "GetTrail GetTrailStatus GetEventSelectors ListTags"},
		{"cloudtrail", true, onTrail, "UpdateTrail DeleteTrail StartLogging StopLogging PutEventSelectors AddTags RemoveTags"},
		{"ssm", false, onParameter, "GetParameter GetParameters GetParametersByPath GetParameterHistory ListTagsForResource"},
		{"ssm", false, onAnything, "DescribeParameters"},
		{"ssm", true, onParameter, "PutParameter DeleteParameter DeleteParameters AddTagsToResource RemoveTagsFromResource"},
		{"secretsmanager", false, onSecret, "GetSecretValue DescribeSecret ListSecretVersionIds"},
		{"secretsmanager", true, onSecret, "CreateSecret PutSecretValue UpdateSecret DeleteSecret TagResource UntagResource"},
		{"s3control", false, onAnything, "GetPublicAccessBlock"},
		{"s3control", true, onAnything, "PutPublicAccessBlock DeletePublicAccessBlock"},
	}
}

// The calls of S3, by the front's names for them.
const (
	s3Reads = "ListBuckets HeadBucket ListObjects GetObject HeadObject GetBucketVersions GetBucketLocation GetBucketPolicy GetBucketPolicyStatus " +
		"GetBucketPublicAccessBlock GetBucketVersioning GetBucketEncryption GetBucketOwnershipControls GetBucketLifecycle GetBucketTagging " +
		"GetBucketAcl GetBucketObjectLock GetBucketLogging ListMultipartUploads ListParts GetObjectTagging GetObjectAttributes"
	s3Writes = "CreateBucket DeleteBucket PutObject DeleteObject DeleteObjects CreateMultipartUpload UploadPart CompleteMultipartUpload " +
		"AbortMultipartUpload PutBucketPolicy DeleteBucketPolicy PutBucketPublicAccessBlock DeleteBucketPublicAccessBlock PutBucketVersioning " +
		"PutBucketEncryption DeleteBucketEncryption PutBucketOwnershipControls DeleteBucketOwnershipControls PutBucketLifecycle " +
		"DeleteBucketLifecycle PutBucketTagging DeleteBucketTagging PutBucketLogging PutObjectTagging DeleteObjectTagging"
)

// permission names the right that a call needs, where it is not named like it.
func permission(service, call string) string {
	switch service + ":" + call {
	case "s3control:GetPublicAccessBlock":
		return "s3:GetAccountPublicAccessBlock"
	case "s3control:PutPublicAccessBlock", "s3control:DeletePublicAccessBlock":
		return "s3:PutAccountPublicAccessBlock"
	case "s3:HeadBucket", "s3:ListObjects":
		return "s3:ListBucket"
	case "s3:ListBuckets":
		return "s3:ListAllMyBuckets"
	case "s3:HeadObject":
		return "s3:GetObject"
	case "s3:DeleteObjects":
		return "s3:DeleteObject"
	case "s3:GetBucketVersions":
		return "s3:ListBucketVersions"
	case "s3:GetBucketEncryption":
		return "s3:GetEncryptionConfiguration"
	case "s3:PutBucketEncryption", "s3:DeleteBucketEncryption":
		return "s3:PutEncryptionConfiguration"
	case "s3:GetBucketLifecycle":
		return "s3:GetLifecycleConfiguration"
	case "s3:PutBucketLifecycle", "s3:DeleteBucketLifecycle":
		return "s3:PutLifecycleConfiguration"
	case "s3:GetBucketObjectLock":
		return "s3:GetBucketObjectLockConfiguration"
	case "s3:DeleteBucketPublicAccessBlock":
		return "s3:PutBucketPublicAccessBlock"
	case "s3:DeleteBucketOwnershipControls":
		return "s3:PutBucketOwnershipControls"
	case "s3:DeleteBucketTagging":
		return "s3:PutBucketTagging"
	case "s3:CreateMultipartUpload", "s3:UploadPart", "s3:CompleteMultipartUpload":
		return "s3:PutObject"
	case "s3:ListMultipartUploads":
		return "s3:ListBucketMultipartUploads"
	case "s3:ListParts":
		return "s3:ListMultipartUploadParts"
	}
	return service + ":" + call
}
