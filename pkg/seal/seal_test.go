package seal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// keyService signs as KMS does, with a key of this test.
type keyService struct {
	key    *ecdsa.PrivateKey
	refuse error
}

func (s keyService) Sign(_ context.Context, in *kms.SignInput, _ ...func(*kms.Options)) (*kms.SignOutput, error) {
	if in.SigningAlgorithm != types.SigningAlgorithmSpecEcdsaSha256 || len(in.Message) > 4096 {
		return nil, errors.New("not what KMS signs")
	}
	if s.refuse != nil {
		return nil, s.refuse
	}
	digest := in.Message
	if in.MessageType == types.MessageTypeRaw {
		sum := sha256.Sum256(in.Message)
		digest = sum[:]
	}
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, digest)
	return &kms.SignOutput{Signature: sig}, err
}

func (s keyService) GetPublicKey(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error) {
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	return &kms.GetPublicKeyOutput{PublicKey: der}, err
}

func newKey(t *testing.T) *Key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Key{client: keyService{key: k}, arn: "arn:aws:kms:eu-central-1:111111111111:key/1"}
}

// TestEncoding compares with the example of the DSSE specification.
func TestEncoding(t *testing.T) {
	if got := encode("http://example.com/HelloWorld", []byte("hello world")); string(got) != "DSSEv1 29 http://example.com/HelloWorld 11 hello world" {
		t.Errorf("got %q", got)
	}
}

func TestSignAndVerify(t *testing.T) {
	key, other := newKey(t), newKey(t)
	payload := []byte(`{"digest":"sha256:1"}`)
	envelope, err := Sign(t.Context(), key, BundleType, payload)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.PublicKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(envelope, public, BundleType)
	if err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("payload %q, error %v", got, err)
	}
	long := bytes.Repeat([]byte("x"), 5000)
	longEnvelope, err := Sign(t.Context(), key, BundleType, long)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Verify(longEnvelope, public, BundleType); err != nil || !bytes.Equal(got, long) {
		t.Errorf("a long payload: error %v", err)
	}
	var e Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	e.Payload = "eyJkaWdlc3QiOiJzaGEyNTY6MiJ9"
	changed, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		envelope []byte
		key      *ecdsa.PublicKey
		kind     string
	}{
		"another key":     {envelope, stranger, BundleType},
		"another type":    {envelope, public, "application/vnd.in-toto+json"},
		"another payload": {changed, public, BundleType},
		"no signature":    {[]byte(`{"payloadType":"` + BundleType + `","payload":"e30="}`), public, BundleType},
		"no envelope":     {[]byte(`<html>`), public, BundleType},
	} {
		if got, err := Verify(c.envelope, c.key, c.kind); err == nil || got != nil {
			t.Errorf("%s: verified, payload %q", name, got)
		}
	}
}

func TestRefusalExitsAsOne(t *testing.T) {
	key := newKey(t)
	service, ok := key.client.(keyService)
	if !ok {
		t.Fatal("not the test's key service")
	}
	service.refuse = &smithy.GenericAPIError{Code: "AccessDeniedException"}
	key.client = service
	_, err := Sign(t.Context(), key, BundleType, nil)
	if tool.CodeOf(err) != tool.Denied {
		t.Errorf("error %v, want one that exits %d", err, tool.Denied)
	}
	service.refuse = &smithy.GenericAPIError{Code: "ThrottlingException"}
	key.client = service
	if _, err := Sign(t.Context(), key, BundleType, nil); tool.CodeOf(err) != tool.Temporary {
		t.Errorf("error %v, want one that exits %d", err, tool.Temporary)
	}
}
