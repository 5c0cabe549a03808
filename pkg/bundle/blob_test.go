package bundle_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/bundle/bundletest"
)

func TestReadBlob(t *testing.T) {
	body := []byte("twelve bytes")
	digest := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(body))}
	for name, c := range map[string]struct {
		sent  string
		size  int64
		limit int64
		ok    bool
	}{
		"as announced":             {"twelve bytes", 12, 64, true},
		"of exactly the limit":     {"twelve bytes", 12, 12, true},
		"over the limit":           {"twelve bytes", 12, 11, false},
		"other bytes":              {"twelve bytez", 12, 64, false},
		"padded":                   {"twelve bytes" + strings.Repeat(" ", 100), 12, 64, false},
		"cut":                      {"twelve", 12, 64, false},
		"announced with less":      {"twelve bytes", 6, 64, false},
		"announced with more":      {"twelve bytes", 13, 64, false},
		"other bytes beyond limit": {"{}" + strings.Repeat(" ", 200), 12, 64, false},
	} {
		raw, err := bundle.ReadBlob(strings.NewReader(c.sent), v1.Descriptor{Digest: digest, Size: c.size}, c.limit)
		if (err == nil) != c.ok || c.ok && !bytes.Equal(raw, body) {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
}

// TestLyingRegistry: a registry keeps the manifest, which the signature is of,
// and serves another configuration, padded beyond what is read of one.
func TestLyingRegistry(t *testing.T) {
	lie := []byte(`{"service":"orders","images":{"app":"evil.example.com/app@sha256:` + strings.Repeat("0", 64) + `"}}` + strings.Repeat(" ", 2<<20))
	real := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	lying := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lying && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			_, _ = w.Write(lie)
			return
		}
		real.ServeHTTP(w, r)
	}))
	defer srv.Close()
	ref, err := bundle.Parse(bundletest.Push(t, strings.TrimPrefix(srv.URL, "http://")+"/nsflow/orders/bundle", config(), bundle.ArtifactType))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(t.Context(), ref, bundle.Access{}); err != nil {
		t.Fatal(err)
	}
	lying = true
	if b, err := bundle.Fetch(t.Context(), ref, bundle.Access{}); err == nil {
		t.Errorf("took the images %v from a configuration that is not the signed one", b.Config.Images)
	}
}

// TestOneBadSignatureHidesNoGoodOne: an envelope that is too large to be read
// stands beside a good one.
func TestOneBadSignatureHidesNoGoodOne(t *testing.T) {
	ref := bundletest.Push(t, server(t)+"/nsflow/orders/bundle", config(), bundle.ArtifactType)
	bundletest.Sign(t, ref, bytes.Repeat([]byte("x"), 2<<20))
	parsed, err := bundle.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Fetch(t.Context(), parsed, bundle.Access{})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := b.Envelopes(); err == nil {
		t.Errorf("the bad one alone gave %d envelopes and no error", len(list))
	}
	bundletest.Sign(t, ref, []byte(`{"envelope":1}`))
	if list, err := b.Envelopes(); err != nil || len(list) != 1 {
		t.Errorf("beside the good one: %d envelopes, %v", len(list), err)
	}
}
