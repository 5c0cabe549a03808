package netpolicy

import (
	"context"
	"io"
	"log"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

// running is an enforcer over a cluster that is none, whose rules come on a
// channel instead of to the kernel.
type running struct {
	client *fake.Clientset
	socket string
	rules  chan string
}

func startEnforcer(t *testing.T, w World) *running {
	t.Helper()
	r := &running{client: fake.NewClientset(), socket: filepath.Join(t.TempDir(), "socket"), rules: make(chan string, 100)}
	for _, n := range w.Namespaces {
		must(t, r.client.Tracker().Add(n))
	}
	for _, p := range w.Pods {
		must(t, r.client.Tracker().Add(p))
	}
	for _, p := range w.Policies {
		must(t, r.client.Tracker().Add(p))
	}
	e := &enforcer{client: r.client, o: Options{Node: w.Node, Log: log.New(io.Discard, "", 0)}, announced: newAnnounced(), changed: make(chan struct{}, 1)}
	e.set = func(_ context.Context, rules string) error { r.rules <- rules; return nil }
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", r.socket)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- e.announced.serve(ctx, l, e.tell) }()
	go func() { ended <- e.enforce(ctx, make(chan struct{})) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			must(t, <-ended)
		}
	})
	<-r.rules // the first, so that all is known
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A pod that has no address in the API server yet is guarded by the time that
// its announcement is answered.
func TestAnnouncedPodIsGuarded(t *testing.T) {
	w := shop(policy(t, `podSelector: {}`))
	w.Pods = []*corev1.Pod{podAt("shop", "new", "", func(p *corev1.Pod) { p.UID = "new-uid" })}
	r := startEnforcer(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, announcement{UID: "new-uid", Namespace: "shop", Name: "new", Address: "10.16.0.7"}.send(ctx, r.socket))
	if rules := <-r.rules; !strings.Contains(rules, "chain in-10.16.0.7 {") {
		t.Errorf("the rules are\n%s", rules)
	}
}

// A pod that the enforcer has not heard of waits until it has.
func TestAnnouncedPodThatIsNotKnownYet(t *testing.T) {
	r := startEnforcer(t, shop(policy(t, `podSelector: {}`)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- announcement{UID: "late-uid", Namespace: "shop", Name: "late", Address: "10.16.0.8"}.send(ctx, r.socket)
	}()
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	select {
	case err := <-done:
		t.Fatalf("it does not wait: %v", err)
	case <-short.Done():
	}
	late := podAt("shop", "late", "", func(p *corev1.Pod) { p.UID = "late-uid" })
	if _, err := r.client.CoreV1().Pods("shop").Create(ctx, late, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	must(t, <-done)
	if rules := <-r.rules; !strings.Contains(rules, "chain in-10.16.0.8 {") {
		t.Errorf("the rules are\n%s", rules)
	}
}

func TestAnnouncementsThatAreWrong(t *testing.T) {
	r := startEnforcer(t, shop())
	for want, a := range map[string]announcement{"uid": {Address: "10.16.0.9"}, "ParseAddr": {UID: "uid", Address: "here"}} {
		if err := a.send(t.Context(), r.socket); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// Addresses are forgotten with their pods, and not before those are known.
func TestClaimsAreForgotten(t *testing.T) {
	a := newAnnounced()
	c := a.add("uid", netip.MustParseAddr("10.16.0.7"))
	if _, found := a.apply(nil); len(found) != 0 || len(a.byUID) != 1 {
		t.Errorf("before the pod is known: %v", a.byUID)
	}
	pod := podAt("shop", "new", "10.16.0.2", func(p *corev1.Pod) { p.UID = types.UID("uid") })
	pods, found := a.apply([]*corev1.Pod{pod})
	if len(found) != 1 || pods[0].Status.PodIP != "10.16.0.7" || pod.Status.PodIP != "10.16.0.2" {
		t.Errorf("%v: %q in the copy, %q in the cache", found, pods[0].Status.PodIP, pod.Status.PodIP)
	}
	close(c.set)
	if a.apply(nil); len(a.byUID) != 0 {
		t.Errorf("after the pod is gone: %v", a.byUID)
	}
}

// The plugin fails where nobody answers, so that kubelet tries again; the pod
// does not start unguarded.
func TestPluginWithoutAnEnforcer(t *testing.T) {
	err := announce(&skel.CmdArgs{
		Args:      "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=new;K8S_POD_UID=uid",
		StdinData: []byte(`{"cniVersion": "0.4.0", "name": "sandbox", "type": "network-policy", "socket": "` + t.TempDir() + `/none", "prevResult": {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.16.0.7/32"}]}}`),
	})
	if err == nil || !strings.Contains(err.Error(), `"shop/new"`) {
		t.Errorf("the error is %v", err)
	}
}
