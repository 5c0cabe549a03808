package bundle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/bundle/bundletest"
	"gitlab.com/slipway/slipway/pkg/tool"
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

// TestRegistryThatFails: what may pass is worth another run of the job, and
// what it lacks rights for is not.
func TestRegistryThatFails(t *testing.T) {
	const away = 0
	for status, code := range map[int]int{401: tool.Denied, 403: tool.Denied, 404: tool.Failed, 429: tool.Temporary, 500: tool.Temporary, 503: tool.Temporary, away: tool.Temporary} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel() // the client tries some of them again, and waits before
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v2/" {
					w.WriteHeader(status)
				}
			}))
			defer s.Close()
			if status == away {
				s.Close()
			}
			_, err := bundle.Fetch(t.Context(), bundle.Reference{Repository: strings.TrimPrefix(s.URL, "http://") + "/orders", Digest: "sha256:" + strings.Repeat("0", 64)}, bundle.Access{})
			if tool.CodeOf(err) != code {
				t.Errorf("%v (code %d), want %d", err, tool.CodeOf(err), code)
			}
		})
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
