package chartsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// The types of a chart's archive in a registry: Helm's, and that of its first
// experiments, which some registries still have.
const (
	chartType  types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	legacyType types.MediaType = "application/tar+gzip"
)

// registry fetches a chart from an OCI registry: by digest where there is one,
// else by the tag of the version, whose digest is told.
func (l *Loader) registry(ctx context.Context, place, version, digest string) (*archive, error) {
	// A tag has no plus sign; Helm writes an underscore instead.
	tag := strings.ReplaceAll(version, "+", "_")
	text := place + ":" + tag
	if digest != "" {
		text = place + "@" + digest
	}
	ref, err := name.ParseReference(text)
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading chart %q: %w", text, err))
	}
	options, err := l.options(ctx, ref.Context().RegistryStr())
	if err != nil {
		return nil, err
	}
	desc, err := remote.Get(ref, options...)
	if err != nil {
		return nil, fmt.Errorf("fetching chart %q: %w", text, registryError(ctx, err))
	}
	var m struct {
		Layers []v1.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(desc.Manifest, &m); err != nil {
		return nil, fmt.Errorf("reading the manifest of chart %q: %w", text, err)
	}
	for _, d := range m.Layers {
		if d.MediaType != chartType && d.MediaType != legacyType {
			continue
		}
		raw, err := blob(ref.Context().Digest(d.Digest.String()), d, options)
		if err != nil {
			return nil, fmt.Errorf("fetching chart %q: %w", text, registryError(ctx, err))
		}
		return &archive{raw, strings.TrimSpace("oci://" + place + "@" + desc.Digest.String() + " " + version)}, nil
	}
	return nil, tool.Exitf(tool.Usage, "fetching chart %q: it holds no chart", text)
}

func blob(ref name.Digest, d v1.Descriptor, options []remote.Option) (raw []byte, err error) {
	layer, err := remote.Layer(ref, options...)
	if err != nil {
		return nil, err
	}
	rc, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	raw, err = bundle.ReadBlob(rc, d, maxArchive)
	return raw, tool.Exit(tool.Failed, err)
}

func (l *Loader) options(ctx context.Context, host string) ([]remote.Option, error) {
	login, err := l.login(host)
	if err != nil {
		return nil, err
	}
	o := append(bundle.Options(ctx), remote.WithUserAgent("slipway-deploy"))
	if login != (Login{}) {
		return append(o, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: login.User, Password: login.Password}))), nil
	}
	return append(o, remote.WithAuthFromKeychain(authn.DefaultKeychain)), nil
}

func registryError(ctx context.Context, err error) error {
	var te *transport.Error
	if errors.As(err, &te) {
		return answered(te.StatusCode, err)
	}
	return temporary(ctx, err)
}
