package rollout

import (
	"context"
	"fmt"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Cluster is what a watch needs of a cluster.
type Cluster interface {
	Dynamic() dynamic.Interface
	Mapper() (meta.RESTMapper, error)
}

// Watcher keeps one informer for each resource and namespace, shared by all
// waits of a run. Close ends them.
type Watcher struct {
	cluster Cluster
	ctx     context.Context //nolint:containedctx // the life of the informers, ended by Close
	stop    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	feeds map[feedKey]*feed
}

type feedKey struct {
	gvr       schema.GroupVersionResource
	namespace string
}

// NewWatcher returns a watcher that starts its informers as waits need them.
func NewWatcher(cluster Cluster) *Watcher {
	ctx, stop := context.WithCancel(context.Background())
	return &Watcher{cluster: cluster, ctx: ctx, stop: stop, feeds: map[feedKey]*feed{}}
}

// Close ends all informers and waits for their end.
func (w *Watcher) Close() {
	w.stop()
	w.running.Wait()
}

func (w *Watcher) feed(gvr schema.GroupVersionResource, namespace string) (*feed, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := feedKey{gvr, namespace}
	if f, ok := w.feeds[key]; ok && f.refused() == nil {
		return f, nil
	}
	f, err := newFeed(w.ctx, &w.running, w.cluster.Dynamic(), gvr, namespace)
	if err != nil {
		return nil, err
	}
	w.feeds[key] = f
	return f, nil
}

// watched is a namespace's feeds of what belongs to workloads. Each may be
// missing, where the caller may not read it; then only diagnosis suffers.
type watched struct {
	sets, pods, events, revisions *feed
}

// ReplicaSetsOf returns the replica sets of a deployment.
func (n watched) ReplicaSetsOf(uid types.UID) []*appsv1.ReplicaSet {
	return owned[*appsv1.ReplicaSet](n.sets, string(uid))
}

// PodsOf returns the pods of a controller.
func (n watched) PodsOf(uid types.UID) []*corev1.Pod { return owned[*corev1.Pod](n.pods, string(uid)) }

// EventsOf returns the events about an object.
func (n watched) EventsOf(uid types.UID) []*corev1.Event {
	return owned[*corev1.Event](n.events, string(uid))
}

// EventsOfClaim returns the events about the claim of a name.
func (n watched) EventsOfClaim(name string) []*corev1.Event {
	return owned[*corev1.Event](n.events, claimKey(name))
}

// RevisionsOf returns the revisions of a daemon set.
func (n watched) RevisionsOf(uid types.UID) []*appsv1.ControllerRevision {
	return owned[*appsv1.ControllerRevision](n.revisions, string(uid))
}

// target is one object of a wait.
type target struct {
	ref     Ref
	wanted  int64
	feed    *feed
	related watched
}

// hasPods are the kinds whose pods are judged.
func hasPods(gk schema.GroupKind) bool {
	switch gk.Group {
	case "apps":
		return gk.Kind == "Deployment" || gk.Kind == "StatefulSet" || gk.Kind == "DaemonSet"
	case "batch":
		return gk.Kind == "Job"
	}
	return gk.Group == "" && gk.Kind == "Pod"
}

// AddressAnnotation on a Service of type LoadBalancer makes a wait include its
// address, with the value "true". Without it a missing one is a warning.
const AddressAnnotation = "slipway.dev/wait-for-address"

// judged reports whether an object has a state to wait for: the kinds with
// rules and custom resources. The rest is ready by being there.
func judged(o *unstructured.Unstructured) bool {
	gk := o.GroupVersionKind().GroupKind()
	switch {
	case hasPods(gk), gk.Group == "" && gk.Kind == "PersistentVolumeClaim",
		gk.Group == "apiextensions.k8s.io" && gk.Kind == "CustomResourceDefinition",
		gk.Group == "apiregistration.k8s.io" && gk.Kind == "APIService":
		return true
	case gk.Group == "" && gk.Kind == "Service":
		return o.GetAnnotations()[AddressAnnotation] == "true"
	}
	return strings.Contains(gk.Group, ".") && !strings.HasSuffix(gk.Group, ".k8s.io")
}

// targets starts what the wait for the objects needs.
func (w *Watcher) targets(objects []*unstructured.Unstructured) ([]target, error) {
	mapper, err := w.cluster.Mapper()
	if err != nil {
		return nil, err
	}
	var out []target
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		if !judged(o) {
			continue
		}
		m, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return nil, fmt.Errorf("finding the resource of %s: %w", RefOf(o), err)
		}
		ns := o.GetNamespace()
		if m.Scope.Name() != meta.RESTScopeNameNamespace {
			ns = ""
		}
		t := target{ref: RefOf(o), wanted: o.GetGeneration()}
		if t.feed, err = w.feed(m.Resource, ns); err != nil {
			return nil, err
		}
		if hasPods(gvk.GroupKind()) || gvk.Group == "" {
			if t.related, err = w.related(ns, gvk.Kind); err != nil {
				return nil, err
			}
		}
		out = append(out, t)
	}
	return out, nil
}

func (w *Watcher) related(namespace, kind string) (n watched, err error) {
	core, apps := schema.GroupVersion{Version: "v1"}, appsv1.SchemeGroupVersion
	for _, f := range []struct {
		to     **feed
		gvr    schema.GroupVersionResource
		wanted bool
	}{
		{&n.events, core.WithResource("events"), true},
		{&n.pods, core.WithResource("pods"), kind != "PersistentVolumeClaim" && kind != "Service"},
		{&n.sets, apps.WithResource("replicasets"), kind == "Deployment"},
		{&n.revisions, apps.WithResource("controllerrevisions"), kind == "DaemonSet"},
	} {
		if !f.wanted {
			continue
		}
		if *f.to, err = w.feed(f.gvr, namespace); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Warm starts what a wait for the objects will need, and does not wait for it:
// the first lists take as long as a server needs to see that they are complete.
// What cannot be watched is told by the wait.
func (w *Watcher) Warm(objects []*unstructured.Unstructured) {
	_, _ = w.targets(objects)
}

func (t target) feeds() []*feed {
	var out []*feed
	for _, f := range []*feed{t.feed, t.related.sets, t.related.pods, t.related.events, t.related.revisions} {
		if f != nil {
			out = append(out, f)
		}
	}
	return out
}

// beside reads, once, the objects that make no workload ready or not, and are
// worth a warning: autoscalers, disruption budgets, addresses.
func (w *Watcher) beside(ctx context.Context, objects []*unstructured.Unstructured) []Evidence {
	var out []Evidence
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		switch gvk.GroupKind() {
		case schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}, schema.GroupKind{Group: "policy", Kind: "PodDisruptionBudget"},
			schema.GroupKind{Group: "networking.k8s.io", Kind: "Ingress"}:
		case schema.GroupKind{Kind: "Service"}:
			if kind, _, _ := unstructured.NestedString(o.Object, "spec", "type"); kind != "LoadBalancer" || judged(o) {
				continue
			}
		default:
			continue
		}
		mapper, err := w.cluster.Mapper()
		if err != nil {
			continue
		}
		m, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			continue
		}
		live, err := w.cluster.Dynamic().Resource(m.Resource).Namespace(o.GetNamespace()).Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			continue // a warning less
		}
		out = append(out, Evidence{Workload: RefOf(live), Live: slimCustom(live)})
	}
	return out
}
