package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

// clusters that have a real node.
var clusters = []string{"nonprod", "prod"}

// A pod of an image that was pulled by digest runs, logs, and runs commands;
// what does not ask for a real node stays on the fake ones.
func TestPodRuns(t *testing.T) {
	for _, cluster := range clusters {
		t.Run(cluster, func(t *testing.T) {
			n := nodetest.Open(t, cluster)
			pod := n.Start(t, n.Serving("server"))
			if pod.Spec.NodeName != n.Name || !strings.Contains(pod.Status.ContainerStatuses[0].ImageID, "@sha256:") {
				t.Errorf("it runs on %q with the image %q", pod.Spec.NodeName, pod.Status.ContainerStatuses[0].ImageID)
			}
			if log := n.Logs(t, n.Namespace, "server"); !strings.Contains(log, "listening on") {
				t.Errorf("its log is %q", log)
			}
			out, err := n.Exec(t.Context(), n.Namespace, "server", "/probe", "get", "http://127.0.0.1:8080/")
			if err != nil || strings.TrimSpace(out) != "server" {
				t.Errorf("a command in it prints %q, %v", out, err)
			}
			ordinary := n.Serving("ordinary")
			ordinary.Spec.NodeSelector, ordinary.Spec.Tolerations = nil, nil
			if got := n.Start(t, ordinary); !strings.HasPrefix(got.Spec.NodeName, "fake-") {
				t.Errorf("a pod that asks for no real node runs on %q", got.Spec.NodeName)
			}
		})
	}
}

// An image that is not in the registry is an error of the pull, as anywhere.
func TestImageThatIsMissing(t *testing.T) {
	n := nodetest.Open(t, "nonprod")
	image := n.Sandbox.Registry.Address + "/sandbox/probe@sha256:" + strings.Repeat("0", 64)
	n.Create(t, n.Pod("missing", image))
	seen := map[string]bool{}
	pod := n.Until(t, n.Namespace, "missing", "its pull is given up for a while", func(p *corev1.Pod) bool {
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Waiting != nil {
				seen[s.State.Waiting.Reason] = true
			}
		}
		return seen["ErrImagePull"] && seen["ImagePullBackOff"]
	})
	if got := pod.Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(got, "sha256:000") {
		t.Errorf("the message is %q", got)
	}
}

// Pods reach Services by name, and the API server with their service account.
func TestNamesAndTheAPIServer(t *testing.T) {
	for _, cluster := range clusters {
		t.Run(cluster, func(t *testing.T) {
			n := nodetest.Open(t, cluster)
			n.Start(t, n.Serving("client"))
			nodetest.Retry(t, "resolving a Service", func(ctx context.Context) error {
				out, err := n.Exec(ctx, n.Namespace, "client", "/probe", "resolve", "kube-dns.kube-system")
				if err == nil && strings.TrimSpace(out) != n.DNS {
					err = fmt.Errorf("it is %q, want %s", out, n.DNS)
				}
				return err
			})
			if out, err := n.Exec(t.Context(), n.Namespace, "client", "/probe", "resolve", "no-such-service."+n.Namespace+".svc.cluster.local"); err == nil {
				t.Errorf("a Service that does not exist is %q", out)
			}
			nodetest.Retry(t, "asking the API server", func(ctx context.Context) error {
				_, err := n.Exec(ctx, n.Namespace, "client", "/probe", "api", "/version")
				return err
			})
			_, err := n.Exec(t.Context(), n.Namespace, "client", "/probe", "api", "/api/v1/namespaces/kube-system/secrets")
			if err == nil || !strings.Contains(err.Error(), "403") {
				t.Errorf("the account reads Secrets that it has no right to: %v", err)
			}
			// The host's parts, over the host's end of the link.
			_, port, _ := strings.Cut(n.Sandbox.Registry.Address, ":")
			if _, err := n.Exec(t.Context(), n.Namespace, "client", "/probe", "get", "http://"+n.Host+":"+port+"/v2/"); err != nil {
				t.Errorf("a pod does not reach the registry: %v", err)
			}
		})
	}
}

