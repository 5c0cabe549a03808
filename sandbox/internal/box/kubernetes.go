package box

import (
	"context"
	"errors"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	watchtools "k8s.io/client-go/tools/watch"

	"gitlab.com/slipway/slipway/sandbox/internal/failures"
	"gitlab.com/slipway/slipway/sandbox/internal/process"
	"gitlab.com/slipway/slipway/sandbox/internal/serve"
)

// clusters of the landscape that run here. The landscape nsflow names them.
func clusters() []string { return []string{"nonprod", "prod"} }

// eksName is what the cluster is called in EKS.
func eksName(cluster string) string { return "nsflow-" + cluster }

func (b *Box) clusterPath(cluster string, elem ...string) string {
	return b.path(append([]string{"clusters", cluster}, elem...)...)
}

func (b *Box) kubeconfigPath(cluster string) string { return b.clusterPath(cluster, "kubeconfig") }

func (b *Box) serverURL(cluster string) string { return "https://" + b.addr("kube-apiserver-"+cluster) }

// prepareCluster writes the files that a cluster's processes start with.
func (b *Box) prepareCluster(cluster string) error {
	if err := os.MkdirAll(b.clusterPath(cluster), 0o700); err != nil {
		return fmt.Errorf("preparing the cluster %q: %w", cluster, err)
	}
	if err := makePKI(b.clusterPath(cluster, "pki"), b.networks[cluster]); err != nil {
		return fmt.Errorf("preparing the cluster %q: %w", cluster, err)
	}
	admin := clientcmdapi.NewConfig()
	admin.Clusters["sandbox"] = &clientcmdapi.Cluster{Server: b.serverURL(cluster), CertificateAuthority: b.clusterPath(cluster, "pki", "ca.crt")}
	admin.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificate: b.clusterPath(cluster, "pki", "admin.crt"), ClientKey: b.clusterPath(cluster, "pki", "admin.key")}
	admin.Contexts["admin"] = &clientcmdapi.Context{Cluster: "sandbox", AuthInfo: "admin"}
	admin.CurrentContext = "admin"
	// The API server asks the AWS front who a token is, as EKS does with
	// tokens that are signed requests to STS.
	webhook := clientcmdapi.NewConfig()
	webhook.Clusters["eks"] = &clientcmdapi.Cluster{Server: fmt.Sprintf("http://%s/_slipway/eks/%s/authenticate", b.addr("aws"), eksName(cluster))}
	webhook.AuthInfos["apiserver"] = &clientcmdapi.AuthInfo{}
	webhook.Contexts["eks"] = &clientcmdapi.Context{Cluster: "eks", AuthInfo: "apiserver"}
	webhook.CurrentContext = "eks"
	return errors.Join(
		b.prepareNode(cluster),
		clientcmd.WriteToFile(*admin, b.kubeconfigPath(cluster)),
		clientcmd.WriteToFile(*webhook, b.clusterPath(cluster, "token-webhook.yaml")),
		os.WriteFile(b.clusterPath(cluster, "audit-policy.yaml"), []byte(auditPolicy), 0o600),
	)
}

