// Package sandboxtest gives a test the running sandbox, with a namespace of
// its own. Without SLIPWAY_SANDBOX a test skips; with CI=true it fails, so
// that nothing is skipped where it counts.
package sandboxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// Sandbox is what sandbox.json says of the running sandbox.
type Sandbox struct {
	Dir string `json:"-"`
	AWS struct {
		Endpoint, Region, Management, AccessKey, SecretKey string
	} `json:"aws"`
	GitLab struct {
		URL, Endpoint, Token string
	} `json:"gitlab"`
	Registry struct{ Address string } `json:"registry"`
	S3       struct {
		Endpoint, AccessKey, SecretKey, Bucket string
	} `json:"s3"`
	Clusters map[string]struct {
		Kubeconfig, Server, CA string
		Node                   *Node
	} `json:"clusters"`
	Images map[string]string `json:"images"`
	Bin    string            `json:"bin"`
}

// Node is the real node of a cluster.
type Node struct {
	Name string
	// Address is the node's own. Host is the host as pods reach it: a test may
	// listen there, and every part does on the port that it has on loopback.
	Address, Host       string
	Pods, Services, DNS string // ranges of addresses, and the name server's
	StorageClass        string // its volumes are folders of the node
	KubeletPods         string // kubelet's folder of pods, as a path of the node
	Link, Cgroup        string // what it has on the host
}

// Node returns the real node of a cluster. Without one the test skips; with
// CI=true it fails.
func (s *Sandbox) Node(t testing.TB, cluster string) Node {
	t.Helper()
	n := s.Clusters[cluster].Node
	if n == nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the sandbox has no real node: start it with sandbox up --node")
		}
		t.Skip("needs a real node: run sandbox up --node, as root")
	}
	return *n
}

// Open returns the sandbox that SLIPWAY_SANDBOX names.
func Open(t testing.TB) *Sandbox {
	t.Helper()
	dir := os.Getenv("SLIPWAY_SANDBOX")
	if dir == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("SLIPWAY_SANDBOX is not set: run the tests with make test")
		}
		t.Skip(`needs the sandbox: run make test, or make up and then eval "$(bin/sandbox env)"`)
	}
	s, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Private waits until no other test runs a sandbox of its own beside the one
// that SLIPWAY_SANDBOX names, and keeps others waiting until the test ends: a
// machine that bears two sandboxes may not bear four. Call it first.
func Private(t testing.TB) {
	t.Helper()
	dir := os.Getenv("SLIPWAY_SANDBOX")
	if dir == "" {
		return // there is none for tests to share
	}
	f, err := os.OpenFile(filepath.Join(dir, "private.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("waiting for tests with a sandbox of their own: %v", err)
	}
}

// Read reads the description of the sandbox in dir.
func Read(dir string) (*Sandbox, error) {
	path := filepath.Join(dir, "sandbox.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the sandbox's description: %w", err)
	}
	s := &Sandbox{Dir: dir}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	return s, nil
}

// Rest returns an administrator's configuration for a cluster.
func (s *Sandbox) Rest(t testing.TB, cluster string) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Clusters[cluster].Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	return cfg
}

// Through starts a fault proxy before a cluster's API server, and returns it
// with a kubeconfig, written into dir, that goes through it as administrator.
func (s *Sandbox) Through(t testing.TB, cluster, dir string, c faultproxy.Config) (*faultproxy.Proxy, string) {
	t.Helper()
	admin := s.Rest(t, cluster)
	var err error
	if c.TLS, err = rest.TLSConfigFor(admin); err != nil {
		t.Fatal(err)
	}
	c.Part, c.Upstream = faultproxy.Kubernetes(), admin.Host
	p, err := faultproxy.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	kc := api.NewConfig()
	kc.Clusters["proxy"] = &api.Cluster{Server: p.URL, CertificateAuthorityData: p.CA()}
	kc.AuthInfos["proxy"] = &api.AuthInfo{}
	kc.Contexts["proxy"] = &api.Context{Cluster: "proxy", AuthInfo: "proxy"}
	kc.CurrentContext = "proxy"
	path := filepath.Join(dir, "kubeconfig-through-proxy")
	if err := clientcmd.WriteToFile(*kc, path); err != nil {
		t.Fatal(err)
	}
	return p, path
}

// Namespace makes a namespace for the test and deletes it at the end.
func (s *Sandbox) Namespace(t testing.TB, cluster string) string {
	t.Helper()
	client, err := kubernetes.NewForConfig(s.Rest(t, cluster))
	if err != nil {
		t.Fatal(err)
	}
	prefix := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name())), "-")
	ns, err := client.CoreV1().Namespaces().Create(context.Background(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix[:min(len(prefix), 40)] + "-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := client.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("deleting namespace %q: %v", ns.Name, err)
		}
	})
	return ns.Name
}
