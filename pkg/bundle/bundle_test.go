package bundle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/bundle/bundletest"
)

func server(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func config() bundle.Config {
	return bundle.Config{Service: "orders", Commit: "c0ffee", Project: bundle.Project{Path: "nsflow/orders", ID: 77}}
}

func TestFetch(t *testing.T) {
	repo := server(t) + "/nsflow/orders/bundle"
	ref := bundletest.Push(t, repo, config(), bundle.ArtifactType)
	bundletest.Sign(t, ref, []byte(`{"envelope":1}`))
	bundletest.Sign(t, ref, []byte(`{"envelope":2}`))
	parsed, err := bundle.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Fetch(t.Context(), parsed, bundle.Access{})
	if err != nil {
		t.Fatal(err)
	}
	if b.Config.Service != "orders" || b.Config.Project.ID != 77 {
		t.Errorf("the configuration is %+v", b.Config)
	}
	list, err := b.Envelopes()
	if err != nil || len(list) != 2 || !bytes.Contains(bytes.Join(list, nil), []byte(`"envelope":2`)) {
		t.Errorf("Envelopes = %q, %v", list, err)
	}
	payload, err := json.Marshal(b.Statement())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Check(payload); err != nil {
		t.Errorf("Check of its own statement = %v", err)
	}
	for _, spoiled := range []string{strings.Replace(string(payload), "c0ffee", "decaf", 1), strings.Replace(string(payload), "orders", "catalog", 1), "{}", "x"} {
		if b.Check([]byte(spoiled)) == nil {
			t.Errorf("Check(%s) passes", spoiled)
		}
	}
}

func TestFetchRefusesOtherArtifacts(t *testing.T) {
	ref := bundletest.Push(t, server(t)+"/nsflow/orders/bundle", config(), "application/vnd.other")
	parsed, err := bundle.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Fetch(context.Background(), parsed, bundle.Access{}); err == nil || !strings.Contains(err.Error(), "application/vnd.other") {
		t.Errorf("got %v", err)
	}
	missing := bundle.Reference{Repository: parsed.Repository, Digest: "sha256:" + strings.Repeat("0", 64)}
	if _, err := bundle.Fetch(context.Background(), missing, bundle.Access{}); err == nil {
		t.Error("a bundle that is not there was fetched")
	}
}

func TestParse(t *testing.T) {
	hash := "sha256:" + strings.Repeat("a", 64)
	for s, ok := range map[string]bool{
		"127.0.0.1:5000/nsflow/orders/bundle@" + hash:               true,
		"registry.example.com/nsflow/orders/bundle@" + hash:         true,
		"registry.example.com/nsflow/orders/bundle:main":            false,
		"registry.example.com/nsflow/orders/bundle:main@" + hash:    false,
		"registry.example.com/nsflow/orders/bundle@" + hash[:70]:    false,
		"registry.example.com@" + hash:                              false,
		"https://registry.example.com/nsflow/orders/bundle@" + hash: false,
		"": false,
	} {
		got, err := bundle.Parse(s)
		if (err == nil) != ok || ok && got.String() != s {
			t.Errorf("Parse(%q) = %v, %v; want ok=%v", s, got, err, ok)
		}
	}
	if fmt.Sprint(bundle.Reference{Repository: "r", Digest: "d"}) != "r@d" {
		t.Error("String is not what Parse reads")
	}
}
