// Package bundletest puts bundles and signatures into a registry, for tests.
package bundletest

import (
	"encoding/json"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gitlab.com/slipway/slipway/pkg/bundle"
)

type manifest struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	ArtifactType  string          `json:"artifactType"`
	Config        v1.Descriptor   `json:"config"`
	Layers        []v1.Descriptor `json:"layers"`
	Subject       *v1.Descriptor  `json:"subject,omitempty"`
}

type artifact []byte

func (a artifact) RawManifest() ([]byte, error)        { return a, nil }
func (a artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Push puts a bundle without layers into a repository and returns its reference.
func Push(t testing.TB, repository string, c bundle.Config, artifactType string) string {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	m := manifest{ArtifactType: artifactType, Config: blob(t, repository, raw, "application/vnd.slipway.bundle.config.v1+json"), Layers: []v1.Descriptor{}}
	return put(t, repository, m)
}

// Sign puts an envelope into the registry that refers to a bundle.
func Sign(t testing.TB, ref string, envelope []byte) {
	t.Helper()
	digest, err := name.NewDigest(ref)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := remote.Head(digest)
	if err != nil {
		t.Fatal(err)
	}
	repository := digest.Context().Name()
	put(t, repository, manifest{ArtifactType: bundle.SignatureArtifactType, Config: blob(t, repository, []byte("{}"), "application/vnd.oci.empty.v1+json"),
		Layers: []v1.Descriptor{blob(t, repository, envelope, bundle.EnvelopeType)}, Subject: subject})
}

func blob(t testing.TB, repository string, raw []byte, kind types.MediaType) v1.Descriptor {
	t.Helper()
	repo, err := name.NewRepository(repository)
	if err != nil {
		t.Fatal(err)
	}
	layer := static.NewLayer(raw, kind)
	if err := remote.WriteLayer(repo, layer); err != nil {
		t.Fatal(err)
	}
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: kind, Size: int64(len(raw)), Digest: digest}
}

func put(t testing.TB, repository string, m manifest) string {
	t.Helper()
	m.SchemaVersion, m.MediaType = 2, types.OCIManifestSchema1
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	digest := static.NewLayer(raw, m.MediaType)
	hash, err := digest.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewDigest(repository + "@" + hash.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Put(ref, artifact(raw)); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}
