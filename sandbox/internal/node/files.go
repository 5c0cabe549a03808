package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

func join(list []string) string { return strings.Join(list, ",") }

// writeFiles writes what the node's programs start with.
func (c Config) writeFiles() error {
	registry := filepath.Join("certs.d", c.Registry, "hosts.toml")
	for _, dir := range []string{"kubelet", "containerd", "log", "volumes", "tmp", "etc/net.d", filepath.Dir(filepath.Join("etc", registry))} {
		if err := os.MkdirAll(c.path(dir), 0o755); err != nil {
			return fmt.Errorf("making the node's folders: %w", err)
		}
	}
	kubelet, err1 := json.MarshalIndent(c.kubelet(), "", "  ")
	proxy, err2 := json.MarshalIndent(c.proxy(), "", "  ")
	cni, err3 := json.MarshalIndent(c.cni(), "", "  ")
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("writing the node's configuration: %w", err)
	}
	for name, text := range map[string]string{
		"containerd.toml": c.containerd(), registry: c.registryHost(), "resolv.conf": "nameserver " + c.Network.DNS().String() + "\n",
		"kubelet.yaml": string(kubelet), "kube-proxy.yaml": string(proxy), "net.d/10-sandbox.conflist": string(cni),
	} {
		if err := process.WriteFile(c.path("etc", name), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// containerd's own configuration. Version 2 of the format is read by
// containerd 1.6 to 2.x.
func (c Config) containerd() string {
	return fmt.Sprintf(`version = 2
root = %q
state = "/run/containerd"
# What this node does not use; opt would make a folder of the host.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = %q

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # Without CAP_SYS_RESOURCE nobody may lower a process's score.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`, containerdDir, containerdSocket, c.Pause, c.CNI, c.path("etc", "net.d"), c.path("etc", "certs.d"))
}

// registryHost leads references of the registry on the host's loopback over
// the link, so that a reference is the same on the host and in a pod's spec.
func (c Config) registryHost() string {
	_, port, _ := net.SplitHostPort(c.Registry)
	url := "http://" + net.JoinHostPort(c.Network.Host().String(), port)
	return fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", url, url)
}

// cni is the pods' network: every pod has a route of its own, so that traffic
// between two pods passes the node's forwarding, where policies are enforced.
func (c Config) cni() map[string]any {
	return map[string]any{
		"cniVersion": "0.4.0", "name": "sandbox",
		"plugins": []any{map[string]any{
			"type": "ptp",
			"ipam": map[string]any{
				"type": "host-local", "dataDir": "/run/cni",
				"ranges": [][]any{{map[string]any{"subnet": c.Network.Pods().String()}}},
				"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
			},
		}},
	}
}

func (c Config) kubelet() map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address":                  c.Network.Node().String(),
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true}, "x509": map[string]any{"clientCAFile": c.CA},
		},
		"authorization": map[string]any{"mode": "Webhook"},
		"clusterDNS":    []string{c.Network.DNS().String()}, "clusterDomain": "cluster.local", "resolvConf": c.path("etc", "resolv.conf"),
		"staticPodPath": "", "volumePluginDir": kubeletDir + "/plugins-exec",
		"cgroupDriver": "cgroupfs", "cgroupRoot": "/" + c.Cgroup, "enforceNodeAllocatable": []string{}, "failCgroupV1": false,
		"failSwapOn": false, "oomScoreAdj": 0,
		// A full disk or little memory of the machine is no reason to evict.
		"evictionHard":                map[string]string{"memory.available": "1Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%", "imagefs.inodesFree": "1%"},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"serializeImagePulls": false, "maxPods": 200, "syncFrequency": "10s",
		"nodeStatusUpdateFrequency": "5s", "kubeAPIQPS": 200, "kubeAPIBurst": 400,
		"enableDebuggingHandlers": true,
	}
}

func (c Config) proxy() map[string]any {
	return map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"clientConnection": map[string]any{"kubeconfig": c.ProxyConfig, "qps": 200, "burst": 400},
		"mode":             "nftables", "clusterCIDR": c.Network.Pods().String(), "oomScoreAdj": 0,
		"bindAddress": "127.0.0.1", "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249", "nodePortAddresses": []string{"primary"},
		// The table of connections has the host's size, which is not the node's to change.
		"conntrack": map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
		"nftables":  map[string]any{"minSyncPeriod": "0s", "syncPeriod": "30s"},
	}
}
