// Package seal makes and verifies signatures under KMS keys, as DSSE
// envelopes. A signature is made in KMS; it is verified here, with the public
// key, so that who verifies needs no right to sign.
package seal

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// BundleType is the payload type of signatures of release bundles.
const BundleType = "application/vnd.slipway.bundle+json"

// Envelope is a DSSE envelope. Source: https://github.com/secure-systems-lab/dsse
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an envelope.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // base64 of the ASN.1 form
}

// Signer makes an ECDSA signature, in ASN.1 form, over the SHA-256 digest of a
// message.
type Signer interface {
	Sign(ctx context.Context, message []byte) ([]byte, error)
	KeyID() string
}

// encode is DSSE's pre-authentication encoding: type and payload with their
// lengths, so that no payload can be read as one of another type.
func encode(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Sign returns the envelope of payload as JSON.
func Sign(ctx context.Context, s Signer, payloadType string, payload []byte) ([]byte, error) {
	sig, err := s.Sign(ctx, encode(payloadType, payload))
	if err != nil {
		return nil, fmt.Errorf("signing with key %q: %w", s.KeyID(), err)
	}
	raw, err := json.Marshal(Envelope{PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []Signature{{KeyID: s.KeyID(), Sig: base64.StdEncoding.EncodeToString(sig)}}})
	if err != nil {
		return nil, fmt.Errorf("encoding the envelope: %w", err)
	}
	return raw, nil
}

// ErrUnsigned says that no signature of an envelope is by the key.
var ErrUnsigned = errors.New("no signature is by the expected key")

// Verify returns the payload of an envelope, where one of its signatures is by
// key and its payload is of payloadType. The key id inside is only a hint and
// decides nothing.
func Verify(envelope []byte, key *ecdsa.PublicKey, payloadType string) ([]byte, error) {
	var e Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return nil, fmt.Errorf("reading the envelope: %w", err)
	}
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("reading the envelope: its payload is of type %q, not %q", e.PayloadType, payloadType)
	}
	payload, err := decode(e.Payload)
	if err != nil {
		return nil, fmt.Errorf("reading the payload of the envelope: %w", err)
	}
	digest := sha256.Sum256(encode(e.PayloadType, payload))
	for _, s := range e.Signatures {
		sig, err := decode(s.Sig)
		if err == nil && ecdsa.VerifyASN1(key, digest[:], sig) {
			return payload, nil
		}
	}
	return nil, ErrUnsigned
}

// decode reads base64 in its standard or URL form, as DSSE asks of readers.
func decode(s string) ([]byte, error) {
	if raw, err := base64.StdEncoding.DecodeString(s); err == nil {
		return raw, nil
	}
	return base64.URLEncoding.DecodeString(s)
}
