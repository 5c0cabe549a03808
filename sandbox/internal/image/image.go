// Package image packs static programs as images and pushes them to the
// sandbox's registry. The same content has the same digest.
package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is a file of an image.
type File struct {
	From string // on this machine; empty makes a folder
	To   string // in the image, without a leading slash
	Mode int64
}

// Pack makes an image with one layer of the files, in their order.
func Pack(files []File, config v1.Config) (v1.Image, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, f := range files {
		if err := add(w, f); err != nil {
			return nil, fmt.Errorf("packing %q: %w", f.From, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("packing an image: %w", err)
	}
	image, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), l)
	if err != nil {
		return nil, fmt.Errorf("packing an image: %w", err)
	}
	have, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("packing an image: %w", err)
	}
	have = have.DeepCopy()
	have.OS, have.Architecture, have.Config = "linux", runtime.GOARCH, config
	return mutate.ConfigFile(mutate.ConfigMediaType(image, types.OCIConfigJSON), have)
}

func add(w *tar.Writer, f File) error {
	if f.From == "" {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: f.To + "/", Mode: f.Mode, Format: tar.FormatPAX})
	}
	file, err := os.Open(f.From)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.To, Mode: f.Mode, Size: info.Size(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(w, file)
	return err
}

// Push pushes an image to a repository of the registry at address, which
// speaks plain HTTP on loopback, and returns its reference by digest.
func Push(ctx context.Context, address, repository string, image v1.Image) (string, error) {
	repo, err := name.NewRepository(address+"/"+repository, name.Insecure)
	if err != nil {
		return "", fmt.Errorf("pushing %q: %w", repository, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return "", fmt.Errorf("pushing %q: %w", repository, err)
	}
	ref := repo.Digest(digest.String())
	if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
		return "", fmt.Errorf("pushing %q: %w", ref, err)
	}
	return ref.String(), nil
}

// Save writes an image as an OCI layout into the folder dir, which Load reads.
func Save(dir string, image v1.Image) error {
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("saving an image: %w", err)
	}
	if err := l.AppendImage(image); err != nil {
		return fmt.Errorf("saving an image: %w", err)
	}
	return nil
}

// Load reads the one image of the OCI layout in dir.
func Load(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the image in %q: %w", dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("reading the image in %q: %w", dir, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("reading the image in %q: it holds %d images, want 1", dir, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}
