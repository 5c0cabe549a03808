package node_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	webhookv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

// certificate makes a certificate that signs itself, as PEM.
func certificate(t *testing.T, names []string, addresses ...net.IP) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		DNSNames: names, IPAddresses: addresses,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

// register makes a webhook for ConfigMaps of the test's namespace, and takes
// it away at the end.
func register(t *testing.T, n *nodetest.Node, client webhookv1.WebhookClientConfig) {
	t.Helper()
	hooks := n.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	made, err := hooks.Create(t.Context(), &webhookv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: n.Namespace},
		Webhooks: []webhookv1.ValidatingWebhook{{
			Name: "probe.slipway.dev", ClientConfig: client, SideEffects: new(webhookv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			FailurePolicy: new(webhookv1.Fail), TimeoutSeconds: new(int32(5)),
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: n.Namespace}},
			Rules: []webhookv1.RuleWithOperations{{
				Operations: []webhookv1.OperationType{webhookv1.Create},
				Rule:       webhookv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := hooks.Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("deleting the webhook: %v", err)
		}
	})
}

// refuses checks that the webhook refuses what it is to refuse, with its own
// words, and lets the rest pass.
func refuses(t *testing.T, n *nodetest.Node) {
	t.Helper()
	maps := n.Client.CoreV1().ConfigMaps(n.Namespace)
	nodetest.Retry(t, "the webhook refuses", func(ctx context.Context) error {
		_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			GenerateName: "refused-", Annotations: map[string]string{"probe/refuse": "not on a Friday"},
		}}, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "denied the request: not on a Friday") {
			return fmt.Errorf("the answer is %w", err)
		}
		return nil
	})
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "passes"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("an object that is not to be refused: %v", err)
	}
}

// A webhook that a pod of the real node serves, through its Service.
func TestWebhookOfAPod(t *testing.T) {
	n := nodetest.Open(t, "nonprod")
	cert, key := certificate(t, []string{"hook." + n.Namespace + ".svc"})
	if _, err := n.Client.CoreV1().Secrets(n.Namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "hook"}, Data: map[string][]byte{"tls.crt": cert, "tls.key": key},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := n.Probe("hook", "webhook", ":8443", "/tls/tls.crt", "/tls/tls.key")
	pod.Spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "hook"}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "tls", MountPath: "/tls"}}
	pod.Spec.Containers[0].ReadinessProbe = nodetest.TCPProbe(8443)
	n.Start(t, pod)
	service(t, n, "hook", map[string]string{"app": "hook"}, 443, 8443)
	register(t, n, webhookv1.WebhookClientConfig{CABundle: cert, Service: &webhookv1.ServiceReference{Name: "hook", Namespace: n.Namespace}})
	refuses(t, n)
	if log := n.Logs(t, n.Namespace, "hook"); !strings.Contains(log, "refused true") {
		t.Errorf("the pod was not asked: %s", log)
	}
}

// A webhook that is a process of the test, through a Service without a
// selector whose endpoint is the host's end of the node's link.
func TestWebhookOfTheTestByService(t *testing.T) {
	n := nodetest.Open(t, "nonprod")
	cert, key := certificate(t, []string{"hook." + n.Namespace + ".svc"})
	port := serveHook(t, n.Host, cert, key)
	service(t, n, "hook", nil, 443, port)
	if _, err := n.Client.DiscoveryV1().EndpointSlices(n.Namespace).Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "hook", Labels: map[string]string{discoveryv1.LabelServiceName: "hook"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{n.Host}}},
		Ports: []discoveryv1.EndpointPort{{Port: &port, Name: new("")}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	register(t, n, webhookv1.WebhookClientConfig{CABundle: cert, Service: &webhookv1.ServiceReference{Name: "hook", Namespace: n.Namespace}})
	refuses(t, n)
}

// A webhook that is a process of the test, by its URL on loopback.
func TestWebhookOfTheTestByURL(t *testing.T) {
	n := nodetest.Open(t, "nonprod")
	cert, key := certificate(t, nil, net.IPv4(127, 0, 0, 1))
	port := serveHook(t, "127.0.0.1", cert, key)
	register(t, n, webhookv1.WebhookClientConfig{CABundle: cert, URL: new(fmt.Sprintf("https://127.0.0.1:%d/", port))})
	refuses(t, n)
}

// serveHook serves a webhook on a free port of an address of the host.
func serveHook(t *testing.T, address string, cert, key []byte) int32 {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", net.JoinHostPort(address, "0"), &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var object metav1.PartialObjectMetadata
		if err := json.Unmarshal(review.Request.Object.Raw, &object); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		why, refuse := object.Annotations["probe/refuse"]
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: !refuse, Result: &metav1.Status{Message: why}}
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Errorf("answering the API server: %v", err)
		}
	})}
	go server.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { server.Close() })
	return int32(l.Addr().(*net.TCPAddr).Port)
}
