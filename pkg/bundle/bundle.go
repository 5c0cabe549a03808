// Package bundle reads release bundles: what a pipeline made, as one OCI
// artifact that is known by its digest, and the signatures that refer to it.
package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Media types of a bundle and its signatures.
const (
	ArtifactType          = "application/vnd.slipway.bundle.v1"
	SignatureArtifactType = "application/vnd.slipway.signature.v1"
	EnvelopeType          = "application/vnd.dsse.envelope.v1+json"
)

// maxBlob bounds the small blobs read here: configurations and envelopes.
const maxBlob = 1 << 20

// Config is what a bundle says of itself.
type Config struct {
	Service   string            `json:"service"`
	Commit    string            `json:"commit"`
	Project   Project           `json:"project"`
	Pipeline  int64             `json:"pipeline"`
	Images    map[string]string `json:"images"`
	Landscape string            `json:"landscape"`
	Created   time.Time         `json:"created"`
}

// Project is the GitLab project a bundle comes from.
type Project struct {
	Path string `json:"path"`
	ID   int64  `json:"id"`
}

// Reference names a bundle by repository and digest. A tag is not a name: it
// can be moved to other bytes.
type Reference struct{ Repository, Digest string }

var reference = regexp.MustCompile(`^([a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]+)+)@(sha256:[0-9a-f]{64})$`)

// Parse reads host/path@sha256:digest.
func Parse(s string) (Reference, error) {
	m := reference.FindStringSubmatch(s)
	if m == nil {
		return Reference{}, fmt.Errorf("reading bundle %q: it must be <repository>@sha256:<64 hex digits>", s)
	}
	return Reference{m[1], m[2]}, nil
}

// String returns the reference as Parse reads it.
func (r Reference) String() string { return r.Repository + "@" + r.Digest }

// Access is the credential for one registry. It is sent to no other.
type Access struct{ Host, User, Password string }

// Bundle is a bundle in its registry.
type Bundle struct {
	Reference Reference
	Config    Config
	options   []remote.Option
	digest    name.Digest
}

// coded gives a registry's failure its exit code: of what is only read, nothing
// was changed, and what may pass is worth a retry.
func coded(err error) error {
	var answer *transport.Error
	var connection net.Error
	switch {
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return tool.Exit(tool.Denied, err)
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= http.StatusInternalServerError),
		!errors.Is(err, context.Canceled) && errors.As(err, &connection):
		return tool.Exit(tool.Temporary, err)
	}
	return err
}

// patience is how long a registry may take to answer a request that it has
// whole. Without it a registry that says nothing holds a job to its end.
const patience = time.Minute

var patient = sync.OnceValue(func() http.RoundTripper {
	t, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return remote.DefaultTransport
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = patience
	return t
})

// Options are how every program talks to a registry, its login aside.
func Options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(patient())}
}

// Fetch reads a bundle. What it returns are the bytes the digest names, but
// nothing is said of who made them: see Envelopes.
func Fetch(ctx context.Context, r Reference, a Access) (*Bundle, error) {
	digest, err := name.NewDigest(r.String())
	if err != nil {
		return nil, fmt.Errorf("reading bundle %q: %w", r, err)
	}
	b := &Bundle{Reference: r, digest: digest, options: Options(ctx)}
	if a.Password != "" && digest.RegistryStr() == a.Host {
		b.options = append(b.options, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: a.User, Password: a.Password})))
	}
	desc, err := remote.Get(digest, b.options...)
	if err != nil {
		return nil, fmt.Errorf("fetching bundle %q: %w", r, coded(err))
	}
	var m manifest
	if err := json.Unmarshal(desc.Manifest, &m); err != nil {
		return nil, fmt.Errorf("reading the manifest of bundle %q: %w", r, err)
	}
	if m.ArtifactType != ArtifactType {
		return nil, fmt.Errorf("reading bundle %q: it is a %q, not a %q", r, m.ArtifactType, ArtifactType)
	}
	raw, err := b.blob(m.Config)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of bundle %q: %w", r, err)
	}
	if err := json.Unmarshal(raw, &b.Config); err != nil {
		return nil, fmt.Errorf("reading the configuration of bundle %q: %w", r, err)
	}
	return b, nil
}

