package awsfront

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// TestKeysAcrossAccounts: KMS asks the key's policy and the caller's own, and
// does not tell who has no right whether the key exists.
func TestKeysAcrossAccounts(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	one, two := b.account("one"), b.account("two")
	inOne, inTwo := b.in(one), b.in(two)
	out, err := kms.NewFromConfig(inOne).CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY",
		Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + one + `:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:GetPublicKey","Resource":"*","Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::` + two + `:role/verifier"}}}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	arn := *out.KeyMetadata.Arn
	public := func(cfg aws.Config, arn string) error {
		_, err := kms.NewFromConfig(cfg).GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &arn})
		return err
	}
	verifier := b.worker(inTwo, two, "verifier", allow("kms:GetPublicKey", arn), nil)
	other := b.worker(inTwo, two, "other", allow("kms:GetPublicKey", arn), nil)
	wantCode(t, public(verifier, arn), "")
	const closed = "because the resource does not exist in this Region, no resource-based policies allow access"
	refusedAs(t, public(other, arn), 400, "AccessDeniedException", closed)
	refusedAs(t, public(verifier, strings.Replace(arn, ":key/", ":key/0", 1)), 400, "AccessDeniedException", closed)
	b.grant(inTwo, "verifier", allow("kms:Sign", arn))
	wantCode(t, public(verifier, arn), "AccessDeniedException")
	_, err = kms.NewFromConfig(inOne).Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: []byte("x")})
	wantCode(t, err, "ValidationException")

	client := kms.NewFromConfig(inOne)
	policy := func(text string) error {
		_, err := client.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &arn, PolicyName: aws.String("default"), Policy: &text})
		return err
	}
	refusedAs(t, policy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+two+`:root"},"Action":"kms:*","Resource":"*"}]}`), 400,
		"MalformedPolicyDocumentException", "will not allow you to update the key policy")
	refusedAs(t, policy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::`+one+`:root","arn:aws:iam::`+two+`:role/absent"]},"Action":"kms:*","Resource":"*"}]}`), 400,
		"MalformedPolicyDocumentException", "Invalid principal in policy")
	refusedAs(t, policy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+one+`:root"},"Action":"kms:*","Resource":"*","Condition":{"Guess":{"a":"b"}}}]}`), 400,
		"MalformedPolicyDocumentException", "Invalid Condition type")
}

// TestKeyStates: nobody works with a key that is disabled or waits for its
// deletion, nor does S3; who has no right to the key does not hear why.
func TestKeyStates(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	member := b.account("nonprod")
	cfg := b.in(member)
	client, objects := kms.NewFromConfig(cfg), s3.NewFromConfig(cfg, pathStyle)
	signing, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY"})
	if err != nil {
		t.Fatal(err)
	}
	sealing, err := client.CreateKey(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	signs, seals := signing.KeyMetadata.Arn, sealing.KeyMetadata.Arn
	digest, bucket := make([]byte, 32), aws.String("slipway-key-states")
	signed, err := client.Sign(ctx, &kms.SignInput{KeyId: signs, Message: digest, MessageType: "DIGEST", SigningAlgorithm: "ECDSA_SHA_256"})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: seals, Plaintext: digest})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := objects.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket, CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: testRegion}}); err != nil {
		t.Fatal(err)
	}
	if _, err := objects.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: bucket,
		ServerSideEncryptionConfiguration: &s3types.ServerSideEncryptionConfiguration{Rules: []s3types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: &s3types.ServerSideEncryptionByDefault{
			SSEAlgorithm: s3types.ServerSideEncryptionAwsKms, KMSMasterKeyID: seals}}}}}); err != nil {
		t.Fatal(err)
	}
	uses := []struct {
		name string
		key  *string
		call func() error
	}{
		{"Sign", signs, func() error {
			_, err := client.Sign(ctx, &kms.SignInput{KeyId: signs, Message: digest, MessageType: "DIGEST", SigningAlgorithm: "ECDSA_SHA_256"})
			return err
		}},
		{"Verify", signs, func() error {
			_, err := client.Verify(ctx, &kms.VerifyInput{KeyId: signs, Message: digest, MessageType: "DIGEST", SigningAlgorithm: "ECDSA_SHA_256", Signature: signed.Signature})
			return err
		}},
		{"GetPublicKey", signs, func() error { _, err := client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: signs}); return err }},
		{"Encrypt", seals, func() error {
			_, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: seals, Plaintext: digest})
			return err
		}},
		{"Decrypt", seals, func() error {
			_, err := client.Decrypt(ctx, &kms.DecryptInput{KeyId: seals, CiphertextBlob: sealed.CiphertextBlob})
			return err
		}},
		{"GenerateDataKey", seals, func() error {
			_, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: seals, KeySpec: "AES_256"})
			return err
		}},
		{"GenerateDataKeyWithoutPlaintext", seals, func() error {
			_, err := client.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: seals, KeySpec: "AES_256"})
			return err
		}},
		{"S3 PutObject", seals, func() error {
			_, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("a"), Body: strings.NewReader("a")})
			return err
		}},
		{"S3 GetObject", seals, func() error {
			_, err := objects.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("a")})
			return err
		}},
	}
	want := func(when, code, s3Code, words string) {
		t.Helper()
		for _, u := range uses {
			err := u.call()
			switch {
			case code == "":
				if err != nil {
					t.Errorf("%s, %s: %v", when, u.name, err)
				}
			case strings.HasPrefix(u.name, "S3"):
				refusedAs(t, err, 400, s3Code, *u.key+words)
			default:
				refusedAs(t, err, 400, code, *u.key+words)
			}
		}
	}
	each := func(do func(key *string) error) {
		t.Helper()
		// By its id and by its ARN, as KMS takes both.
		for _, key := range []*string{signing.KeyMetadata.KeyId, sealing.KeyMetadata.Arn} {
			if err := do(key); err != nil {
				t.Fatal(err)
			}
		}
	}
	want("enabled", "", "", "")
	each(func(key *string) error {
		_, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key})
		return err
	})
	want("disabled", "DisabledException", "KMS.DisabledException", " is disabled.")
	idle := b.worker(cfg, member, "idle", allow("sts:GetCallerIdentity", "*"), nil)
	_, err = kms.NewFromConfig(idle).GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: signs})
	refusedAs(t, err, 400, "AccessDeniedException", "kms:GetPublicKey")
	each(func(key *string) error { _, err := client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key}); return err })
	want("enabled again", "", "", "")
	each(func(key *string) error {
		_, err := client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key, PendingWindowInDays: aws.Int32(7)})
		return err
	})
	want("to be deleted", "KMSInvalidStateException", "KMS.KMSInvalidStateException", " is pending deletion.")
	each(func(key *string) error {
		_, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key})
		return err
	})
}
