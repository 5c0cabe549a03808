package awsfront

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// versioned makes a bucket that keeps versions, with an object, and returns
// the object's first version.
func versioned(t *testing.T, cfg aws.Config, name, policy string) string {
	t.Helper()
	bucket(t, cfg, name, policy)
	client := s3.NewFromConfig(cfg, pathStyle)
	if _, err := client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &name,
		VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled}}); err != nil {
		t.Fatal(err)
	}
	out, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &name, Key: aws.String("open/a"), Body: strings.NewReader("text")})
	if err != nil {
		t.Fatal(err)
	}
	return *out.VersionId
}

// TestVersionsTakeTheirOwnRight: who may delete objects cannot delete what is
// left of them, one by one or many at once.
func TestVersionsTakeTheirOwnRight(t *testing.T) {
	b := newBench(t, nil)
	account := b.account("one")
	cfg := b.in(account)
	name := "nsflow-x-" + account + "-" + testRegion + "-an"
	version := versioned(t, cfg, name, "")
	objects := "arn:aws:s3:::" + name + "/*"
	session := b.worker(cfg, account, "cleaner", allow("s3:DeleteObject", objects), nil)
	client := s3.NewFromConfig(session, pathStyle)
	remove := func(versions ...*string) error {
		in := &s3types.Delete{}
		for _, v := range versions {
			in.Objects = append(in.Objects, s3types.ObjectIdentifier{Key: aws.String("open/a"), VersionId: v})
		}
		_, err := client.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: &name, Delete: in})
		return err
	}
	wantCode(t, remove(nil), "")
	refusedAs(t, remove(nil, &version), 403, "AccessDenied", "because no identity-based policy allows the s3:DeleteObjectVersion action")
	_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &name, Key: aws.String("open/a"), VersionId: &version})
	refusedAs(t, err, 403, "AccessDenied", "s3:DeleteObjectVersion")
	b.grant(cfg, "cleaner", `{"Effect":"Allow","Action":"s3:DeleteObjectVersion","Resource":"`+objects+`","Condition":{"StringEquals":{"s3:VersionId":"`+version+`"}}}`)
	wantCode(t, remove(nil), "AccessDenied")
	wantCode(t, remove(&version), "")
}

// TestCopiesAskTheSource: the bucket that is copied from has its own policy
// and its own key, for parts as for whole objects.
func TestCopiesAskTheSource(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	one, two := b.account("one"), b.account("two")
	inOne, inTwo := b.in(one), b.in(two)
	source, target := "nsflow-from-"+one+"-"+testRegion+"-an", "nsflow-to-"+two+"-"+testRegion+"-an"
	open := `arn:aws:s3:::` + source + `/open/*`
	version := versioned(t, inOne, source, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"`+two+`"},"Action":"s3:GetObject","Resource":"`+open+`"}]}`)
	bucket(t, inTwo, target, "")
	put := allow("s3:PutObject", "arn:aws:s3:::"+target+"/*")
	client := s3.NewFromConfig(b.worker(inTwo, two, "copier", put, nil), pathStyle)
	upload, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &target, Key: aws.String("parts")})
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]func(string) error{
		"an object": func(from string) error {
			_, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &target, Key: aws.String("a"), CopySource: &from})
			return err
		},
		"a part": func(from string) error {
			_, err := client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: &target, Key: aws.String("parts"), UploadId: upload.UploadId, PartNumber: aws.Int32(1), CopySource: &from})
			return err
		},
	}
	each := func(name string, check func(*testing.T, func(string) error)) {
		for way, do := range ways {
			t.Run(name+" "+way, func(t *testing.T) { check(t, do) })
		}
	}
	each("without the right", func(t *testing.T, do func(string) error) {
		refusedAs(t, do(source+"/open/a"), 403, "AccessDenied", "because no identity-based policy allows the s3:GetObject action")
	})
	b.grant(inTwo, "copier", put+","+allow("s3:GetObject*", "*"))
	each("with the right", func(t *testing.T, do func(string) error) {
		wantCode(t, do(source+"/open/a"), "")
		wantCode(t, do(source+"/open%2Fa"), "")
		refusedAs(t, do(source+"/closed/a"), 403, "AccessDenied", "because no resource-based policy allows the s3:GetObject action")
		refusedAs(t, do(source+"/open/a?versionId="+version), 403, "AccessDenied", "because no resource-based policy allows the s3:GetObjectVersion action")
		wantCode(t, do("nsflow-nowhere/a"), "NoSuchBucket")
	})
	key, err := kms.NewFromConfig(inOne).CreateKey(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s3.NewFromConfig(inOne, pathStyle).PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: &source,
		ServerSideEncryptionConfiguration: &s3types.ServerSideEncryptionConfiguration{Rules: []s3types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: &s3types.ServerSideEncryptionByDefault{
			SSEAlgorithm: s3types.ServerSideEncryptionAwsKms, KMSMasterKeyID: key.KeyMetadata.Arn}}}}}); err != nil {
		t.Fatal(err)
	}
	each("without the source's key", func(t *testing.T, do func(string) error) {
		refusedAs(t, do(source+"/open/a"), 403, "AccessDenied", "kms:Decrypt on resource: \""+*key.KeyMetadata.Arn)
	})
}

// TestUnknownBucket: a bucket that nobody was seen to make is nobody's, though
// moto has it.
func TestUnknownBucket(t *testing.T) {
	b := newBench(t, nil)
	member := b.account("one")
	if _, err := b.front.moto.s3(member).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("stray"),
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: testRegion}}); err != nil {
		t.Fatal(err)
	}
	for account, cfg := range map[string]aws.Config{member: b.in(member), management: b.adminConfig()} {
		_, err := s3.NewFromConfig(cfg, pathStyle).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("stray")})
		if code(err) != "NoSuchBucket" {
			t.Errorf("in %s: %v", account, err)
		}
	}
	idle := b.worker(b.in(member), member, "idle", allow("sts:GetCallerIdentity", "*"), nil)
	_, err := s3.NewFromConfig(idle, pathStyle).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("stray")})
	wantCode(t, err, "AccessDenied")
}
