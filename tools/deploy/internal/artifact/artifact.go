// Package artifact makes release bundles and opens them: one OCI artifact of
// chart, value layers and slipway.yaml, which names its images by digest.
package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Media types of the parts of a bundle.
const (
	configType = "application/vnd.slipway.bundle.config.v1+json"
	chartType  = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	filesType  = "application/vnd.slipway.bundle.files.v1.tar+gzip"
	emptyType  = "application/vnd.oci.empty.v1+json"
)

// Registry is where artifacts are, with the credential for it.
type Registry struct{ Access bundle.Access }

func (r Registry) options(ctx context.Context, repo name.Repository) []remote.Option {
	o := bundle.Options(ctx)
	if r.Access.Password != "" && repo.RegistryStr() == r.Access.Host {
		return append(o, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: r.Access.User, Password: r.Access.Password})))
	}
	return append(o, remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

// Exists checks that the registry has an image that is named by digest.
func (r Registry) Exists(ctx context.Context, reference string) error {
	ref, err := name.NewDigest(reference)
	if err != nil {
		return tool.Exit(tool.Usage, fmt.Errorf("reading image %q: %w", reference, err))
	}
	if _, err := remote.Head(ref, r.options(ctx, ref.Context())...); err != nil {
		var te *transport.Error
		if errors.As(err, &te) && te.StatusCode == http.StatusNotFound {
			return tool.Hint(fmt.Errorf("finding image %q: the registry does not have it", reference), "push it before it is deployed; nothing was changed")
		}
		return fmt.Errorf("finding image %q: %w", reference, denied(err))
	}
	return nil
}

func denied(err error) error {
	var te *transport.Error
	if errors.As(err, &te) && (te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden) {
		return tool.Exit(tool.Denied, err, "the job's token needs rights in the project of the registry")
	}
	return err
}

// manifest is an OCI image manifest that is an artifact. The fields stand in
// the order they are written, since the digest is over the bytes.
type manifest struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	ArtifactType  string          `json:"artifactType"`
	Config        v1.Descriptor   `json:"config"`
	Layers        []v1.Descriptor `json:"layers"`
	Subject       *v1.Descriptor  `json:"subject,omitempty"`
}

// taggable is a manifest as it is pushed.
type taggable struct{ raw []byte }

// RawManifest returns the bytes.
func (t taggable) RawManifest() ([]byte, error) { return t.raw, nil }

// MediaType returns the type of an OCI manifest.
func (t taggable) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Content is what goes into a bundle.
type Content struct {
	Config bundle.Config
	Chart  []byte            // packed
	Files  map[string][]byte // slipway.yaml and the value layers
}

// Push makes a bundle in a repository, reads it back and returns its
// reference. The same content has the same digest.
func (r Registry) Push(ctx context.Context, repository string, c Content) (bundle.Reference, error) {
	files, err := pack(c.Files)
	if err != nil {
		return bundle.Reference{}, err
	}
	config, err := json.Marshal(c.Config)
	if err != nil {
		return bundle.Reference{}, fmt.Errorf("encoding the configuration of the bundle: %w", err)
	}
	return r.push(ctx, repository, bundle.ArtifactType, part{config, configType}, nil, part{c.Chart, chartType}, part{files, filesType})
}

// Attach pushes a signature that refers to a bundle.
func (r Registry) Attach(ctx context.Context, b bundle.Reference, envelope []byte) error {
	ref, err := name.NewDigest(b.String())
	if err != nil {
		return fmt.Errorf("reading bundle %q: %w", b, err)
	}
	desc, err := remote.Get(ref, r.options(ctx, ref.Context())...)
	if err != nil {
		return fmt.Errorf("fetching bundle %q: %w", b, denied(err))
	}
	subject := &v1.Descriptor{MediaType: desc.MediaType, Size: desc.Size, Digest: desc.Digest}
	_, err = r.push(ctx, b.Repository, bundle.SignatureArtifactType, part{[]byte("{}"), emptyType}, subject, part{envelope, bundle.EnvelopeType})
	return err
}

type part struct {
	raw  []byte
	kind types.MediaType
}

func (r Registry) push(ctx context.Context, repository, kind string, config part, subject *v1.Descriptor, layers ...part) (bundle.Reference, error) {
	repo, err := name.NewRepository(repository)
	if err != nil {
		return bundle.Reference{}, tool.Exit(tool.Usage, fmt.Errorf("reading repository %q: %w", repository, err))
	}
	m := manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: kind, Subject: subject}
	for i, p := range append([]part{config}, layers...) {
		l := static.NewLayer(p.raw, p.kind)
		digest, err := l.Digest()
		if err != nil {
			return bundle.Reference{}, fmt.Errorf("hashing a part of the bundle: %w", err)
		}
		if err := remote.WriteLayer(repo, l, r.options(ctx, repo)...); err != nil {
			return bundle.Reference{}, fmt.Errorf("pushing to %q: %w", repository, denied(err))
		}
		d := v1.Descriptor{MediaType: p.kind, Size: int64(len(p.raw)), Digest: digest}
		if i == 0 {
			m.Config = d
		} else {
			m.Layers = append(m.Layers, d)
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return bundle.Reference{}, fmt.Errorf("encoding the manifest: %w", err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return bundle.Reference{}, fmt.Errorf("hashing the manifest: %w", err)
	}
	ref := repo.Digest(digest.String())
	if err := remote.Put(ref, taggable{raw}, r.options(ctx, repo)...); err != nil {
		return bundle.Reference{}, fmt.Errorf("pushing %q: %w", ref, denied(err))
	}
	back, err := remote.Get(ref, r.options(ctx, repo)...)
	if err != nil {
		return bundle.Reference{}, fmt.Errorf("reading %q back: %w", ref, denied(err))
	}
	if !bytes.Equal(back.Manifest, raw) {
		return bundle.Reference{}, tool.Exitf(tool.Broken, "reading %q back: the registry has other bytes than were pushed", ref)
	}
	return bundle.Reference{Repository: repository, Digest: digest.String()}, nil
}
