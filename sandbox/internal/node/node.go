// Package node is a real node of a cluster: containerd, kubelet and kube-proxy
// in namespaces of their own.
//
// The outer process makes the link to the host, forwards ports and waits. The
// init is the first process of the node's namespaces. When either dies, the
// kernel ends every process of the node and takes back its mounts and links,
// so that nothing has to be written down for cleaning up but the cgroup, whose
// name follows from the sandbox's folder.
package node

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Config is a node.
type Config struct {
	Name       string // of the Node object
	Dir        string // where it keeps its data
	Cgroup     string // its cgroup in every hierarchy, below the root
	Link       string // the host's end of its link
	Network    Network
	Kubernetes string   // the program that is kubelet and kube-proxy
	Ports      []int    // of the host's loopback, which pods reach on the host's end of the link
	Registry   string   // the registry's address on the host's loopback
	Pause      string   // image reference
	CNI        string   // folder of the CNI plugins
	Labels     []string // key=value
	Taints     []string // key=value:effect
	CA         string   // who signs client certificates

	KubeletConfig, ProxyConfig, PolicyConfig, AdminConfig string // kubeconfig files

	// Enforcer starts what enforces network policies, within the node.
	Enforcer []string `json:"-"`
}

func (c Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.Dir}, elem...)...)
}

// Run is the outer process of a node, until ctx ends or the node does.
// initArgs start the init from this program; Init reads the same Config.
func Run(ctx context.Context, cfg Config, initArgs []string, logger *log.Logger) (err error) {
	// The init dies with the thread that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := RemoveCgroup(ctx, cfg.Cgroup); err != nil {
		return err
	}
	if err := makeCgroup(cfg.Cgroup); err != nil {
		return err
	}
	if err := cfg.writeFiles(); err != nil {
		return err
	}
	first, goOn, err := startInit(initArgs)
	if err != nil {
		return err
	}
	defer goOn.Close()
	ended := make(chan error, 1)
	go func() { ended <- first.Wait() }()
	defer func() {
		_ = first.Process.Kill() // it may have ended by itself
		err = errors.Join(err, RemoveCgroup(context.WithoutCancel(ctx), cfg.Cgroup))
	}()
	if err := addLink(cfg.Link, first.Process.Pid, cfg.Network); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, port := range cfg.Ports {
		number := strconv.Itoa(port)
		r, err := listenRelay(ctx, net.JoinHostPort(cfg.Network.Host().String(), number), net.JoinHostPort("127.0.0.1", number), cfg.Network.All())
		if err != nil {
			return err
		}
		group.Go(func() error { return r.run(ctx) })
	}
	group.Go(func() error { return provision(ctx, cfg, logger) })
	if _, err := goOn.Write([]byte{1}); err != nil {
		return fmt.Errorf("starting the node's init: %w", err)
	}
	logger.Printf("node %s: init is process %d, link %s, network %s", cfg.Name, first.Process.Pid, cfg.Link, cfg.Network)
	group.Go(func() error {
		select {
		case err := <-ended:
			return fmt.Errorf("the node's init has ended: %w", errors.Join(err, errEnded))
		case <-ctx.Done():
			return nil
		}
	})
	return group.Wait()
}

var errEnded = errors.New("it was not asked to")

// startInit starts the first process of the node's namespaces, which waits
// until something is written to the pipe.
func startInit(argv []string) (*exec.Cmd, *os.File, error) {
	waits, goOn, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer waits.Close()
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // Run kills it, and so does the end of Run's thread
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{waits}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		goOn.Close()
		return nil, nil, fmt.Errorf("starting the node's init in namespaces of its own: %w", err)
	}
	return cmd, goOn, nil
}
