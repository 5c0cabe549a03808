// Package nodetest runs pods on the real node of a cluster for a test, in a
// namespace of the test's own.
package nodetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/remotecommand"
	watchtools "k8s.io/client-go/tools/watch"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// patience is how long a pod may take on a busy machine.
const patience = 2 * time.Minute

// Node is a real node with a namespace of the test.
type Node struct {
	sandboxtest.Node
	Sandbox   *sandboxtest.Sandbox
	Rest      *rest.Config
	Client    *kubernetes.Clientset
	Namespace string
}

// Open returns the real node of a cluster, or skips the test.
func Open(t *testing.T, cluster string) *Node {
	t.Helper()
	s := sandboxtest.Open(t)
	n := &Node{Node: s.Node(t, cluster), Sandbox: s, Rest: s.Rest(t, cluster), Namespace: ""}
	var err error
	if n.Client, err = kubernetes.NewForConfig(n.Rest); err != nil {
		t.Fatal(err)
	}
	n.Namespace = s.Namespace(t, cluster)
	return n
}

// OnNode makes a pod's spec one for real nodes.
func OnNode(spec *corev1.PodSpec) {
	spec.NodeSelector = map[string]string{"slipway.dev/node": "real"}
	spec.Tolerations = append(spec.Tolerations, corev1.Toleration{Key: "slipway.dev/node", Operator: corev1.TolerationOpExists})
	if spec.TerminationGracePeriodSeconds == nil {
		spec.TerminationGracePeriodSeconds = new(int64(1))
	}
}

// Pod is a pod of one container called app, labelled app=name, for the node.
func (n *Node) Pod(name, image string, args ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: n.Namespace, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image, Args: args}}},
	}
	OnNode(&p.Spec)
	return p
}

// Probe is a pod of the sandbox's probe program.
func (n *Node) Probe(name string, args ...string) *corev1.Pod {
	return n.Pod(name, n.Sandbox.Images["probe"], args...)
}

// Serving is a probe that serves on port 8080 and is ready once it does.
func (n *Node) Serving(name string) *corev1.Pod {
	p := n.Probe(name, "serve", ":8080")
	p.Spec.Containers[0].ReadinessProbe = TCPProbe(8080)
	return p
}

// TCPProbe is a readiness probe that dials a port. A busy machine may be late
// with an answer.
func TCPProbe(port int32) *corev1.Probe {
	p := &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 3}
	p.TCPSocket = &corev1.TCPSocketAction{}
	p.TCPSocket.Port.IntVal = port
	return p
}

// Create makes a pod and does not wait.
func (n *Node) Create(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	// The account comes with the namespace, a moment later.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	accounts := cache.NewListWatchFromClient(n.Client.CoreV1().RESTClient(), "serviceaccounts", pod.Namespace, fields.OneTermEqualSelector("metadata.name", "default"))
	if _, err := watchtools.UntilWithSync(ctx, accounts, &corev1.ServiceAccount{}, nil, func(watch.Event) (bool, error) { return true, nil }); err != nil {
		t.Fatalf("waiting for the default service account: %v", err)
	}
	if _, err := n.Client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatalf("making the pod %q: %v", pod.Name, err)
	}
}

// Start makes a pod, waits until it is ready, and returns it.
func (n *Node) Start(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	n.Create(t, pod)
	return n.Ready(t, pod.Namespace, pod.Name)
}

// Ready waits until a pod is ready and returns it.
func (n *Node) Ready(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	return n.Until(t, namespace, name, "it is ready", func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	})
}

// Until watches a pod until done says so, and returns it. what says what is
// waited for.
func (n *Node) Until(t *testing.T, namespace, name, what string, done func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last *corev1.Pod
	list := cache.NewListWatchFromClient(n.Client.CoreV1().RESTClient(), "pods", namespace, fields.OneTermEqualSelector("metadata.name", name))
	_, err := watchtools.UntilWithSync(ctx, list, &corev1.Pod{}, nil, func(e watch.Event) (bool, error) {
		p, ok := e.Object.(*corev1.Pod)
		if !ok {
			return false, apierrors.FromObject(e.Object)
		}
		last = p
		return e.Type != watch.Deleted && done(p), nil
	})
	if err != nil {
		t.Fatalf("waiting for the pod %q until %s: %v\n%s", name, what, err, n.explain(namespace, name, last))
	}
	return last
}

// Gone deletes a pod and waits until it is gone.
func (n *Node) Gone(t *testing.T, namespace, name string) {
	t.Helper()
	if err := n.Client.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatalf("deleting the pod %q: %v", name, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	list := cache.NewListWatchFromClient(n.Client.CoreV1().RESTClient(), "pods", namespace, fields.OneTermEqualSelector("metadata.name", name))
	gone := func(s cache.Store) (bool, error) { return len(s.List()) == 0, nil }
	if _, err := watchtools.UntilWithSync(ctx, list, &corev1.Pod{}, gone, func(e watch.Event) (bool, error) { return e.Type == watch.Deleted, nil }); err != nil {
		t.Fatalf("waiting for the pod %q to be gone: %v", name, err)
	}
}

// explain says what is known of a pod that is not as it should be.
func (n *Node) explain(namespace, name string, last *corev1.Pod) string {
	var s strings.Builder
	if last != nil {
		fmt.Fprintf(&s, "status: %+v\n", last.Status)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	events, err := n.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
	if err != nil {
		return s.String()
	}
	for _, e := range events.Items {
		fmt.Fprintf(&s, "%s: %s\n", e.Reason, e.Message)
	}
	return s.String()
}

// Logs returns the log of a pod's first container.
func (n *Node) Logs(t *testing.T, namespace, name string) string {
	t.Helper()
	stream, err := n.Client.CoreV1().Pods(namespace).GetLogs(name, &corev1.PodLogOptions{}).Stream(t.Context())
	if err != nil {
		t.Fatalf("reading the log of %q: %v", name, err)
	}
	defer stream.Close()
	raw, err := io.ReadAll(stream)
	if err != nil {
		t.Fatalf("reading the log of %q: %v", name, err)
	}
	return string(raw)
}

// Exec runs a command in a pod's first container and returns what it prints.
func (n *Node) Exec(ctx context.Context, namespace, pod string, argv ...string) (string, error) {
	req := n.Client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: argv, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	exec, err := remotecommand.NewWebSocketExecutor(n.Rest, "GET", req.URL().String())
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	if err := exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}); err != nil {
		return stdout.String(), fmt.Errorf("running %q in %q: %w: %s", argv, pod, err, stderr.String())
	}
	return stdout.String(), nil
}

// Retry calls try until it succeeds, and fails the test where it does not in
// time. It is for what offers nothing to watch, such as rules of a kernel.
func Retry(t *testing.T, what string, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}
