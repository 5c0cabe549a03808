package awsfront

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// bucketGuard is the policy of a bucket, as seen by the caller. A bucket of
// which no creation was seen (there is none, or it is the gateway's) counts as
// the caller's own.
func (f *Front) bucketGuard(c *call, bucket string) (g guard, owner string, refused *apiError) {
	var text string
	f.store.read(func(d *data) { text, owner = d.Policies[bucket], d.Buckets[bucket] })
	if owner == "" {
		owner = c.caller.Account
	}
	g.foreign = owner != c.caller.Account
	if text != "" {
		var err error
		if g.policy, err = parsePolicy(text); err != nil {
			return g, owner, internal(err)
		}
	}
	return g, owner, nil
}

// s3Asks lists the rights that a call of S3 needs: its own, those that its
// headers and its version add, and, where S3 encrypts with a key, that key's.
func (f *Front) s3Asks(c *call) ([]ask, *apiError) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(c.r.URL.Path, "/"), "/")
	if c.action == "ListBuckets" {
		return []ask{{action: "s3:ListAllMyBuckets", resource: "*"}}, nil
	}
	g, owner, refused := f.bucketGuard(c, bucket)
	if refused != nil {
		return nil, refused
	}
	if want := c.r.Header.Get("X-Amz-Expected-Bucket-Owner"); want != "" && want != owner && c.action != "CreateBucket" {
		return nil, refuse(http.StatusForbidden, "AccessDenied", "Access Denied")
	}
	if c.action != "CreateBucket" { // which must hear that the name is another's
		c.target = owner
	}
	context := s3Keys(c)
	arn := "arn:aws:s3:::" + bucket
	if key != "" {
		arn += "/" + key
	}
	action := permission("s3", c.action)
	if c.r.URL.Query().Has("versionId") && key != "" {
		action = strings.Replace(action, "Object", "ObjectVersion", 1)
	}
	out := []ask{{action: action, resource: arn, context: context, guard: g}}
	also := func(action, resource string) {
		out = append(out, ask{action: action, resource: resource, context: context, guard: g})
	}
	switch c.action {
	case "CreateBucket":
		out[0].guard = guard{}
		if c.r.Header.Get("X-Amz-Object-Ownership") != "" {
			also("s3:PutBucketOwnershipControls", arn)
		}
	case "DeleteObjects":
		keys, refused := keysToDelete(c)
		if refused != nil {
			return nil, refused
		}
		out = nil
		for _, k := range keys { // AWS refuses them one by one; the front refuses all at once
			also("s3:DeleteObject", arn+"/"+k)
		}
	case "PutObject", "CreateMultipartUpload":
		if c.r.Header.Get("X-Amz-Tagging") != "" {
			also("s3:PutObjectTagging", arn)
		}
		if c.r.Header.Get("X-Amz-Acl") != "" {
			also("s3:PutObjectAcl", arn)
		}
		if source := copySource(c); source != "" {
			also("s3:GetObject", "arn:aws:s3:::"+source)
		}
	}
	keyed, refused := f.objectKeyAsks(c, bucket, owner)
	return append(out, keyed...), refused
}

// copySource is bucket and key of the object that is to be copied.
func copySource(c *call) string {
	source, _, _ := strings.Cut(strings.TrimPrefix(c.r.Header.Get("X-Amz-Copy-Source"), "/"), "?")
	if plain, err := url.PathUnescape(source); err == nil {
		return plain
	}
	return source
}

func s3Keys(c *call) map[string][]string {
	keys := map[string][]string{}
	for header, key := range map[string]string{"X-Amz-Server-Side-Encryption": "s3:x-amz-server-side-encryption",
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "s3:x-amz-server-side-encryption-aws-kms-key-id", "X-Amz-Acl": "s3:x-amz-acl"} {
		if v := c.r.Header.Get(header); v != "" {
			keys[key] = []string{v}
		}
	}
	for _, parameter := range []string{"prefix", "delimiter", "versionId"} {
		if v := c.r.URL.Query(); v.Has(parameter) {
			keys["s3:"+strings.ToLower(parameter)] = v[parameter]
		}
	}
	return keys
}

