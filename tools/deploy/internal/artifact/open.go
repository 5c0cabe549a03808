package artifact

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/seal"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Limits of what is unpacked, so that a hostile archive costs little.
const (
	maxPacked   = 16 << 20
	maxUnpacked = 64 << 20
	maxFiles    = 2000
)

// Files are unpacked files by name. They are a config.Source.
type Files map[string][]byte

// ReadFile returns a file.
func (f Files) ReadFile(name string) ([]byte, error) {
	raw, ok := f[path.Clean(name)]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return raw, nil
}

// Verify fetches a bundle's description and checks that a signature of it is
// by the key. Nothing of the bundle is unpacked before that.
func (r Registry) Verify(ctx context.Context, ref bundle.Reference, key *ecdsa.PublicKey) (*bundle.Bundle, error) {
	b, err := bundle.Fetch(ctx, ref, r.Access)
	if err != nil {
		return nil, err
	}
	envelopes, err := b.Envelopes()
	if err != nil {
		return nil, err
	}
	var reasons []error
	for _, e := range envelopes {
		payload, err := seal.Verify(e, key, seal.BundleType)
		if err == nil {
			err = b.Check(payload)
		}
		if err == nil {
			return b, nil
		}
		reasons = append(reasons, err)
	}
	if len(reasons) == 0 {
		reasons = append(reasons, errors.New("it has no signature"))
	}
	return nil, tool.Exit(tool.Refused, fmt.Errorf("verifying bundle %q: %w", ref, errors.Join(reasons...)),
		"only a bundle that a protected pipeline signed is deployed here; nothing was unpacked")
}

// Open fetches and unpacks the chart and the files of a bundle.
func (r Registry) Open(ctx context.Context, ref bundle.Reference) (chart []byte, files Files, err error) {
	digest, err := name.NewDigest(ref.String())
	if err != nil {
		return nil, nil, fmt.Errorf("reading bundle %q: %w", ref, err)
	}
	desc, err := remote.Get(digest, r.options(ctx, digest.Context())...)
	if err != nil {
		return nil, nil, fmt.Errorf("fetching bundle %q: %w", ref, denied(err))
	}
	var m manifest
	if err := json.Unmarshal(desc.Manifest, &m); err != nil {
		return nil, nil, fmt.Errorf("reading the manifest of bundle %q: %w", ref, err)
	}
	for _, l := range m.Layers {
		switch l.MediaType {
		case chartType:
			chart, err = r.blob(ctx, digest, l)
		case filesType:
			var raw []byte
			if raw, err = r.blob(ctx, digest, l); err == nil {
				files, err = unpack(raw)
			}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("opening bundle %q: %w", ref, err)
		}
	}
	if chart == nil || files == nil {
		return nil, nil, fmt.Errorf("opening bundle %q: it lacks its chart or its files", ref)
	}
	return chart, files, nil
}

func (r Registry) blob(ctx context.Context, in name.Digest, d v1.Descriptor) (raw []byte, err error) {
	l, err := remote.Layer(in.Context().Digest(d.Digest.String()), r.options(ctx, in.Context())...)
	if err != nil {
		return nil, denied(err)
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, denied(err)
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	return bundle.ReadBlob(rc, d, maxPacked)
}

// pack archives files: sorted, without times or owners.
func pack(files map[string][]byte) ([]byte, error) {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for _, n := range names {
		h := &tar.Header{Name: path.Clean(n), Mode: 0o644, Size: int64(len(files[n])), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("packing %q: %w", n, err)
		}
		if _, err := tw.Write(files[n]); err != nil {
			return nil, fmt.Errorf("packing %q: %w", n, err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		return nil, fmt.Errorf("packing the files: %w", err)
	}
	return out.Bytes(), nil
}

// unpack reads an archive into memory. Only plain files below the top are
// taken; a link or a path that leads out is refused.
func unpack(raw []byte) (Files, error) {
	gz, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("unpacking the files: %w", err)
	}
	tr := tar.NewReader(gz)
	out := Files{}
	left := int64(maxUnpacked)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking the files: %w", err)
		}
		clean := path.Clean(h.Name)
		switch {
		case h.Typeflag != tar.TypeReg:
			return nil, fmt.Errorf("unpacking %q: it is not a plain file", h.Name)
		case path.IsAbs(h.Name) || clean == "." || clean == ".." || strings.HasPrefix(clean, "../") || strings.Contains(h.Name, "\\"):
			return nil, fmt.Errorf("unpacking %q: its path leads out of the bundle", h.Name)
		case h.Size > left || len(out) >= maxFiles:
			return nil, fmt.Errorf("unpacking %q: the archive is too large", h.Name)
		case out[clean] != nil:
			return nil, fmt.Errorf("unpacking %q: it stands there twice", h.Name)
		}
		left -= h.Size
		data, err := io.ReadAll(io.LimitReader(tr, h.Size))
		if err != nil {
			return nil, fmt.Errorf("unpacking %q: %w", h.Name, err)
		}
		out[clean] = append([]byte{}, data...)
	}
}