type manifest struct {
	ArtifactType string          `json:"artifactType"`
	Config       v1.Descriptor   `json:"config"`
	Layers       []v1.Descriptor `json:"layers"`
	Subject      *v1.Descriptor  `json:"subject"`
}

// ReadBlob reads a blob of at most limit bytes and compares its length and its
// digest with the descriptor's. The registry's library does so only for a
// reader that reaches the end, which a bounded one never does where more came
// than was announced.
func ReadBlob(r io.Reader, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("blob %q has %d bytes, and at most %d are read", d.Digest, d.Size, limit)
	}
	raw, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("blob %q has not the %d bytes that its descriptor says", d.Digest, d.Size)
	}
	got, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if got != d.Digest {
		return nil, fmt.Errorf("blob %q: the registry sent other bytes, of digest %q", d.Digest, got)
	}
	return raw, nil
}

// blob reads a small blob.
func (b *Bundle) blob(d v1.Descriptor) (raw []byte, err error) {
	layer, err := remote.Layer(b.digest.Context().Digest(d.Digest.String()), b.options...)
	if err != nil {
		return nil, fmt.Errorf("fetching blob %q: %w", d.Digest, coded(err))
	}
	rc, err := layer.Compressed()
	if err != nil {
		return nil, fmt.Errorf("fetching blob %q: %w", d.Digest, coded(err))
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	if raw, err = ReadBlob(rc, d, maxBlob); err != nil {
		return nil, fmt.Errorf("fetching blob %q: %w", d.Digest, err)
	}
	return raw, nil
}

// maxReferrers bounds how many referrers are looked at: anybody who may write
// to the repository can add one.
const maxReferrers = 100

// Envelopes returns the DSSE envelopes that refer to the bundle. Anybody who
// may write to the repository can put one there: they prove nothing until
// their signatures are verified. For the same reason one that cannot be read
// is passed over, so that it does not hide a good one; where none could be
// read, the reasons are the error.
func (b *Bundle) Envelopes() ([][]byte, error) {
	// No filter: registries differ in what they take for the type of an artifact.
	index, err := remote.Referrers(b.digest, b.options...)
	if err != nil {
		return nil, fmt.Errorf("listing the signatures of bundle %q: %w", b.Reference, coded(err))
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("listing the signatures of bundle %q: %w", b.Reference, err)
	}
	var all [][]byte
	var bad []error
	for i, d := range list.Manifests {
		if i == maxReferrers {
			bad = append(bad, fmt.Errorf("%d things refer to bundle %q; the first %d were read", len(list.Manifests), b.Reference, maxReferrers))
			break
		}
		found, err := b.envelopesOf(d)
		if err != nil {
			bad = append(bad, err)
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, errors.Join(bad...)
	}
	return all, nil
}

// envelopesOf reads the envelopes of one referrer; none where it is something else.
func (b *Bundle) envelopesOf(d v1.Descriptor) ([][]byte, error) {
	desc, err := remote.Get(b.digest.Context().Digest(d.Digest.String()), b.options...)
	if err != nil {
		return nil, fmt.Errorf("fetching signature %q: %w", d.Digest, coded(err))
	}
	var m manifest
	if err := json.Unmarshal(desc.Manifest, &m); err != nil {
		return nil, fmt.Errorf("reading signature %q: %w", d.Digest, err)
	}
	if m.ArtifactType != SignatureArtifactType || m.Subject == nil || m.Subject.Digest.String() != b.Reference.Digest {
		return nil, nil
	}
	var all [][]byte
	for _, l := range m.Layers {
		if l.MediaType != EnvelopeType {
			continue
		}
		raw, err := b.blob(l)
		if err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}