// maxDelete bounds the body of DeleteObjects: a thousand keys of 1 KiB.
const maxDelete = 2 << 20

func keysToDelete(c *call) ([]string, *apiError) {
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxDelete))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "MalformedXML", "reading the keys: %v", err)
	}
	c.r.Body = io.NopCloser(bytes.NewReader(raw))
	var in struct {
		Object []struct{ Key string }
	}
	if err := xml.Unmarshal(raw, &in); err != nil || len(in.Object) == 0 || len(in.Object) > 1000 {
		return nil, refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	}
	var keys []string
	for _, o := range in.Object {
		keys = append(keys, o.Key)
	}
	return keys, nil
}

// objectKeyAsks are the rights on the KMS key that an object is encrypted
// with: S3 uses it in the caller's name.
func (f *Front) objectKeyAsks(c *call, bucket, owner string) ([]ask, *apiError) {
	var actions []string
	switch c.action {
	case "PutObject", "CreateMultipartUpload":
		actions = []string{"kms:GenerateDataKey"}
	case "UploadPart", "CompleteMultipartUpload", "GetObject":
		actions = []string{"kms:Decrypt"}
	}
	if copySource(c) != "" {
		actions = append(actions, "kms:Decrypt")
	}
	if actions == nil || f.ofGateway(bucket) {
		return nil, nil
	}
	id, refused := f.encryptionKey(c, bucket, owner)
	if refused != nil || id == "" {
		return nil, refused
	}
	key, refused := f.findKey(c, id)
	if refused != nil {
		return nil, refused
	}
	if key == nil {
		return nil, refuse(http.StatusBadRequest, "KMS.NotFoundException", "Key '%s' does not exist", id)
	}
	unusable := key.unusable()
	if unusable != nil {
		unusable.code = "KMS." + unusable.code // as S3 hands on what KMS says
	}
	var out []ask
	for _, action := range actions {
		out = append(out, ask{action: action, resource: key.arn, guard: key.guard, unusable: unusable, context: map[string][]string{
			"kms:viaservice": {"s3." + c.region + ".amazonaws.com"}, "kms:calleraccount": {c.caller.Account},
			"kms:encryptioncontext:aws:s3:arn": {"arn:aws:s3:::" + bucket}, "kms:encryptioncontextkeys": {"aws:s3:arn"}}})
	}
	return out, nil
}

// encryptionKey is the key that the call names, or the bucket's own; "" where
// S3 encrypts with keys of its own.
func (f *Front) encryptionKey(c *call, bucket, owner string) (string, *apiError) {
	if asked := c.r.Header.Get("X-Amz-Server-Side-Encryption"); asked != "" {
		if id := c.r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"); id != "" || asked != "aws:kms" {
			return id, nil
		}
	}
	out, err := f.moto.s3(owner).GetBucketEncryption(c.r.Context(), &s3.GetBucketEncryptionInput{Bucket: &bucket})
	if hasCode(err, "ServerSideEncryptionConfigurationNotFoundError", "NoSuchBucket") {
		return "", nil
	}
	if err != nil {
		return "", internal(err)
	}
	for _, rule := range out.ServerSideEncryptionConfiguration.Rules {
		if d := rule.ApplyServerSideEncryptionByDefault; d != nil && d.SSEAlgorithm == s3types.ServerSideEncryptionAwsKms {
			return aws.ToString(d.KMSMasterKeyID), nil
		}
	}
	return "", nil
}

// hidesAbsence reports whether S3 answers AccessDenied for an object that does
// not exist: to those who may not list the bucket.
func (f *Front) hidesAbsence(c *call) (bool, *apiError) {
	if c.service != "s3" || c.action != "GetObject" && c.action != "HeadObject" {
		return false, nil
	}
	bucket := bucketOf(c.r.URL)
	g, _, refused := f.bucketGuard(c, bucket)
	if refused != nil {
		return false, refused
	}
	reason, refused := f.judge(c, ask{action: "s3:ListBucket", resource: "arn:aws:s3:::" + bucket, guard: g})
	return reason != "", refused
}
