// Package failures makes pods on the sandbox's fake nodes fail as they ask for
// by annotation, with the status and the events that a kubelet would write.
// kwok runs all other pods; its stages write events of a fixed text under
// its own name and know of no count, so that they cannot stand for a kubelet.
package failures

import (
	"context"
	_ "embed"
	"fmt"
	"log"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// Stage has kwok leave the pods that ask for a failure alone, until they are
// deleted. It outweighs kwok's own stages.
//
//go:embed stage.yaml
var Stage []byte

// NodeAnnotation marks the nodes that have no kubelet.
const NodeAnnotation = "kwok.x-k8s.io/node"

// Kubelet plays the kubelet of the pods that ask for a failure.
type Kubelet struct {
	client kubernetes.Interface
	log    *log.Logger
	events record.EventBroadcaster
	nodes  listers.NodeLister

	ctx     context.Context //nolint:containedctx // the life of all plays, ended by Run
	running sync.WaitGroup
	mu      sync.Mutex
	plays   map[types.UID]*playing
}

// playing is a play that was begun for what a pod asks.
type playing struct {
	asked string
	stop  context.CancelFunc
	ended chan struct{}
}

// New returns a kubelet that does nothing yet.
func New(client kubernetes.Interface, logger *log.Logger) *Kubelet {
	return &Kubelet{client: client, log: logger, plays: map[types.UID]*playing{}}
}

// Run plays until ctx ends. It calls ready once it has seen all pods.
func (k *Kubelet) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer k.running.Wait()
	defer cancel()
	k.ctx = ctx
	k.events = record.NewBroadcaster(record.WithContext(ctx))
	defer k.events.Shutdown()
	k.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: k.client.CoreV1().Events("")})

	factory := informers.NewSharedInformerFactory(k.client, 0)
	k.nodes = factory.Core().V1().Nodes().Lister()
	nodes, pods := factory.Core().V1().Nodes().Informer(), factory.Core().V1().Pods().Informer()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), nodes.HasSynced) {
		return ctx.Err()
	}
	// A node that is new is known before its pods are looked at.
	seen, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.see(o) },
		UpdateFunc: func(_, o any) { k.see(o) },
		DeleteFunc: k.gone,
	})
	if err != nil {
		return fmt.Errorf("watching the pods: %w", err)
	}
	if !cache.WaitForCacheSync(ctx.Done(), seen.HasSynced) {
		return ctx.Err()
	}
	ready()
	<-ctx.Done()
	return nil
}

// see begins, ends or changes the play of a pod.
func (k *Kubelet) see(o any) {
	pod, ok := o.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	have, asked := k.plays[pod.UID], asked(pod)
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		if have != nil {
			have.stop()
		}
		return
	}
	if have == nil && asked == "" || have != nil && have.asked == asked {
		return
	}
	if !k.fake(pod.Spec.NodeName) {
		return
	}
	ctx, stop := context.WithCancel(k.ctx)
	next := &playing{asked: asked, stop: stop, ended: make(chan struct{})}
	k.plays[pod.UID] = next
	k.running.Go(func() {
		defer close(next.ended)
		defer stop()
		if have != nil {
			have.stop()
			<-have.ended
		}
		k.perform(ctx, pod)
	})
}

func (k *Kubelet) gone(o any) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if have := k.plays[pod.UID]; have != nil {
		have.stop()
		delete(k.plays, pod.UID)
	}
}

func (k *Kubelet) fake(node string) bool {
	n, err := k.nodes.Get(node)
	return err == nil && n.Annotations[NodeAnnotation] == "fake"
}

// perform plays until the pod is healed or gone; what the API server refuses
// is tried again from where the pod is then.
func (k *Kubelet) perform(ctx context.Context, pod *corev1.Pod) {
	for {
		err := k.play(ctx, pod)
		if err == nil || ctx.Err() != nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return // a conflict: another pod has the name by now
		}
		k.log.Printf("%v", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (k *Kubelet) play(ctx context.Context, seen *corev1.Pod) error {
	pods := k.client.CoreV1().Pods(seen.Namespace)
	pod, err := pods.Get(ctx, seen.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading pod %s/%s: %w", seen.Namespace, seen.Name, err)
	}
	if pod.UID != seen.UID {
		return nil
	}
	p := &play{
		ctx: ctx, pods: pods, state: newPodState(pod, k.hostIP(pod.Spec.NodeName)),
		events: k.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: pod.Spec.NodeName}),
	}
	if asked(pod) == "" {
		return p.heal()
	}
	if p.request, err = parse(pod); err != nil {
		// The kubelet is no party to this: the one who asked is told.
		k.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "slipway-sandbox"}).
			Eventf(p.ref(), corev1.EventTypeWarning, "BadFailureRequest", "%v", err)
		return nil
	}
	what := kinds()[p.request.Kind]
	if what.early && begun(p.target()) || what.init && p.target().Ready {
		return nil // it is past where this failure happens
	}
	return what.play(p)
}

func (k *Kubelet) hostIP(node string) string {
	n, err := k.nodes.Get(node)
	if err != nil {
		return ""
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}
