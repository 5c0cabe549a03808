package policy

import (
	"fmt"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

func root(accountID string) map[string][]string {
	return map[string][]string{"AWS": {"arn:aws:iam::" + accountID + ":root"}}
}

// owner lets IAM of the key's account govern the key. Without this statement a
// key whose administrators are gone is lost for good: hence the star.
func owner(accountID string) Statement {
	return Statement{Sid: "Owner", Effect: "Allow", Principal: root(accountID), Action: []string{"kms:*"}, Resource: []string{"*"}}
}

// StateKey is the policy of the key of a state backend.
func StateKey(accountID string) Document { return document(owner(accountID)) }

// BundleKey is the policy of the key that signs bundles: the roles that deploy
// services to open environments sign, every account of the organisation
// verifies. The signers are named by a condition, not as principals, since IAM
// refuses principals that do not exist yet and would turn those that were
// deleted into ids that match nothing.
func BundleKey(accountID string, signers []landscape.Role, accounts map[string]string, organizationID string) Document {
	var principals, arns []string
	seen := map[string]bool{}
	for _, r := range signers {
		id := accounts[r.Account]
		if !seen[id] {
			seen[id] = true
			principals = append(principals, "arn:aws:iam::"+id+":root")
		}
		arns = append(arns, landscape.RoleARN(id, r.Name))
	}
	out := []Statement{owner(accountID)}
	if len(signers) > 0 {
		out = append(out, Statement{Sid: "Sign", Effect: "Allow", Principal: map[string][]string{"AWS": principals},
			Action: []string{"kms:Sign"}, Resource: []string{"*"}, Condition: conditions{"ArnEquals": {"aws:PrincipalArn": arns}}})
	}
	return document(append(out, Statement{Sid: "Verify", Effect: "Allow", Principal: map[string][]string{"AWS": {"*"}},
		Action: []string{"kms:GetPublicKey", "kms:Verify", "kms:DescribeKey"}, Resource: []string{"*"},
		Condition: conditions{"StringEquals": {"aws:PrincipalOrgID": {organizationID}}}})...)
}

// TrailARN returns the ARN of a trail, which is known before the trail is made.
func TrailARN(region, managementID, trail string) string {
	return fmt.Sprintf("arn:aws:cloudtrail:%s:%s:trail/%s", region, managementID, trail)
}

// AuditKey is the policy of the key of the audit trail.
func AuditKey(accountID, managementID, trailARN string) Document {
	cloudtrail := map[string][]string{"Service": {"cloudtrail.amazonaws.com"}}
	return document(owner(accountID),
		// The star covers GenerateDataKeyWithoutPlaintext, which CloudTrail uses too.
		Statement{Sid: "TrailEncrypts", Effect: "Allow", Principal: cloudtrail, Action: []string{"kms:GenerateDataKey*"}, Resource: []string{"*"},
			Condition: conditions{"StringEquals": {"aws:SourceArn": {trailARN}},
				"StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": {"arn:aws:cloudtrail:*:" + managementID + ":trail/*"}}}},
		Statement{Sid: "TrailDescribes", Effect: "Allow", Principal: cloudtrail, Action: []string{"kms:DescribeKey"}, Resource: []string{"*"}})
}

// tlsOnly refuses every call that does not come over TLS, whosever it is.
func tlsOnly(bucket string) Statement {
	return Statement{Sid: "TLSOnly", Effect: "Deny", Principal: map[string][]string{"AWS": {"*"}}, Action: []string{"s3:*"},
		Resource:  []string{"arn:aws:s3:::" + bucket, "arn:aws:s3:::" + bucket + "/*"},
		Condition: conditions{"Bool": {"aws:SecureTransport": {"false"}}}}
}

// StateBucket is the policy of the bucket of a state backend.
func StateBucket(bucket string) Document { return document(tlsOnly(bucket)) }

// AuditBucket is the policy of the bucket of the audit trail: that one trail
// may write below the prefixes of the management account and the organisation.
func AuditBucket(bucket, managementID, organizationID, trailARN string) Document {
	arn := "arn:aws:s3:::" + bucket
	cloudtrail := map[string][]string{"Service": {"cloudtrail.amazonaws.com"}}
	return document(tlsOnly(bucket),
		Statement{Sid: "TrailReadsACL", Effect: "Allow", Principal: cloudtrail, Action: []string{"s3:GetBucketAcl"}, Resource: []string{arn},
			Condition: conditions{"StringEquals": {"aws:SourceArn": {trailARN}}}},
		Statement{Sid: "TrailWrites", Effect: "Allow", Principal: cloudtrail, Action: []string{"s3:PutObject"},
			Resource:  []string{arn + "/AWSLogs/" + managementID + "/*", arn + "/AWSLogs/" + organizationID + "/*"},
			Condition: conditions{"StringEquals": {"aws:SourceArn": {trailARN}, "s3:x-amz-acl": {"bucket-owner-full-control"}}}})
}
