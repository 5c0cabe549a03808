package helmrelease

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registration "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// webhook puts a webhook before the config maps of the world's namespace. It
// denies those that are called bad.
func (w *world) webhook() *httptest.Server {
	w.t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(out, "no review", http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: review.Request.Name != "bad",
			Result: &metav1.Status{Message: "it is called bad"}}
		_ = json.NewEncoder(out).Encode(review)
	}))
	w.t.Cleanup(server.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	effects, fail, all := registration.SideEffectClassNone, registration.Fail, registration.NamespacedScope
	hooks := w.cluster.Clientset().AdmissionregistrationV1().ValidatingWebhookConfigurations()
	_, err := hooks.Create(w.t.Context(), &registration.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Webhooks: []registration.ValidatingWebhook{{Name: "names.example.com", SideEffects: &effects, FailurePolicy: &fail, AdmissionReviewVersions: []string{"v1"},
			ClientConfig:      registration.WebhookClientConfig{URL: &server.URL, CABundle: authority},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": w.namespace}},
			Rules: []registration.RuleWithOperations{{Operations: []registration.OperationType{registration.OperationAll},
				Rule: registration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}, Scope: &all}}}}}}, metav1.CreateOptions{})
	w.must(err)
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := hooks.Delete(ctx, w.namespace, metav1.DeleteOptions{}); err != nil {
			w.t.Errorf("deleting the webhook: %v", err)
		}
	})
	return server
}

// asked waits until the server asks the webhook, which answers with a text.
func (w *world) asked(text string) {
	w.t.Helper()
	w.until("the server asks the webhook", func() bool {
		p := w.plan(w.spec("probe", "templates/a.yaml", config("bad", "a: b")))
		return len(p.Problems) > 0 && strings.Contains(p.Problems[0].Message, text)
	})
}

func TestWebhookDenies(t *testing.T) {
	w := newWorld(t)
	w.webhook()
	w.asked("it is called bad")
	w.proxied().refused(w.spec("orders", "templates/a.yaml", config("good", "a: b"), "templates/b.yaml", config("bad", "a: b")), tool.Failed,
		`orders/templates/b.yaml: ConfigMap `+w.namespace+`/bad: admission webhook "names.example.com" denied the request: it is called bad`)
}

// TestWebhookThatIsAway is no reason to refuse: it may come back, or come with
// the release. What it would say is not known, and that is told.
func TestWebhookThatIsAway(t *testing.T) {
	w := newWorld(t)
	w.webhook().Close()
	w.asked("failed calling webhook")
	p := w.plan(w.spec("orders", "templates/a.yaml", config("good", "a: b")))
	if p.Err() != nil || len(p.Problems) != 1 || !p.Problems[0].Warning || p.Problems[0].Class != ClassUnchecked {
		t.Fatalf("error %v, problems %v", p.Err(), p.Problems)
	}
}
