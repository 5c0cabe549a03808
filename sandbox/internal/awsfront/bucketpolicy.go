package awsfront

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// moto reads bucket policies without their conditions, so that a statement
// which denies plain HTTP denies everything there. The front keeps the
// policies itself.

// maxPolicy is S3's limit of a bucket policy, in bytes.
const maxPolicy = 20 << 10

// servePolicy answers the calls on bucket policies. It reports false for a
// call that moto answers.
func (f *Front) servePolicy(c *call) bool {
	switch c.action {
	case "PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy":
		if refused := f.bucketPolicy(c, bucketOf(c.r.URL)); refused != nil {
			c.fail(refused)
		}
		return true
	}
	return false
}

func (f *Front) bucketPolicy(c *call, bucket string) *apiError {
	_, err := f.moto.s3(c.target).HeadBucket(c.r.Context(), &s3.HeadBucketInput{Bucket: &bucket})
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
		policy, err := readPolicy(string(raw), true)
		if err == nil {
			err = errors.Join(f.checkPrincipals(c.r.Context(), policy), bucketsOwn(policy, bucket))
		}
		if err != nil {
			return malformed(err, "MalformedPolicy")
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

// bucketsOwn refuses, as S3 does, a policy that speaks of another bucket.
func bucketsOwn(d *document, bucket string) error {
	arn := "arn:aws:s3:::" + bucket
	for _, s := range d.Statement {
		for _, r := range append(append([]string{}, s.Resource...), s.NotResource...) {
			if r != arn && !strings.HasPrefix(r, arn+"/") && !wildcard(r, arn) {
				return errors.New("Policy has invalid resource") //nolint:staticcheck // S3's own words
			}
		}
	}
	return nil
}
