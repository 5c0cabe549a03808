package awsfront

import (
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const cloudTrail = "cloudtrail.amazonaws.com"

// checkTrail refuses a trail that CloudTrail could not deliver: it looks at
// the organization, the bucket and its policy, the key and its policy, in
// whatever account they are. It writes the key's ARN into the trail.
func (f *Front) checkTrail(c *call, in trailInput, t *trail) *apiError {
	if in.SnsTopicName != nil || in.CloudWatchLogsLogGroupArn != nil {
		return trailError("UnsupportedOperationException", "The sandbox's trails deliver to no topic and to no log group.")
	}
	if t.IsMultiRegionTrail && !t.IncludeGlobalServiceEvents {
		return trailError("InvalidParameterCombinationException", "Multi-Region trail must include global service events.")
	}
	paths := []string{c.caller.Account}
	if t.IsOrganizationTrail {
		org, refused := f.checkOrganizationTrail(c)
		if refused != nil {
			return refused
		}
		paths = append(paths, org)
	}
	if refused := f.checkTrailKey(c, t); refused != nil {
		return refused
	}
	return f.checkTrailBucket(c, t, paths)
}

func (f *Front) checkOrganizationTrail(c *call) (string, *apiError) {
	client := f.moto.organizations(c.caller.Account)
	org, err := client.DescribeOrganization(c.r.Context(), &organizations.DescribeOrganizationInput{})
	switch {
	case hasCode(err, "AWSOrganizationsNotInUseException"):
		return "", refuse(http.StatusNotFound, "OrganizationsNotInUseException", "Your account is not a member of an organization.")
	case err != nil:
		return "", internal(err)
	case aws.ToString(org.Organization.MasterAccountId) != c.caller.Account:
		return "", trailError("NotOrganizationMasterAccountException", "The account %s is not the management account of the organization.", c.caller.Account)
	}
	pages := organizations.NewListAWSServiceAccessForOrganizationPaginator(client, &organizations.ListAWSServiceAccessForOrganizationInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.r.Context())
		if err != nil {
			return "", internal(err)
		}
		for _, s := range page.EnabledServicePrincipals {
			if aws.ToString(s.ServicePrincipal) == cloudTrail {
				return aws.ToString(org.Organization.Id), nil
			}
		}
	}
	return "", trailError("CloudTrailAccessNotEnabledException", "Trusted access for CloudTrail is not enabled in the organization.")
}

// deliveryContext are the condition keys of CloudTrail's own calls.
func deliveryContext(c *call, t *trail) map[string][]string {
	return map[string][]string{
		"aws:sourcearn":             {t.TrailARN},
		"aws:sourceaccount":         {c.caller.Account},
		"aws:principalisawsservice": {"true"},
		"aws:securetransport":       {"true"},
		"s3:tlsversion":             {"1.3"},
	}
}

func (f *Front) checkTrailBucket(c *call, t *trail, paths []string) *apiError {
	client := f.moto.s3(c.caller.Account)
	if _, err := client.HeadBucket(c.r.Context(), &s3.HeadBucketInput{Bucket: &t.S3BucketName}); hasCode(err, "NotFound", "NoSuchBucket") || t.S3BucketName == "" {
		return refuse(http.StatusNotFound, "S3BucketDoesNotExistException", "S3 bucket %s does not exist!", t.S3BucketName)
	} else if err != nil {
		return internal(err)
	}
	insufficient := func(why string) *apiError {
		return refuse(http.StatusForbidden, "InsufficientS3BucketPolicyException", "Incorrect S3 bucket policy is detected for bucket: %s (%s)", t.S3BucketName, why)
	}
	var text string
	f.store.read(func(d *data) { text = d.Policies[t.S3BucketName] })
	if text == "" {
		return insufficient("it has none")
	}
	policy, err := parsePolicy(text)
	if err != nil {
		return insufficient(err.Error())
	}
	arn := "arn:aws:s3:::" + t.S3BucketName
	ask := query{who: principal{service: cloudTrail}, action: "s3:GetBucketAcl", resource: arn, context: deliveryContext(c, t)}
	if policy.decide(ask) != allowed {
		return insufficient("s3:GetBucketAcl is not granted to CloudTrail for this trail")
	}
	ask.action = "s3:PutObject"
	ask.context["s3:x-amz-acl"] = []string{"bucket-owner-full-control"}
	if t.KmsKeyId != "" {
		ask.context["s3:x-amz-server-side-encryption"] = []string{"aws:kms"}
		ask.context["s3:x-amz-server-side-encryption-aws-kms-key-id"] = []string{t.KmsKeyId}
	}
	prefix := ""
	if t.S3KeyPrefix != "" {
		prefix = strings.TrimSuffix(t.S3KeyPrefix, "/") + "/"
	}
	for _, p := range paths {
		ask.resource = arn + "/" + prefix + "AWSLogs/" + p + "/CloudTrail/log.json.gz"
		if policy.decide(ask) != allowed {
			return insufficient("s3:PutObject below " + prefix + "AWSLogs/" + p + "/ is not granted to CloudTrail for this trail")
		}
	}
	return nil
}

func (f *Front) checkTrailKey(c *call, t *trail) *apiError {
	if t.KmsKeyId == "" {
		return nil
	}
	account, region := c.caller.Account, t.HomeRegion
	if parts := strings.Split(t.KmsKeyId, ":"); len(parts) == 6 {
		account, region = parts[4], parts[3]
	}
	unknown := trailError("KmsKeyNotFoundException", "The KMS key %s was not found in region %s", t.KmsKeyId, t.HomeRegion)
	client := f.moto.kms(account, region)
	key, err := client.DescribeKey(c.r.Context(), &kms.DescribeKeyInput{KeyId: &t.KmsKeyId})
	switch {
	case hasCode(err, "NotFoundException") || region != t.HomeRegion:
		return unknown
	case err != nil:
		return internal(err)
	case key.KeyMetadata.KeyState != kmstypes.KeyStateEnabled || key.KeyMetadata.KeySpec != kmstypes.KeySpecSymmetricDefault:
		return trailError("KmsException", "The KMS key %s is not an enabled symmetric key.", t.KmsKeyId)
	}
	arn := aws.ToString(key.KeyMetadata.Arn)
	insufficient := trailError("InsufficientEncryptionPolicyException", "Insufficient permissions to access S3 bucket %s or KMS key %s.", t.S3BucketName, arn)
	out, err := client.GetKeyPolicy(c.r.Context(), &kms.GetKeyPolicyInput{KeyId: key.KeyMetadata.KeyId, PolicyName: aws.String("default")})
	if err != nil {
		return internal(err)
	}
	policy, err := parsePolicy(aws.ToString(out.Policy))
	if err != nil {
		return insufficient
	}
	ask := query{who: principal{service: cloudTrail}, action: "kms:DescribeKey", resource: arn, context: deliveryContext(c, t)}
	if policy.decide(ask) != allowed {
		return insufficient
	}
	ask.action = "kms:GenerateDataKey"
	ask.context["kms:encryptioncontext:aws:cloudtrail:arn"] = []string{t.TrailARN}
	ask.context["kms:encryptioncontextkeys"] = []string{"aws:cloudtrail:arn"}
	if policy.decide(ask) != allowed {
		return insufficient
	}
	t.KmsKeyId = arn
	return nil
}
