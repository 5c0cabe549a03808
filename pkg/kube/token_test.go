package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// issuer makes tokens that are good for life, and says that they are for an hour.
type issuer struct {
	life time.Duration

	mu   sync.Mutex
	n    int
	ends map[string]time.Time
}

func (i *issuer) ask(context.Context) (string, time.Time, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n++
	token := fmt.Sprintf("token-%d", i.n)
	if i.ends == nil {
		i.ends = map[string]time.Time{}
	}
	i.ends[token] = time.Now().Add(i.life)
	return token, time.Now().Add(time.Hour), nil
}

// left is how long the token of a request is still good for.
func (i *issuer) left(r *http.Request) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Until(i.ends[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")])
}

func (i *issuer) made() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.n
}

// TestRefusedTokenIsReplacedOnce: also for a request with a body, which is sent
// whole the second time.
func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		accept string
		code   int
		calls  int
	}{
		"the second is good": {"token-2", http.StatusOK, 2},
		"none is good":       {"none", http.StatusUnauthorized, 2},
		"the first is good":  {"token-1", http.StatusOK, 1},
	} {
		calls := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls++
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != "the body" {
				t.Errorf("%s: call %d has the body %q (%v)", name, calls, body, err)
			}
			if r.Header.Get("Authorization") != "Bearer "+c.accept {
				w.WriteHeader(http.StatusUnauthorized)
			}
		}))
		source := &tokenSource{ask: (&issuer{life: time.Hour}).ask, now: time.Now}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, server.URL, strings.NewReader("the body"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := source.wrap(http.DefaultTransport).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		server.Close()
		if resp.StatusCode != c.code || calls != c.calls {
			t.Errorf("%s: %d after %d calls, want %d after %d", name, resp.StatusCode, calls, c.code, c.calls)
		}
	}
}

// guard stands before the API server: it refuses tokens that have ended, and
// ends the watches of those that do.
func guard(t *testing.T, admin *rest.Config, tokens *issuer) *httptest.Server {
	t.Helper()
	transport, err := rest.TransportFor(admin)
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := url.Parse(admin.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		r.Out.Header.Del("Authorization")
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		left := tokens.left(r)
		if left <= 0 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), left)
		defer cancel()
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}))
	t.Cleanup(server.Close)
	return server
}

// TestWaitOutlivesTokens waits by watch while token after token ends: the watch
// is made again each time, and nothing that happened between two is missed.
func TestWaitOutlivesTokens(t *testing.T) {
	sb := sandboxtest.Open(t)
	namespace, admin := sb.Namespace(t, "nonprod"), sb.Rest(t, "nonprod")
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	maps := client.CoreV1().ConfigMaps(namespace)
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tokens := &issuer{life: 300 * time.Millisecond}
	cluster, err := New(Config{Endpoint: guard(t, admin, tokens).URL, Token: tokens.ask})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The object is changed at every new token, and for the last time at the third.
	const enough = 3
	seen := 0
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	var changes sync.WaitGroup
	changes.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for last := 0; last < enough; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if n := tokens.made(); n > last {
				last = n
				cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Data: map[string]string{"tokens": fmt.Sprint(n)}}
				if _, err := maps.Update(ctx, cm, metav1.UpdateOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	_, err = cluster.Until(ctx, gvr, namespace, "one", func(obj *unstructured.Unstructured) (bool, error) {
		seen++
		text, found, err := unstructured.NestedString(obj.Object, "data", "tokens")
		if err != nil || !found {
			return false, err
		}
		n, err := strconv.Atoi(text)
		return n >= enough, err
	})
	// The watch may bring the last change before its own reply has come.
	changes.Wait()
	if err != nil {
		t.Fatalf("after %d tokens and %d looks: %v", tokens.made(), seen, err)
	}
	if tokens.made() < enough {
		t.Errorf("the wait saw %d tokens, want %d", tokens.made(), enough)
	}
}
