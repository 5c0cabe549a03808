package seal

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// KMS is what is asked of the key service.
type KMS interface {
	Sign(ctx context.Context, in *kms.SignInput, opts ...func(*kms.Options)) (*kms.SignOutput, error)
	GetPublicKey(ctx context.Context, in *kms.GetPublicKeyInput, opts ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
}

// Key is an asymmetric signing key in KMS.
type Key struct {
	client KMS
	arn    string
}

// NewKey returns the key of an ARN, reached with the configuration's
// credentials in the key's own region.
func NewKey(cfg aws.Config, arn string) (*Key, error) {
	parts := strings.Split(arn, ":")
	if len(parts) < 6 || parts[2] != "kms" {
		return nil, fmt.Errorf("reading the key %q: it is no ARN of a KMS key", arn)
	}
	return &Key{client: kms.NewFromConfig(cfg, func(o *kms.Options) { o.Region = parts[3] }), arn: arn}, nil
}

// KeyID returns the ARN of the key.
func (k *Key) KeyID() string { return k.arn }

// maxRaw is the longest message that KMS hashes itself.
const maxRaw = 4096

// Sign signs a message in KMS. KMS makes the digest of a short one itself, so
// that its record of the call is about the message; a longer one is sent as
// its digest. The signature is of the same form either way.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	in := &kms.SignInput{KeyId: &k.arn, Message: message, MessageType: types.MessageTypeRaw, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}
	if len(message) > maxRaw {
		digest := sha256.Sum256(message)
		in.Message, in.MessageType = digest[:], types.MessageTypeDigest
	}
	out, err := k.client.Sign(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("asking KMS to sign: %w", coded(err))
	}
	return out.Signature, nil
}

// PublicKey fetches the public half of the key.
func (k *Key) PublicKey(ctx context.Context) (*ecdsa.PublicKey, error) {
	out, err := k.client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &k.arn})
	if err != nil {
		return nil, fmt.Errorf("fetching the public key of %q: %w", k.arn, coded(err))
	}
	pub, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("reading the public key of %q: %w", k.arn, err)
	}
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("reading the public key of %q: it is a %T, not an ECDSA key", k.arn, pub)
	}
	return key, nil
}

// coded gives a failure of KMS its exit code. Neither call changes anything, so
// that what may pass is worth a retry.
func coded(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && strings.HasPrefix(api.ErrorCode(), "AccessDenied") {
		return tool.Exit(tool.Denied, err)
	}
	if retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary {
		return tool.Exit(tool.Temporary, err)
	}
	return err
}
