package box

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gitlab.com/slipway/slipway/internal/sandboxtest"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

func clientOf(t *testing.T, cfg *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// A workload with a volume is scheduled, bound and ready in both clusters.
func TestClustersRunWorkloads(t *testing.T) {
	s := sandboxtest.Open(t)
	for _, cluster := range clusters() {
		t.Run(cluster, func(t *testing.T) {
			ns := s.Namespace(t, cluster)
			client := clientOf(t, s.Rest(t, cluster))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			workload(ctx, t, client, ns)
		})
	}
}

func workload(ctx context.Context, t *testing.T, client *kubernetes.Clientset, ns string) {
	t.Helper()
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}}
	if _, err := client.CoreV1().PersistentVolumeClaims(ns).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "orders"}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "orders"}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/orders:1", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
			Volumes:    []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}},
		}},
	}}
	if _, err := client.AppsV1().Deployments(ns).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := until(ctx, client.AppsV1().RESTClient(), "deployments", ns, "orders", &appsv1.Deployment{}, func(e watch.Event) (bool, error) {
		d, ok := e.Object.(*appsv1.Deployment)
		return ok && d.Status.AvailableReplicas == 2, nil
	})
	if err != nil {
		t.Fatalf("waiting for the deployment: %v", err)
	}
	got, err := client.CoreV1().PersistentVolumeClaims(ns).Get(ctx, "data", metav1.GetOptions{})
	if err != nil || got.Status.Phase != corev1.ClaimBound {
		t.Errorf("the claim is %q, %v", got.Status.Phase, err)
	}
}

// The API servers ask the AWS front who a token is, and let nobody in whom it
// does not know.
func TestClustersRefuseUnknownTokens(t *testing.T) {
	s := sandboxtest.Open(t)
	for _, token := range []string{"k8s-aws-v1.aHR0cHM6Ly9zdHMuYW1hem9uYXdzLmNvbS8", "secret", ""} {
		cfg := rest.AnonymousClientConfig(s.Rest(t, "nonprod"))
		cfg.BearerToken = token
		_, err := clientOf(t, cfg).CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{})
		if token == "" && !apierrors.IsForbidden(err) || token != "" && !apierrors.IsUnauthorized(err) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// Velero backs a namespace up into the gateway.
func TestVeleroBacksUp(t *testing.T) {
	s := sandboxtest.Open(t)
	ns := s.Namespace(t, "nonprod")
	client, err := dynamic.NewForConfig(s.Rest(t, "nonprod"))
	if err != nil {
		t.Fatal(err)
	}
	backups := client.Resource(schema.GroupVersionResource{Group: "velero.io", Version: "v1", Resource: "backups"}).Namespace(veleroNamespace)
	backup := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": map[string]any{"name": ns},
		"spec": map[string]any{"includedNamespaces": []any{ns}, "ttl": "1h", "storageLocation": "default"},
	}}
	if _, err := backups.Create(t.Context(), backup, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// One backup at a time: that of another test may come first.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	phase := ""
	err = (&Box{}).watchOne(ctx, backups, ns, func(o *unstructured.Unstructured) bool {
		phase, _, _ = unstructured.NestedString(o.Object, "status", "phase")
		return phase == "Completed" || strings.Contains(phase, "Failed")
	})
	if err != nil || phase != "Completed" {
		t.Errorf("the backup is %q, %v", phase, err)
	}
	stored, err := filepath.Glob(filepath.Join(s.Dir, "s3", "data", backupBucket, "nonprod", "backups", ns, "*"))
	if err != nil || len(stored) < 5 {
		t.Errorf("the bucket has %v, %v", stored, err)
	}
}

// The examples find Slipway's templates under the tag.
func TestSlipwayIsInGitLab(t *testing.T) {
	s := sandboxtest.Open(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.GitLab.Endpoint+"/api/v4/projects/slipway%2Fslipway/repository/files/Makefile/raw?ref="+slipwayVersion, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("PRIVATE-TOKEN", s.GitLab.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("Makefile at %s: %s", slipwayVersion, resp.Status)
	}
}

// No process of the sandbox listens on an address that another machine
// reaches: they listen on loopback, and on the links to the real nodes.
func TestLoopbackOnly(t *testing.T) {
	s := sandboxtest.Open(t)
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
	for _, c := range s.Clusters {
		if c.Node != nil {
			a := net.ParseIP(c.Node.Host).To4()
			allowed = append(allowed, fmt.Sprintf("%02X%02X%02X%02X", a[3], a[2], a[1], a[0]))
		}
	}
	sockets := map[string]int{}
	ids, err := process.Members(dir, "")
	if err != nil || len(ids) == 0 {
		t.Fatalf("the sandbox's processes are %v, %v", ids, err)
	}
	for _, id := range ids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", id.PID))
		for _, fd := range fds {
			if link, err := os.Readlink(fd); err == nil && strings.HasPrefix(link, "socket:[") {
				sockets[strings.Trim(link, "socket:[]")] = id.PID
			}
		}
	}
	listening := 0
	// A UDP socket that is connected to nobody (07) takes what anybody sends.
	for table, waits := range map[string]string{"/proc/net/tcp": "0A", "/proc/net/tcp6": "0A", "/proc/net/udp": "07", "/proc/net/udp6": "07"} {
		f, err := os.Open(table)
		if err != nil {
			continue // a machine without IPv6
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != waits || sockets[fields[9]] == 0 {
				continue
			}
			listening++
			if address, _, _ := strings.Cut(fields[1], ":"); !slices.Contains(allowed, address) {
				t.Errorf("process %d listens on %s", sockets[fields[9]], fields[1])
			}
		}
	}
	if listening < 15 {
		t.Errorf("%d listeners were found, there are more", listening)
	}
	if _, err := net.Dial("tcp", s.Registry.Address); err != nil {
		t.Error(err)
	}
}