// A pod gets at the AWS front, and not at what administers it.
func TestPodsDoNotAdminister(t *testing.T) {
	n := nodetest.Open(t, "nonprod")
	n.Start(t, n.Serving("client"))
	_, port, _ := strings.Cut(strings.TrimPrefix(n.Sandbox.AWS.Endpoint, "http://"), ":")
	front := "http://" + n.Host + ":" + port + "/_slipway/"
	if _, err := n.Exec(t.Context(), n.Namespace, "client", "/probe", "get", front+"health"); err != nil {
		t.Errorf("a pod does not reach the AWS front: %v", err)
	}
	for _, path := range []string{"settings", "faults", "calls"} {
		if out, err := n.Exec(t.Context(), n.Namespace, "client", "/probe", "get", front+path); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("a pod that asks for %s gets %q, %v", path, out, err)
		}
	}
}

// service makes a Service for pods labelled app=name.
func service(t *testing.T, n *nodetest.Node, name string, selector map[string]string, port, target int32) *corev1.Service {
	t.Helper()
	s, err := n.Client.CoreV1().Services(n.Namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: port, TargetPort: intstr.FromInt32(target)}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A Service of two pods answers with both, from a pod by name, from the host,
// and from one of the pods behind it.
func TestServiceOfTwoPods(t *testing.T) {
	n := nodetest.Open(t, "nonprod")
	labels := map[string]string{"app": "web"}
	for _, name := range []string{"web-a", "web-b"} {
		pod := n.Serving(name)
		pod.Labels = labels
		n.Create(t, pod)
	}
	s := service(t, n, "web", labels, 80, 8080)
	n.Start(t, n.Serving("client"))
	n.Ready(t, n.Namespace, "web-a")
	n.Ready(t, n.Namespace, "web-b")
	both := func(get func(context.Context) (string, error)) func(context.Context) error {
		seen := map[string]bool{}
		return func(ctx context.Context) error {
			name, err := get(ctx)
			seen[strings.TrimSpace(name)] = err == nil
			if seen["web-a"] && seen["web-b"] {
				return nil
			}
			return errors.Join(fmt.Errorf("only %v have answered", seen), err)
		}
	}
	nodetest.Retry(t, "from a pod", both(func(ctx context.Context) (string, error) {
		return n.Exec(ctx, n.Namespace, "client", "/probe", "get", "http://web/")
	}))
	nodetest.Retry(t, "from a pod behind the Service", both(func(ctx context.Context) (string, error) {
		return n.Exec(ctx, n.Namespace, "web-a", "/probe", "get", "http://web."+n.Namespace+".svc.cluster.local/")
	}))
	nodetest.Retry(t, "from the host", both(func(ctx context.Context) (string, error) {
		return get(ctx, "http://"+s.Spec.ClusterIP+"/")
	}))
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}

// A claim becomes a folder of the node, which outlives the pod that wrote to
// it and goes with the claim.
func TestClaimIsProvisioned(t *testing.T) {
	n := nodetest.Open(t, "nonprod")
	claims := n.Client.CoreV1().PersistentVolumeClaims(n.Namespace)
	_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &n.StorageClass, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Mi")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	with := func(pod *corev1.Pod) *corev1.Pod {
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		pod.Spec.Containers[0].ReadinessProbe = nodetest.TCPProbe(8080)
		return pod
	}
	n.Start(t, with(n.Probe("writer", "write", "/data/file", "forty-two")))
	n.Gone(t, n.Namespace, "writer")
	n.Start(t, with(n.Probe("reader", "serve", ":8080")))
	if out, err := n.Exec(t.Context(), n.Namespace, "reader", "/probe", "read", "/data/file"); err != nil || out != "forty-two" {
		t.Errorf("another pod reads %q, %v", out, err)
	}
	claim, err := claims.Get(t.Context(), "data", metav1.GetOptions{})
	if err != nil || claim.Status.Phase != corev1.ClaimBound {
		t.Fatalf("the claim is %+v, %v", claim.Status, err)
	}
	folder := filepath.Join(n.Sandbox.Dir, "clusters", "nonprod", "node", "volumes", claim.Spec.VolumeName)
	if raw, err := os.ReadFile(filepath.Join(folder, "file")); err != nil || string(raw) != "forty-two" {
		t.Errorf("the folder has %q, %v", raw, err)
	}
	n.Gone(t, n.Namespace, "reader")
	if err := claims.Delete(t.Context(), "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	nodetest.Retry(t, "the folder goes with the claim", func(context.Context) error {
		if _, err := os.Stat(folder); !os.IsNotExist(err) {
			return fmt.Errorf("%s is still there: %w", folder, err)
		}
		return nil
	})
}
