package box

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"gitlab.com/slipway/slipway/pkg/tool"

	"gitlab.com/slipway/slipway/sandbox/internal/image"
	"gitlab.com/slipway/slipway/sandbox/internal/node"
	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// nodeName is what the real node of each cluster is called.
const nodeName = "real-0"

// nodeLabel tells real nodes from fake ones, as a label of both and as a taint
// of the real ones: what does not ask for a real node stays on the fake ones.
const nodeLabel = "slipway.dev/node"

// Node is a real node in the description.
type Node struct {
	Name string `json:"name"`
	// Address is the node's own, Host that of the host as pods reach it: every
	// part listens there on the port that it has on loopback.
	Address  string `json:"address"`
	Host     string `json:"host"`
	Pods     string `json:"pods"`
	Services string `json:"services"`
	DNS      string `json:"dns"`
	// StorageClass makes folders of the node.
	StorageClass string `json:"storageClass"`
	// KubeletPods is kubelet's folder of pods, as a path of the node.
	KubeletPods string `json:"kubeletPods"`
	Link        string `json:"link"`
	Cgroup      string `json:"cgroup"`
}

func nodePart(cluster string) string { return "node-" + cluster }

// hasNodes tells whether the sandbox of the journal was given real nodes.
func hasNodes(j *process.Journal) bool {
	parts := j.Parts()
	return slices.ContainsFunc(clusters(), func(c string) bool { _, ok := parts[nodePart(c)]; return ok })
}

// nodeParts are a real node for each cluster, and what runs on it.
func nodeParts() []Part {
	parts := []Part{{
		Name: "node-images", Needs: []string{"registry"},
		Ready: func(ctx context.Context, b *Box) error { return b.pushImages(ctx) },
	}}
	for _, c := range clusters() {
		parts = append(parts, Part{
			Name: nodePart(c), Needs: []string{"kube-apiserver-" + c, "kube-controller-manager-" + c, "node-images"},
			Command: func(b *Box) (Spec, error) { return b.node(c) },
			Ready:   func(ctx context.Context, b *Box) error { return b.nodeReady(ctx, c) },
		}, Part{
			Name: "node-services-" + c, Needs: []string{nodePart(c), "kube-scheduler-" + c},
			Ready: func(ctx context.Context, b *Box) error { return b.nodeServices(ctx, c) },
		})
	}
	return parts
}

// nodePrograms are built where there are real nodes. Each leaves an image.
func nodePrograms() []goProgram {
	return []goProgram{
		{name: "pause", cold: "1 s", pkg: ".", image: &v1.Config{Entrypoint: []string{"/pause"}}},
		{name: "probe", cold: "5 s", pkg: ".", image: &v1.Config{Entrypoint: []string{"/probe"}, User: "65532"}},
		{name: "coredns", cold: "2 min", pkg: ".", image: &v1.Config{Entrypoint: []string{"/coredns"}, User: "65532"}},
	}
}

// pushImages pushes what runs on real nodes into the registry.
func (b *Box) pushImages(ctx context.Context) error {
	b.images = map[string]string{}
	names := slices.Concat([]string{veleroImageName}, debianNames())
	for _, p := range nodePrograms() {
		names = append(names, p.name)
	}
	for _, name := range names {
		img, err := image.Load(filepath.Join(b.programs[name], "image"))
		if err != nil {
			return err
		}
		if b.images[name], err = image.Push(ctx, b.addr("registry"), "sandbox/"+name, img); err != nil {
			return err
		}
	}
	return nil
}

// nodeID names what the node of a cluster makes on the host.
func (b *Box) nodeID(cluster string) string {
	sum := sha256.Sum256([]byte(b.Dir + "\n" + cluster))
	return hex.EncodeToString(sum[:5])
}

func (b *Box) linkName(cluster string) string   { return "sw-" + b.nodeID(cluster) }
func (b *Box) cgroupName(cluster string) string { return "slipway-" + b.nodeID(cluster) }

func (b *Box) nodeConfig(cluster string) (node.Config, error) {
	cni, err := cniDir()
	if err != nil {
		return node.Config{}, err
	}
	ports := []int{}
	for _, part := range []string{"s3", "registry", "aws", "gitlab"} {
		ports = append(ports, b.ports[part])
	}
	for _, c := range clusters() {
		ports = append(ports, b.ports["kube-apiserver-"+c])
	}
	return node.Config{
		Name: nodeName, Dir: b.clusterPath(cluster, "node"), Cgroup: b.cgroupName(cluster), Link: b.linkName(cluster),
		Network: b.networks[cluster], Kubernetes: b.program("kubernetes"), Ports: ports, Registry: b.addr("registry"), Pause: b.images["pause"], CNI: cni,
		Labels: []string{nodeLabel + "=real", "topology.kubernetes.io/region=" + region, "topology.kubernetes.io/zone=" + region + "a"},
		Taints: []string{nodeLabel + "=real:NoSchedule"}, CA: b.clusterPath(cluster, "pki", "ca.crt"),
		KubeletConfig: b.clusterPath(cluster, "node", "kubelet.kubeconfig"), ProxyConfig: b.clusterPath(cluster, "node", "kube-proxy.kubeconfig"),
		PolicyConfig: b.clusterPath(cluster, "node", "network-policy.kubeconfig"),
		AdminConfig:  b.kubeconfigPath(cluster),
	}, nil
}