// auditPolicy notes who changed what, and when the change was stored. Reads are
// not noted: there are too many. The log, clusters/<name>/audit.log, has a JSON
// object a line.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, resources: [{group: "", resources: [events]}, {group: events.k8s.io}]}
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
`

// clusterParts is one control plane with its fake nodes.
func clusterParts(cluster string) []Part {
	name := func(part string) string { return part + "-" + cluster }
	return []Part{
		{
			Name: name("etcd"), Ports: []string{name("etcd"), name("etcd-peer")},
			Command: func(b *Box) (Spec, error) { return b.etcd(cluster), nil },
			Ready: func(ctx context.Context, b *Box) error {
				return answers(ctx, "http://"+b.addr(name("etcd"))+"/health")
			},
		},
		{
			Name: name("kube-apiserver"), Needs: []string{name("etcd")}, Ports: []string{name("kube-apiserver")},
			Command: func(b *Box) (Spec, error) { return b.apiserver(cluster), nil },
			Ready:   func(ctx context.Context, b *Box) error { return answers(ctx, b.serverURL(cluster)+"/readyz") },
		},
		{
			Name: name("kube-controller-manager"), Needs: []string{name("kube-apiserver")}, Ports: []string{name("kube-controller-manager")},
			Command: func(b *Box) (Spec, error) { return b.controllerManager(cluster), nil },
			Ready: func(ctx context.Context, b *Box) error {
				return answers(ctx, "https://"+b.addr(name("kube-controller-manager"))+"/healthz")
			},
		},
		{
			Name: name("kube-scheduler"), Needs: []string{name("kube-apiserver")}, Ports: []string{name("kube-scheduler")},
			Command: func(b *Box) (Spec, error) { return b.scheduler(cluster), nil },
			Ready: func(ctx context.Context, b *Box) error {
				return answers(ctx, "https://"+b.addr(name("kube-scheduler"))+"/readyz")
			},
		},
		{
			Name: name("kwok"), Needs: []string{name("kube-apiserver")}, Ports: []string{name("kwok")},
			Command: func(b *Box) (Spec, error) { return b.kwok(cluster) },
			Ready:   func(ctx context.Context, b *Box) error { return b.fakeNodes(ctx, cluster) },
		},
		{
			Name: name("failures"), Needs: []string{name("kube-apiserver")}, Ports: []string{name("failures")},
			Command: func(b *Box) (Spec, error) { return b.failures(cluster) },
			Ready:   func(ctx context.Context, b *Box) error { return answers(ctx, "http://"+b.addr(name("failures"))) },
		},
	}
}

func (b *Box) kubernetesProgram(program string, flags ...string) Spec {
	return Spec{Argv: append([]string{b.program("kubernetes"), program}, flags...)}
}

func (b *Box) etcd(cluster string) Spec {
	client, peer := "http://"+b.addr("etcd-"+cluster), "http://"+b.addr("etcd-peer-"+cluster)
	return b.kubernetesProgram("etcd",
		"--name", "sandbox", "--data-dir", b.clusterPath(cluster, "etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "sandbox="+peer)
}

func (b *Box) apiserver(cluster string) Spec {
	pki := func(name string) string { return b.clusterPath(cluster, "pki", name) }
	spec := b.kubernetesProgram("kube-apiserver",
		"--etcd-servers", "http://"+b.addr("etcd-"+cluster),
		"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", b.port("kube-apiserver-"+cluster),
		"--endpoint-reconciler-type", "none", // endpoints may not be on loopback
		"--tls-cert-file", pki("server.crt"), "--tls-private-key-file", pki("server.key"), "--client-ca-file", pki("ca.crt"),
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", pki("sa.pub"), "--service-account-signing-key-file", pki("sa.key"),
		"--service-cluster-ip-range", b.networks[cluster].Services().String(), "--authorization-mode", "RBAC,Node", "--allow-privileged",
		"--kubelet-preferred-address-types", "InternalIP,Hostname", "--kubelet-client-certificate", pki("admin.crt"), "--kubelet-client-key", pki("admin.key"),
		"--authentication-token-webhook-config-file", b.clusterPath(cluster, "token-webhook.yaml"),
		"--authentication-token-webhook-version", "v1", "--authentication-token-webhook-cache-ttl", "10s",
		"--audit-policy-file", b.clusterPath(cluster, "audit-policy.yaml"), "--audit-log-path", b.clusterPath(cluster, "audit.log"),
		"--audit-log-maxsize", "100", "--audit-log-maxbackup", "1",
		"--profiling=false")
	spec.Inputs = []string{pki("ca.crt"), b.clusterPath(cluster, "token-webhook.yaml"), b.clusterPath(cluster, "audit-policy.yaml")}
	return spec
}

func (b *Box) controllerManager(cluster string) Spec {
	spec := b.kubernetesProgram("kube-controller-manager",
		"--kubeconfig", b.kubeconfigPath(cluster), "--leader-elect=false", "--controllers", "*",
		"--bind-address", "127.0.0.1", "--secure-port", b.port("kube-controller-manager-"+cluster), "--cert-dir", b.clusterPath(cluster, "kube-controller-manager"),
		"--root-ca-file", b.clusterPath(cluster, "pki", "ca.crt"), "--service-account-private-key-file", b.clusterPath(cluster, "pki", "sa.key"),
		// At the defaults, 20 calls a second, every rollout waits for the
		// controllers and not for what is rolled out.
		"--kube-api-qps", "500", "--kube-api-burst", "1000", "--concurrent-deployment-syncs", "20", "--concurrent-replicaset-syncs", "20",
		"--profiling=false")
	spec.Inputs = []string{b.kubeconfigPath(cluster)}
	return spec
}

func (b *Box) scheduler(cluster string) Spec {
	spec := b.kubernetesProgram("kube-scheduler",
		"--kubeconfig", b.kubeconfigPath(cluster), "--leader-elect=false",
		"--bind-address", "127.0.0.1", "--secure-port", b.port("kube-scheduler-"+cluster), "--cert-dir", b.clusterPath(cluster, "kube-scheduler"),
		"--kube-api-qps", "500", "--kube-api-burst", "1000", "--profiling=false")
	spec.Inputs = []string{b.kubeconfigPath(cluster)}
	return spec
}

// kwok plays its own stages, save for pods that are to fail.
func (b *Box) kwok(cluster string) (Spec, error) {
	port, failing := b.port("kwok-"+cluster), b.clusterPath(cluster, "failing-pods.yaml")
	if err := process.WriteFile(failing, failures.Stage); err != nil {
		return Spec{}, err
	}
	return Spec{
		Argv: []string{
			b.program("kwok"), "--kubeconfig", b.kubeconfigPath(cluster), "--config", b.programs["kwok"] + "/stages.yaml", "--config", failing,
			"--manage-all-nodes=false", "--manage-nodes-with-annotation-selector", "kwok.x-k8s.io/node=fake",
			"--server-address", "127.0.0.1:" + port, "--node-port", port, "--node-ip", "127.0.0.1", "--node-name", "localhost",
		},
		Env:    []string{"KWOK_WORKDIR=" + b.clusterPath(cluster, "kwok")}, // not the user's own settings
		Inputs: []string{b.kubeconfigPath(cluster), failing},
	}, nil
}

// failures is the kubelet of the pods that are to fail.
func (b *Box) failures(cluster string) (Spec, error) {
	path := b.clusterPath(cluster, "failures.json")
	if err := writeJSON(path, serve.Failures{Listen: b.addr("failures-" + cluster), Kubeconfig: b.kubeconfigPath(cluster)}); err != nil {
		return Spec{}, err
	}
	return Spec{Argv: []string{b.Self, "serve", "--config", path, "failures"}, Inputs: []string{path, b.kubeconfigPath(cluster), b.Self}}, nil
}

// fakeNodes makes the cluster's two nodes and waits until kwok has made them ready.
func (b *Box) fakeNodes(ctx context.Context, cluster string) error {
	client, err := b.client(cluster)
	if err != nil {
		return err
	}
	for i, zone := range []string{"eu-central-1a", "eu-central-1b"} {
		name := fmt.Sprintf("fake-%d", i)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
			Labels: map[string]string{
				"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "type": "kwok", nodeLabel: "fake",
				"topology.kubernetes.io/region": "eu-central-1", "topology.kubernetes.io/zone": zone,
			},
		}}
		if err := b.create(func() error {
			_, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
			return err
		}); err != nil {
			return fmt.Errorf("making the node %q: %w", name, err)
		}
		if err := until(ctx, client.CoreV1().RESTClient(), "nodes", "", name, &corev1.Node{}, nodeReady); err != nil {
			return fmt.Errorf("waiting for the node %q: %w", name, err)
		}
	}
	return nil
}

func nodeReady(e watch.Event) (bool, error) {
	node, ok := e.Object.(*corev1.Node)
	if !ok {
		return false, apierrors.FromObject(e.Object)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return len(node.Spec.Taints) == 0, nil // the controller takes the not-ready taint away
		}
	}
	return false, nil
}

// create calls do and takes "it exists" for success.
func (b *Box) create(do func() error) error {
	err := do()
	if err == nil {
		b.change("") // the part that it belongs to is said as a whole
	}
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// until watches one object until done says so.
func until(ctx context.Context, client rest.Interface, resource, namespace, name string, kind runtime.Object, done watchtools.ConditionFunc) error {
	list := cache.NewListWatchFromClient(client, resource, namespace, fields.OneTermEqualSelector("metadata.name", name))
	_, err := watchtools.UntilWithSync(ctx, list, kind, nil, done)
	return err
}

func (b *Box) rest(cluster string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", b.kubeconfigPath(cluster))
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of %q: %w", cluster, err)
	}
	cfg.QPS = -1
	return cfg, nil
}

func (b *Box) client(cluster string) (*kubernetes.Clientset, error) {
	cfg, err := b.rest(cluster)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(cfg)
}
