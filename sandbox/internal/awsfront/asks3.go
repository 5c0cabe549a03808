package awsfront

import (
	"bytes"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// bucketGuard is the policy of a bucket, as seen by the caller, and its owner:
// "" for a bucket of which no creation was seen, which there is not.
func (f *Front) bucketGuard(c *call, bucket string) (g guard, owner string, refused *apiError) {
	var text string
	f.store.read(func(d *data) { text, owner = d.Policies[bucket], d.Buckets[bucket] })
	if f.ofGateway(bucket) {
		text, owner = f.cfg.Gateway.Policy, f.cfg.Gateway.Account
	}
	g.foreign = owner != "" && owner != c.caller.Account
	if text != "" {
		var err error
		if g.policy, err = parsePolicy(text); err != nil {
			return g, owner, internal(err)
		}
	}
	return g, owner, nil
}

// noSuchBucket is what those are told who have the right: S3 refuses the
// others, and does not say that there is none.
func noSuchBucket() *apiError {
	return refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
}

// s3Asks lists the rights that a call of S3 needs: its own, those that its
// headers and its version add, and, where S3 encrypts with a key, that key's.
func (f *Front) s3Asks(c *call) ([]ask, *apiError) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(c.r.URL.Path, "/"), "/")
	switch c.action {
	case "ListBuckets":
		return []ask{{action: "s3:ListAllMyBuckets", resource: "*"}}, nil
	case "CreateBucket":
		return createBucketAsks(c, bucket), nil
	}
	g, owner, refused := f.bucketGuard(c, bucket)
	if refused != nil {
		return nil, refused
	}
	if want := c.r.Header.Get("X-Amz-Expected-Bucket-Owner"); want != "" && owner != "" && want != owner {
		return nil, refuse(http.StatusForbidden, "AccessDenied", "Access Denied")
	}
	out, refused := bucketAsks(c, bucket, key, g)
	if refused != nil {
		return nil, refused
	}
	if owner == "" {
		out[0].unusable = noSuchBucket()
		return out, nil
	}
	c.target = owner
	source, refused := f.copyAsks(c)
	if refused != nil {
		return nil, refused
	}
	keyed, refused := f.objectKeyAsks(c, bucket, owner)
	return slices.Concat(out, source, keyed), refused
}

// createBucketAsks asks the caller's own policies alone. S3 says itself that
// the name is another's.
func createBucketAsks(c *call, bucket string) []ask {
	out := []ask{{action: "s3:CreateBucket", resource: "arn:aws:s3:::" + bucket, context: s3Keys(c)}}
	if c.r.Header.Get("X-Amz-Object-Ownership") != "" {
		out = append(out, ask{action: "s3:PutBucketOwnershipControls", resource: "arn:aws:s3:::" + bucket, context: s3Keys(c)})
	}
	return out
}

// bucketAsks are the rights on the bucket or on objects in it.
func bucketAsks(c *call, bucket, key string, g guard) ([]ask, *apiError) {
	context := s3Keys(c)
	arn := "arn:aws:s3:::" + bucket
	if c.action == "DeleteObjects" {
		return deletionAsks(c, bucket, context, g)
	}
	if key != "" {
		arn += "/" + key
	}
	action := permission("s3", c.action)
	if c.r.URL.Query().Has("versionId") && key != "" {
		action = strings.Replace(action, "Object", "ObjectVersion", 1)
	}
	out := []ask{{action: action, resource: arn, context: context, guard: g}}
	if c.action == "PutObject" || c.action == "CreateMultipartUpload" {
		if c.r.Header.Get("X-Amz-Tagging") != "" {
			out = append(out, ask{action: "s3:PutObjectTagging", resource: arn, context: context, guard: g})
		}
		if c.r.Header.Get("X-Amz-Acl") != "" {
			out = append(out, ask{action: "s3:PutObjectAcl", resource: arn, context: context, guard: g})
		}
	}
	return out, nil
}

// deletionAsks asks for each of the objects; a version takes a right of its
// own. AWS refuses them one by one; the front refuses all at once.
func deletionAsks(c *call, bucket string, context map[string][]string, g guard) ([]ask, *apiError) {
	objects, refused := objectsToDelete(c, bucket)
	if refused != nil {
		return nil, refused
	}
	var out []ask
	for _, o := range objects {
		a := ask{action: "s3:DeleteObject", resource: o.arn(), context: context, guard: g}
		if o.version != "" {
			a.action, a.context = "s3:DeleteObjectVersion", maps.Clone(context)
			a.context["s3:versionid"] = []string{o.version}
		}
		out = append(out, a)
	}
	return out, nil
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

// objectsToDelete reads the body of DeleteObjects, and leaves it to be read again.
func objectsToDelete(c *call, bucket string) ([]s3Object, *apiError) {
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxDelete))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "MalformedXML", "reading the keys: %v", err)
	}
	c.r.Body = io.NopCloser(bytes.NewReader(raw))
	var in struct {
		Object []struct{ Key, VersionId string }
	}
	if err := xml.Unmarshal(raw, &in); err != nil || len(in.Object) == 0 || len(in.Object) > 1000 {
		return nil, refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	}
	var out []s3Object
	for _, o := range in.Object {
		out = append(out, s3Object{bucket, o.Key, o.VersionId})
	}
	return out, nil
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
	if actions == nil || f.ofGateway(bucket) {
		return nil, nil
	}
	id, refused := f.encryptionKey(c, bucket, owner)
	if refused != nil {
		return nil, refused
	}
	return f.keyRights(c, bucket, id, actions...)
}

// keyRights asks for rights on the key that a bucket's objects are encrypted
// with; S3's own keys, which have no id, need none.
func (f *Front) keyRights(c *call, bucket, id string, actions ...string) ([]ask, *apiError) {
	if id == "" {
		return nil, nil
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
	return f.bucketKey(c, bucket, owner)
}

// bucketKey is the key that a bucket encrypts with where no call names one.
func (f *Front) bucketKey(c *call, bucket, owner string) (string, *apiError) {
	if f.ofGateway(bucket) { // which encrypts with no key of KMS's
		return "", nil
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