// prepareNode writes the kubeconfigs of the node's programs, which reach the
// API server over the link.
func (b *Box) prepareNode(cluster string) error {
	if !b.Node {
		return nil
	}
	if err := os.MkdirAll(b.clusterPath(cluster, "node"), 0o700); err != nil {
		return fmt.Errorf("preparing the node of %q: %w", cluster, err)
	}
	pki := func(name string) string { return b.clusterPath(cluster, "pki", name) }
	for _, user := range []string{"kubelet", "kube-proxy", "network-policy"} {
		cfg := clientcmdapi.NewConfig()
		cfg.Clusters["sandbox"] = &clientcmdapi.Cluster{
			Server: "https://" + net.JoinHostPort(b.networks[cluster].Host().String(), b.port("kube-apiserver-"+cluster)), CertificateAuthority: pki("ca.crt"),
		}
		cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: pki(user + ".crt"), ClientKey: pki(user + ".key")}
		cfg.Contexts[user] = &clientcmdapi.Context{Cluster: "sandbox", AuthInfo: user}
		cfg.CurrentContext = user
		if err := clientcmd.WriteToFile(*cfg, b.clusterPath(cluster, "node", user+".kubeconfig")); err != nil {
			return fmt.Errorf("preparing the node of %q: %w", cluster, err)
		}
	}
	return nil
}

func (b *Box) node(cluster string) (Spec, error) {
	cfg, err := b.nodeConfig(cluster)
	if err != nil {
		return Spec{}, err
	}
	spec, err := b.serve(nodePart(cluster), cfg)
	if err != nil {
		return Spec{}, err
	}
	spec.Argv[len(spec.Argv)-1] = "node"
	spec.Inputs = append(spec.Inputs, cfg.KubeletConfig, cfg.ProxyConfig, cfg.PolicyConfig, cfg.AdminConfig, cfg.CA)
	return spec, nil
}

// nodeReady waits until kubelet says that the node is ready, and nothing but
// its own taint keeps pods away.
func (b *Box) nodeReady(ctx context.Context, cluster string) error {
	client, err := b.client(cluster)
	if err != nil {
		return err
	}
	// What an earlier kubelet said of the node does not count.
	entry, _ := b.journal.Entry(nodePart(cluster))
	started, err := entry.StartedAt()
	if err != nil {
		return err
	}
	why := "it is not there"
	err = until(ctx, client.CoreV1().RESTClient(), "nodes", "", nodeName, &corev1.Node{}, func(e watch.Event) (bool, error) {
		n, ok := e.Object.(*corev1.Node)
		if !ok {
			return false, apierrors.FromObject(e.Object)
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				why = c.Message
				return c.Status == corev1.ConditionTrue && !c.LastHeartbeatTime.Time.Before(started) && len(n.Spec.Taints) == 1, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the node: %w: %s", err, why)
	}
	return nil
}

// removeNodes removes what a killed node may have left: its link and its
// cgroups.
func (b *Box) removeNodes(ctx context.Context) error {
	for _, c := range clusters() {
		if err := errors.Join(node.RemoveLink(b.linkName(c)), node.RemoveCgroup(ctx, b.cgroupName(c))); err != nil {
			return err
		}
	}
	return nil
}

// nodesLeft tells whether there is something for removeNodes.
func (b *Box) nodesLeft() bool {
	return slices.ContainsFunc(clusters(), func(c string) bool { return node.LeftBehind(b.linkName(c), b.cgroupName(c)) })
}

func (b *Box) describeNode(cluster string) *Node {
	if !b.Node {
		return nil
	}
	n := b.networks[cluster]
	return &Node{
		Name: nodeName, Address: n.Node().String(), Host: n.Host().String(), Pods: n.Pods().String(), Services: n.Services().String(), DNS: n.DNS().String(),
		StorageClass: storageClassName, KubeletPods: "/var/lib/kubelet/pods", Link: b.linkName(cluster), Cgroup: b.cgroupName(cluster),
	}
}

// chooseNetworks gives each cluster a network, at the first time. Until
// release is called no other sandbox of this machine takes the same.
func (b *Box) chooseNetworks() (release func(), err error) {
	have := b.journal.Networks()
	var held []net.Listener
	release = func() {
		for _, l := range held {
			l.Close()
		}
	}
	b.networks = map[string]node.Network{}
	for _, c := range clusters() {
		if n, ok := have[c]; ok {
			b.networks[c] = node.Network{N: n}
			continue
		}
		b.networks[c], err = node.FreeNetwork(b.Dir+c, func(n node.Network) bool {
			// A name that the kernel forgets with this process.
			l, err := net.Listen("unix", "@slipway-network-"+n.String()) //nolint:noctx // it does not block
			if err != nil {
				return true
			}
			held = append(held, l)
			return false
		})
		if err != nil {
			release()
			return nil, err
		}
	}
	if err := b.checkNetworks(); err != nil {
		release()
		return nil, err
	}
	all := map[string]int{}
	for c, n := range b.networks {
		all[c] = n.N
	}
	if err := b.journal.SetNetworks(all); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// checkNetworks refuses to make nodes on a network that something else of
// the host has taken since it was chosen.
func (b *Box) checkNetworks() error {
	for _, c := range clusters() {
		if e, ok := b.journal.Entry(nodePart(c)); !b.Node || ok && e.Alive() {
			continue
		}
		free, err := b.networks[c].Free(b.linkName(c))
		if err != nil {
			return err
		}
		if !free {
			return tool.Hint(fmt.Errorf("making the node of %q: the host has an address or a route in its network %s", c, b.networks[c]),
				"stop the sandbox and start it again, with other networks: sandbox down && sandbox up --node")
		}
	}
	return nil
}

// cniDirs are where distributions put the CNI plugins.
func cniDirs() []string { return []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} }

// cniDir is the folder of the CNI plugins.
func cniDir() (string, error) {
	for _, dir := range cniDirs() {
		if !slices.ContainsFunc([]string{"ptp", "host-local", "loopback"}, func(p string) bool { return !exists(filepath.Join(dir, p)) }) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("looking for the CNI plugins: %w", fs.ErrNotExist)
}
