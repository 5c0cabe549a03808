package artifact

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/seal"
	"gitlab.com/slipway/slipway/pkg/tool"
)

type signer struct{ key *ecdsa.PrivateKey }

func (s signer) KeyID() string { return "test" }
func (s signer) Sign(_ context.Context, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, s.key, digest[:])
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key}
}

// TestBundleRoundTrip runs with and without the registry's referrers API: the
// second is what older registries are.
func TestBundleRoundTrip(t *testing.T) {
	for name, referrers := range map[string]bool{"referrers": true, "fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(registry.New(registry.WithReferrersSupport(referrers), registry.Logger(log.New(io.Discard, "", 0))))
			defer server.Close()
			repo := strings.TrimPrefix(server.URL, "http://") + "/nsflow/orders/bundle"
			var r Registry
			content := Content{Chart: []byte("chart"), Files: map[string][]byte{"slipway.yaml": []byte("a"), "values/dev.yaml": []byte("b")},
				Config: bundle.Config{Service: "orders", Commit: "c0ffee", Images: map[string]string{"app": "x"}}}
			ref, err := r.Push(t.Context(), repo, content)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := r.Push(t.Context(), repo, content); err != nil || again != ref {
				t.Fatalf("the same content became %v and %v (%v)", ref, again, err)
			}
			key, other := newSigner(t), newSigner(t)
			if _, err := r.Verify(t.Context(), ref, &key.key.PublicKey); tool.CodeOf(err) != tool.Refused {
				t.Fatalf("unsigned: %v", err)
			}
			b, err := bundle.Fetch(t.Context(), ref, r.Access)
			if err != nil {
				t.Fatal(err)
			}
			statement, err := json.Marshal(b.Statement())
			if err != nil {
				t.Fatal(err)
			}
			sign := func(s signer, payload []byte) {
				t.Helper()
				envelope, err := seal.Sign(t.Context(), s, seal.BundleType, payload)
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Attach(t.Context(), ref, envelope); err != nil {
					t.Fatal(err)
				}
			}
			sign(other, statement)
			sign(key, bytes.Replace(statement, []byte("orders"), []byte("others"), 1))
			if _, err := r.Verify(t.Context(), ref, &key.key.PublicKey); tool.CodeOf(err) != tool.Refused {
				t.Fatalf("signed by a stranger, and by the key for something else: %v", err)
			}
			sign(key, statement)
			if _, err := r.Verify(t.Context(), ref, &key.key.PublicKey); err != nil {
				t.Fatal(err)
			}
			chart, files, err := r.Open(t.Context(), ref)
			if err != nil || string(chart) != "chart" || string(files["values/dev.yaml"]) != "b" || len(files) != 2 {
				t.Fatalf("chart %q, files %q, error %v", chart, files, err)
			}
		})
	}
}

func TestUnpackRefuses(t *testing.T) {
	archive := func(headers ...tar.Header) []byte {
		var out bytes.Buffer
		gz := gzip.NewWriter(&out)
		tw := tar.NewWriter(gz)
		for _, h := range headers {
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Flush(); err != nil && headers[0].Size == 0 {
			t.Fatal(err)
		}
		gz.Close()
		return out.Bytes()
	}
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	for name, raw := range map[string][]byte{
		"absolute": archive(file("/etc/passwd")),
		"above":    archive(file("a/../../b")),
		"link":     archive(tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"hardlink": archive(tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "b"}),
		"folder":   archive(tar.Header{Name: "a/", Typeflag: tar.TypeDir}),
		"twice":    archive(file("a"), file("./a")),
		"large":    archive(tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: maxUnpacked + 1}),
		"no gzip":  []byte("x"),
	} {
		if got, err := unpack(raw); err == nil {
			t.Errorf("%s: unpacked %v", name, got)
		}
	}
	if got, err := unpack(archive(file("values/a.yaml"))); err != nil || len(got) != 1 {
		t.Errorf("a plain file: %v, %v", got, err)
	}
}
