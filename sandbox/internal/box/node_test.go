package box

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/vishvananda/netlink"

	"gitlab.com/slipway/slipway/internal/sandboxtest"

	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// A node whose first process is killed leaves nothing on the host, and the
// next `up` makes it whole: its pods run again, with their data. `down` after
// another kill leaves nothing either. The sandbox is one of the test's own.
func TestKilledNode(t *testing.T) {
	sandboxtest.Open(t).Node(t, "nonprod") // this machine has what it takes
	sandboxtest.Private(t)
	root, err := FindRoot()
	if err != nil {
		t.Fatal(err)
	}
	// Not below the test's own folder: paths of sockets must be short.
	dir, err := os.MkdirTemp("", "sandbox-node-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Root: root, Dir: filepath.Join(dir, "s"), Self: os.Args[0], Env: os.Getenv, Say: t.Logf, Node: true}
	t.Cleanup(func() {
		if err := Down(context.Background(), cfg); err != nil {
			t.Error(err)
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := Up(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	s, err := sandboxtest.Read(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &Box{Config: cfg}
	client, err := b.client("nonprod")
	if err != nil {
		t.Fatal(err)
	}
	startWriter(t, client, s)

	killInit(t, cfg.Dir)
	nodetest.Retry(t, "the kernel takes the killed node's link and mounts away", func(context.Context) error {
		left := slices.DeleteFunc(leftOfNode(t, b, "nonprod"), func(s string) bool { return strings.HasPrefix(s, "/sys/fs/cgroup/") })
		if len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
	if err := Up(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	err = until(t.Context(), client.CoreV1().RESTClient(), "pods", "default", "writer", &corev1.Pod{}, func(e watch.Event) (bool, error) {
		p, ok := e.Object.(*corev1.Pod)
		return ok && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount > 0 && p.Status.ContainerStatuses[0].Ready, nil
	})
	if err != nil {
		t.Fatalf("waiting for the pod to run again: %v", err)
	}
	files, err := filepath.Glob(b.clusterPath("nonprod", "node", "volumes", "*", "file"))
	if err != nil || len(files) != 1 {
		t.Errorf("the volume has %v, %v", files, err)
	}

	killInit(t, cfg.Dir)
	if err := Down(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, c := range clusters() {
		if left := leftOfNode(t, b, c); len(left) > 0 {
			t.Errorf("down left %v", left)
		}
	}
	if left := members(t, cfg.Dir); len(left) > 0 {
		t.Errorf("down left the processes %v", left)
	}
}

// startWriter runs a pod that has written to a claim.
func startWriter(t *testing.T, client *kubernetes.Clientset, s *sandboxtest.Sandbox) {
	t.Helper()
	n := &nodetest.Node{Node: s.Node(t, "nonprod"), Sandbox: s, Client: client, Namespace: "default"}
	_, err := client.CoreV1().PersistentVolumeClaims("default").Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &n.StorageClass, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := n.Probe("writer", "write", "/data/file", "forty-two")
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	pod.Spec.Containers[0].ReadinessProbe = nodetest.TCPProbe(8080)
	n.Start(t, pod)
}

// killInit kills the first process of the nonprod node and waits until the
// part has ended.
func killInit(t *testing.T, dir string) {
	t.Helper()
	ids, err := process.Members(dir, nodePart("nonprod"))
	if err != nil {
		t.Fatal(err)
	}
	killed := false
	for _, id := range ids {
		argv, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(id.PID), "cmdline"))
		if err == nil && strings.Contains(string(argv), "\x00node-init\x00") {
			p, err := os.FindProcess(id.PID)
			if err != nil {
				t.Fatal(err)
			}
			killed = p.Kill() == nil
		}
	}
	if !killed {
		t.Fatalf("none of the processes %v is the node's init", ids)
	}
	nodetest.Retry(t, "the node's processes end", func(context.Context) error {
		left, err := process.Members(dir, nodePart("nonprod"))
		if err == nil && len(left) > 0 {
			err = errEnded
		}
		return err
	})
}

// leftOfNode is what a cluster's node has on the host: its link, its mounts
// and its cgroups.
func leftOfNode(t *testing.T, b *Box, cluster string) []string {
	t.Helper()
	var left []string
	if link, err := netlink.LinkByName(b.linkName(cluster)); err == nil {
		left = append(left, "link "+link.Attrs().Name)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, b.clusterPath(cluster)) {
			left = append(left, "mount "+line)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		groups, err := filepath.Glob(pattern + b.cgroupName(cluster))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, groups...)
	}
	return left
}
