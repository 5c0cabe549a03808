package quarantine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/tools/backup/internal/mark"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// TestLeftover: only what carries our label with an end that can be read, and
// that is over, is ever deleted.
func TestLeftover(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]bool{
		"20261123T115959Z": true, "20261123T120000Z": false, "20261123T120001Z": false,
		"": false, "yesterday": false, "20261123": false,
	} {
		l := leftover("Namespace", "n", "u", map[string]string{mark.Drill: "d", mark.Expires: value}, now)
		if l.Expired != want {
			t.Errorf("%q expired is %t at %s", value, l.Expired, now)
		}
	}
}

func TestPolicyClosesBothWays(t *testing.T) {
	p := policy("drill-x")
	if len(p.Spec.PolicyTypes) != 2 || len(p.Spec.PodSelector.MatchLabels) != 0 {
		t.Errorf("the policy does not hold every pod in both directions: %+v", p.Spec)
	}
	for _, rule := range p.Spec.Ingress {
		for _, peer := range rule.From {
			if peer.IPBlock != nil || peer.NamespaceSelector == nil || peer.NamespaceSelector.MatchLabels[mark.Drill] != "drill-x" {
				t.Errorf("the policy lets in %+v", peer)
			}
		}
	}
	for _, rule := range p.Spec.Egress {
		for _, peer := range rule.To {
			if peer.IPBlock != nil || peer.NamespaceSelector == nil || len(peer.NamespaceSelector.MatchLabels) == 0 {
				t.Errorf("the policy lets out to %+v", peer)
			}
		}
	}
}

func TestVolumesOf(t *testing.T) {
	volume := func(name, namespace, policy string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"persistentVolumeReclaimPolicy": policy,
			"claimRef": map[string]any{"namespace": namespace, "name": "data"}}}}
		u.SetName(name)
		return u
	}
	unbound := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"persistentVolumeReclaimPolicy": "Retain"}}}
	left, going := volumesOf([]*unstructured.Unstructured{volume("kept", "drill-a", "Retain"), volume("going", "drill-b", "Delete"), volume("other", "orders", "Retain"), unbound}, []string{"drill-a", "drill-b"})
	if strings.Join(left, "|") != "going of claim drill-b/data (Delete)|kept of claim drill-a/data (Retain)" || going != 1 {
		t.Errorf("left %q, %d of them going", left, going)
	}
}

func TestSame(t *testing.T) {
	known := Leftover{Kind: KindRestore, Name: "d", UID: "1"}
	for other, want := range map[Leftover]bool{
		known:                                      true,
		{Kind: KindRestore, Name: "d"}:             true,
		{Kind: KindRestore, Name: "d", UID: "2"}:   false,
		{Kind: KindNamespace, Name: "d", UID: "1"}: false,
		{Kind: KindRestore, Name: "e", UID: "1"}:   false,
	} {
		if known.Same(other) != want || other.Same(known) != want {
			t.Errorf("%+v is the same: %t", other, !want)
		}
	}
}

// here is the sandbox's cluster, with a namespace for Velero's objects that no
// Velero looks after: a restore in it never ends.
type here struct {
	Area
	t      *testing.T
	prefix string
	ctx    context.Context //nolint:containedctx // ended when the log has shown want
	cancel context.CancelFunc

	mu   sync.Mutex
	log  []string
	want []string // lines after which ctx ends
}

func open(t *testing.T) *here {
	t.Helper()
	sb := sandboxtest.Open(t)
	c, err := kube.New(kube.Config{Kubeconfig: sb.Clusters["nonprod"].Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	h := &here{t: t, prefix: sb.Namespace(t, "nonprod")}
	h.ctx, h.cancel = context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(h.cancel)
	h.Area = Area{Cluster: c, Log: h.printf, settle: 100 * time.Millisecond,
		Velero: &velero.Client{Cluster: c, Namespace: h.prefix, Progress: h.printf, Stall: time.Hour}}
	return h
}

func (h *here) printf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf(format, args...))
	if len(h.want) == 0 {
		return
	}
	for _, line := range h.want {
		if !strings.Contains(strings.Join(h.log, "\n"), line) {
			return
		}
	}
	h.cancel()
}

// namespace makes one. It has no drill's label: other tests sweep in the same
// cluster, and must not meet what hangs here.
func (h *here) namespace(name string) Leftover {
	h.t.Helper()
	api := h.Cluster.Clientset().CoreV1().Namespaces()
	made, err := api.Create(h.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.prefix + "-" + name}}, metav1.CreateOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := api.Delete(context.Background(), made.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			h.t.Error(err)
		}
	})
	return Leftover{Kind: KindNamespace, Name: made.Name, UID: string(made.UID)}
}

// TestWhatHangs: neither a restore that never ends nor a namespace that is held
// keeps anything else from being taken away.
func TestWhatHangs(t *testing.T) {
	h := open(t)
	held, free := h.namespace("held"), h.namespace("free")
	maps := h.Cluster.Clientset().CoreV1().ConfigMaps(held.Name)
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "holds", Finalizers: []string{"slipway.dev/test"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := maps.Update(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "holds"}}, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	})
	restore := Leftover{Kind: KindRestore, Name: "r-" + h.prefix}
	if err := h.Velero.CreateRestore(t.Context(), velero.Restore{Meta: velero.Meta{Name: restore.Name}, Spec: velero.RestoreSpec{BackupName: "b", IncludedNamespaces: []string{"a"}}}); err != nil {
		t.Fatal(err)
	}
	h.Settle(h.ctx, restore.Name)
	if want := "restore " + restore.Name + " has not ended"; !strings.Contains(strings.Join(h.log, "\n"), want) {
		t.Errorf("log %q lacks %q", h.log, want)
	}
	h.want = []string{"namespace " + free.Name + " is gone", "restore " + restore.Name + " is gone"}
	list := []Leftover{held, free, restore}
	err := h.Delete(h.ctx, list)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("deleting namespace %q: ", held.Name)) {
		t.Errorf("error %v, want the namespace that is held", err)
	}
	if list[0].Deleted || !list[1].Deleted || !list[2].Deleted {
		t.Errorf("deleted %+v; log:\n%s", list, strings.Join(h.log, "\n"))
	}
}

// TestVolumesThatStay: a volume that its reclaim policy keeps is named.
func TestVolumesThatStay(t *testing.T) {
	h := open(t)
	ns := h.namespace("volume")
	volumes := h.Cluster.Clientset().CoreV1().PersistentVolumes()
	kept, err := volumes.Create(t.Context(), &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: h.prefix}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
		ClaimRef:                      &corev1.ObjectReference{Namespace: ns.Name, Name: "data"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := volumes.Delete(context.Background(), kept.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	list := []Leftover{ns}
	err = h.Delete(h.ctx, list)
	if want := "volumes are left behind: " + kept.Name + " of claim " + ns.Name + "/data (Retain)"; err == nil || err.Error() != want || !list[0].Deleted {
		t.Errorf("deleted %+v, error %v, want %q", list[0], err, want)
	}
}
