package kube

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

func TestTokenIsRenewedBeforeItEnds(t *testing.T) {
	now := time.Unix(1000, 0)
	asked := 0
	s := &tokenSource{now: func() time.Time { return now }, ask: func(context.Context) (string, time.Time, error) {
		asked++
		return strings.Repeat("t", asked), now.Add(10 * time.Minute), nil
	}}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{0, "t"}, {8 * time.Minute, "t"}, {time.Minute, "tt"}, {time.Minute, "tt"}} {
		now = now.Add(step.after)
		got, err := s.get(t.Context())
		if err != nil || got != step.want {
			t.Errorf("after %s: token %q, error %v, want %q", step.after, got, err, step.want)
		}
	}
}

func TestGetterEndsRequestsWithItsContext(t *testing.T) {
	entered := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the run was cancelled")
	go func() { <-entered; cancel(why) }()
	rt := &bound{next: http.DefaultTransport, ctx: ctx}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // while under way, and before it starts
		resp, err := rt.RoundTrip(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			t.Fatal("the request went through after the run was cancelled")
		}
	}
	if ctx.Err() == nil {
		t.Fatal("the request did not reach the server")
	}
}

func TestNewNeedsAnAddress(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a cluster without an address was accepted")
	}
}

func TestWarningsAreToldOnce(t *testing.T) {
	var told []string
	w := &warnings{tell: func(text string) { told = append(told, text) }}
	w.HandleWarningHeader(299, "-", "old kind")
	w.HandleWarningHeader(299, "-", "old kind")
	w.HandleWarningHeader(199, "-", "of a proxy")
	(&warnings{}).HandleWarningHeader(299, "-", "nobody listens")
	if len(told) != 1 || told[0] != "old kind" {
		t.Errorf("told %q", told)
	}
}

func open(t *testing.T) (*Cluster, string) {
	t.Helper()
	sb := sandboxtest.Open(t)
	c, err := New(Config{Kubeconfig: sb.Clusters["nonprod"].Kubeconfig, UserAgent: "slipway-test"})
	if err != nil {
		t.Fatal(err)
	}
	return c, sb.Namespace(t, "nonprod")
}

func TestUntilSeesAnObjectComeAndChange(t *testing.T) {
	c, ns := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	gvr, namespaced, err := c.Resource(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"})
	if err != nil || !namespaced {
		t.Fatalf("resource %v, namespaced %v, error %v", gvr, namespaced, err)
	}
	maps := c.Clientset().CoreV1().ConfigMaps(ns)
	absent := false
	got, err := c.Until(ctx, gvr, ns, "sign", func(obj *unstructured.Unstructured) (bool, error) {
		if obj == nil && !absent {
			absent = true
			_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "sign"}}, metav1.CreateOptions{})
			return false, err
		}
		if obj != nil && obj.GetLabels()["lit"] == "" {
			_, err := maps.Update(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "sign", Labels: map[string]string{"lit": "yes"}}}, metav1.UpdateOptions{})
			return false, err
		}
		return obj != nil, nil
	})
	if err != nil || !absent || got.GetLabels()["lit"] != "yes" {
		t.Fatalf("object %v, absent first %v, error %v", got, absent, err)
	}
}

func TestUntilEndsWhereTheServerRefuses(t *testing.T) {
	c, ns := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := c.UntilList(ctx, schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "nothings"}, ns, metav1.ListOptions{},
		func([]*unstructured.Unstructured) (bool, error) { return false, nil })
	if !apierrors.IsNotFound(err) {
		t.Fatalf("error %v, want the server's not found", err)
	}
}

// TestAgentContexts: the file that GitLab gives a job has a context for each
// agent, named <project>:<agent>, and none is chosen.
func TestAgentContexts(t *testing.T) {
	asked := ""
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path + " " + r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"major":"1","minor":"33","gitVersion":"v1.33.0"}`)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "KUBECONFIG")
	kc := api.NewConfig()
	kc.Clusters["gitlab"] = &api.Cluster{Server: server.URL + "/k8s-proxy",
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}
	for agent, id := range map[string]string{"nsflow/platform:nonprod": "3", "nsflow/platform:prod": "4"} {
		kc.AuthInfos["agent:"+id] = &api.AuthInfo{Token: "ci:" + id + ":job-token"}
		kc.Contexts[agent] = &api.Context{Cluster: "gitlab", AuthInfo: "agent:" + id}
	}
	if err := clientcmd.WriteToFile(*kc, file); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Kubeconfig: file, Context: "nsflow/platform:prod"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Clientset().Discovery().ServerVersion(); err != nil || asked != "/k8s-proxy/version Bearer ci:4:job-token" {
		t.Errorf("asked %q, error %v", asked, err)
	}
	for context, want := range map[string]string{
		"":                   "no context is chosen; it has nsflow/platform:nonprod, nsflow/platform:prod",
		"nsflow/platform:qa": `it has no context "nsflow/platform:qa", only nsflow/platform:nonprod, nsflow/platform:prod`,
	} {
		if _, err := New(Config{Kubeconfig: file, Context: context}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("context %q: got %v, want %q", context, err, want)
		}
	}
}
