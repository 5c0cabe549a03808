package awsfront

import (
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// moto reads bucket policies without their conditions, so that a statement
// which denies plain HTTP denies everything there. The front keeps the
// policies itself, and evaluates what they deny with the conditions. What they
// allow is not looked at: in one organisation every session that the front
// lets through belongs to somebody.

// maxPolicy is S3's limit of a bucket policy, in bytes.
const maxPolicy = 20 << 10

// servePolicy answers the calls on bucket policies, and refuses what a policy
// denies. It reports false for a call that moto answers.
func (f *Front) servePolicy(c *call) bool {
	bucket := bucketOf(c.r.URL)
	switch c.action {
	case "PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy":
		if refused := f.bucketPolicy(c, bucket); refused != nil {
			c.fail(refused)
		}
		return true
	}
	var text string
	f.store.read(func(d *data) { text = d.Policies[bucket] })
	if text == "" {
		return false
	}
	if refused := f.deniedByBucket(c, bucket, text); refused != nil {
		c.fail(refused)
		return true
	}
	if c.action != "DeleteBucket" {
		return false
	}
	if refused := f.store.change(func(d *data) *apiError { delete(d.Policies, bucket); return nil }); refused != nil {
		c.fail(refused)
		return true
	}
	return false
}

func (f *Front) bucketPolicy(c *call, bucket string) *apiError {
	_, err := f.moto.s3(c.caller.Account).HeadBucket(c.r.Context(), &s3.HeadBucketInput{Bucket: &bucket})
	if hasCode(err, "NotFound", "NoSuchBucket") {
		return refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
	}
	if err != nil {
		return internal(err)
	}
	switch c.action {
	case "PutBucketPolicy":
		raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxPolicy))
		if err != nil {
			return refuse(http.StatusBadRequest, "PolicyTooLarge", "reading the policy: %v", err)
		}
		if _, err := parsePolicy(string(raw)); err != nil {
			return refuse(http.StatusBadRequest, "MalformedPolicy", "%v", err)
		}
		if refused := f.store.change(func(d *data) *apiError { d.Policies[bucket] = string(raw); return nil }); refused != nil {
			return refused
		}
		c.w.WriteHeader(http.StatusNoContent)
	case "DeleteBucketPolicy":
		if refused := f.store.change(func(d *data) *apiError { delete(d.Policies, bucket); return nil }); refused != nil {
			return refused
		}
		c.w.WriteHeader(http.StatusNoContent)
	default:
		var text string
		f.store.read(func(d *data) { text = d.Policies[bucket] })
		if text == "" {
			return refuse(http.StatusNotFound, "NoSuchBucketPolicy", "The bucket policy does not exist")
		}
		c.w.Header().Set("Content-Type", "application/json")
		if _, err := io.WriteString(c.w, text); err != nil {
			return internal(err)
		}
	}
	return nil
}

// deniedByBucket evaluates the policy's denials for the call.
func (f *Front) deniedByBucket(c *call, bucket, text string) *apiError {
	policy, err := parsePolicy(text)
	if err != nil {
		return internal(err)
	}
	keys, err := f.callerKeys(c)
	if err != nil {
		return internal(err)
	}
	resource := "arn:aws:s3:::" + strings.TrimPrefix(c.r.URL.Path, "/")
	ask := query{who: c.caller.principal(), action: "s3:" + iamAction(c.action), resource: strings.TrimSuffix(resource, "/"), context: keys}
	for header, key := range map[string]string{"X-Amz-Server-Side-Encryption": "s3:x-amz-server-side-encryption",
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "s3:x-amz-server-side-encryption-aws-kms-key-id", "X-Amz-Acl": "s3:x-amz-acl"} {
		if v := c.r.Header.Get(header); v != "" {
			ask.context[key] = []string{v}
		}
	}
	if policy.decide(ask) == denied {
		return refuse(http.StatusForbidden, "AccessDenied", "Access Denied by the policy of bucket %s", bucket)
	}
	return nil
}

// iamAction is the permission that an S3 call needs, where the names differ.
func iamAction(call string) string {
	switch call {
	case "HeadObject":
		return "GetObject"
	case "HeadBucket", "ListObjects":
		return "ListBucket"
	case "DeleteObjects":
		return "DeleteObject"
	case "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload":
		return "PutObject"
	}
	return call
}
