package node

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// child is a program of the node.
type child struct {
	name string
	argv []string
	// ready returns once what needs the program may start; nil where nothing does.
	ready func(context.Context) error
}

// children are the node's programs, in the order in which they start. Each
// ends with the node, and the node with each of them.
func (c Config) children() []child {
	return []child{
		{name: "network-policy", argv: c.Enforcer, ready: dials(EnforcerSocket)},
		{name: "containerd", argv: []string{"containerd", "--config", c.path("etc", "containerd.toml")}, ready: dials(containerdSocket)},
		{name: "kubelet", argv: []string{
			c.Kubernetes, "kubelet", "--config", c.path("etc", "kubelet.yaml"), "--kubeconfig", c.KubeletConfig, "--root-dir", kubeletDir,
			"--hostname-override", c.Name, "--node-ip", c.Network.Node().String(), "--register-with-taints", join(c.Taints), "--node-labels", join(c.Labels),
		}},
		{name: "kube-proxy", argv: []string{c.Kubernetes, "kube-proxy", "--config", c.path("etc", "kube-proxy.yaml"), "--hostname-override", c.Name}},
	}
}

// Init is the first process of a node's namespaces. It waits for the outer
// process, makes the namespaces a node, and returns when one of its programs
// has ended or ctx has: with it the kernel ends everything in the namespaces.
func Init(ctx context.Context, cfg Config, logger *log.Logger) error {
	goOn := os.NewFile(3, "go on")
	if _, err := io.ReadFull(goOn, make([]byte, 1)); err != nil {
		return fmt.Errorf("waiting for the node's link: %w", err)
	}
	goOn.Close()
	if err := unix.Sethostname([]byte(cfg.Name)); err != nil {
		return fmt.Errorf("naming the node: %w", err)
	}
	if err := cfg.mounts(); err != nil {
		return err
	}
	if err := joinNetwork(cfg.Network); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("letting the node forward packets: %w", err)
	}
	r := newReaper()
	ended := make(chan error, len(cfg.children()))
	for _, c := range cfg.children() {
		done, err := r.start(c, cfg.path(c.name+".log"), cfg.path("tmp"))
		if err != nil {
			return err
		}
		logger.Printf("started %s", c.name)
		go func() { ended <- <-done }()
		if c.ready == nil {
			continue
		}
		if err := either(ctx, c.ready, ended); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

// either waits until ready returns or a program has ended.
func either(ctx context.Context, ready func(context.Context) error, ended <-chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- ready(ctx) }()
	select {
	case err := <-done:
		return err
	case err := <-ended:
		return err
	}
}

// dials waits until a socket can be dialled. Whether it will be there nobody tells.
func dials(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for {
			c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			if err == nil {
				return c.Close()
			}
			if pause(ctx) != nil {
				return fmt.Errorf("waiting for %q: %w", socket, err)
			}
		}
	}
}

// Folders of the node as its programs and pods see them.
const (
	kubeletDir       = "/var/lib/kubelet"
	volumesDir       = "/var/lib/volumes"
	containerdDir    = "/var/lib/containerd"
	containerdSocket = "/run/containerd/containerd.sock"

	// EnforcerSocket is where new pods are announced to what enforces policies.
	EnforcerSocket = "/run/network-policy.sock"
)

// mounts gives the node its own view of the folders that node programs write
// to at fixed places: what is written there is the sandbox's and not the
// host's. Nothing of it is seen outside the node's mount namespace.
func (c Config) mounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping the node's mounts to itself: %w", err)
	}
	// kubelet shares its mounts with containers that ask for it.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts within the node: %w", err)
	}
	for _, m := range []mount{
		{source: "proc", target: "/proc", kind: "proc"},
		{source: "tmpfs", target: "/run", kind: "tmpfs"},
		{source: c.path("log"), target: "/var/log", flags: unix.MS_BIND},
		{source: "tmpfs", target: "/var/lib", kind: "tmpfs"},
		{source: c.path("kubelet"), target: kubeletDir, flags: unix.MS_BIND},
		{source: c.path("containerd"), target: containerdDir, flags: unix.MS_BIND},
		{source: c.path("volumes"), target: volumesDir, flags: unix.MS_BIND},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	return shieldKernel()
}

// shieldKernel keeps the kernel's settings as the host has them, save for
// those of the network, which the namespace has for itself. What kubelet
// insists on setting it sets in a file that lies before the setting.
func shieldKernel() error {
	for _, m := range []mount{
		{source: "/proc/sys/net", target: "/proc/sys/net", flags: unix.MS_BIND},
		{source: "/proc/sys", target: "/proc/sys", flags: unix.MS_BIND | unix.MS_REC},
		{target: "/proc/sys", flags: unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	for i, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"} {
		real, before := filepath.Join("/proc/sys", name), fmt.Sprintf("/run/kernel-setting-%d", i)
		raw, err := os.ReadFile(real)
		if err == nil {
			err = os.WriteFile(before, raw, 0o644)
		}
		if err != nil {
			return fmt.Errorf("shielding the setting %q: %w", name, err)
		}
		if err := (mount{source: before, target: real, flags: unix.MS_BIND}).do(); err != nil {
			return err
		}
	}
	return nil
}

type mount struct {
	source, target, kind string
	flags                uintptr
}

func (m mount) do() error {
	if filepath.Dir(m.target) == "/var/lib" {
		if err := os.Mkdir(m.target, 0o755); err != nil {
			return fmt.Errorf("making the node's folders: %w", err)
		}
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
		return fmt.Errorf("mounting %q in the node: %w", m.target, err)
	}
	return nil
}
