package rollout

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// byOwner indexes objects by their controller, events by what they are about.
const byOwner = "owner"

// feed is one informer on one resource in one namespace, shared by all waits.
type feed struct {
	inf  cache.SharedIndexInformer
	done chan struct{} // closed when the list is complete or was refused

	mu   sync.Mutex
	err  error // the server refuses the watch
	last error
	subs map[chan struct{}]struct{}
	once sync.Once
}

// cached lists from the server's cache as it is, and watches on from there. The
// other way, a watch that begins with what there is, waits for up to 100 ms until
// the server knows that its cache is up to date; what came meanwhile comes by the
// watch as well.
type cached struct{ cache.ListWatch }

// IsWatchListSemanticsUnSupported is how client-go asks.
func (cached) IsWatchListSemanticsUnSupported() bool { return true }

func newFeed(ctx context.Context, running *sync.WaitGroup, client dynamic.Interface, gvr schema.GroupVersionResource, namespace string) (*feed, error) {
	res := client.Resource(gvr).Namespace(namespace)
	lw := &cached{cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return res.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return res.Watch(ctx, o)
		},
	}}
	f := &feed{done: make(chan struct{}), subs: map[chan struct{}]struct{}{}}
	f.inf = cache.NewSharedIndexInformerWithOptions(lw, &unstructured.Unstructured{},
		cache.SharedIndexInformerOptions{Indexers: cache.Indexers{byOwner: owners}})
	if err := f.inf.SetTransform(slim); err != nil {
		return nil, fmt.Errorf("watching %s: %w", gvr.Resource, err)
	}
	if err := f.inf.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { f.failed(err) }); err != nil {
		return nil, fmt.Errorf("watching %s: %w", gvr.Resource, err)
	}
	if _, err := f.inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { f.poke() }, UpdateFunc: func(any, any) { f.poke() }, DeleteFunc: func(any) { f.poke() },
	}); err != nil {
		return nil, fmt.Errorf("watching %s: %w", gvr.Resource, err)
	}
	running.Go(func() { f.inf.RunWithContext(ctx) })
	running.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), f.inf.HasSynced) {
			f.once.Do(func() { close(f.done) })
		}
	})
	return f, nil
}

// failed keeps a refusal; a watch that merely broke is started again by the informer.
func (f *feed) failed(err error) {
	f.mu.Lock()
	f.last = err
	refused := apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err)
	if refused {
		f.err = err
	}
	f.mu.Unlock()
	if refused {
		f.once.Do(func() { close(f.done) })
		f.poke()
	}
}

func (f *feed) refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *feed) trouble() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *feed) poke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch := range f.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (f *feed) subscribe(ch chan struct{}) (cancel func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[ch] = struct{}{}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subs, ch)
	}
}

func (f *feed) get(namespace, name string) runtime.Object {
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	item, ok, err := f.inf.GetStore().GetByKey(key)
	if err != nil || !ok {
		return nil
	}
	o, _ := item.(runtime.Object)
	return o
}

// claimKey is where the events about a claim are found by those who know only
// its name: the pods that use it.
func claimKey(name string) string { return "claim/" + name }

func owned[T any](f *feed, key string) []T {
	if f == nil {
		return nil
	}
	items, err := f.inf.GetIndexer().ByIndex(byOwner, key)
	if err != nil {
		return nil
	}
	var out []T
	for _, item := range items {
		if t, ok := item.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

func owners(obj any) ([]string, error) {
	if ev, ok := obj.(*corev1.Event); ok {
		about := []string{string(ev.InvolvedObject.UID)}
		if ev.InvolvedObject.Kind == "PersistentVolumeClaim" {
			about = append(about, claimKey(ev.InvolvedObject.Name))
		}
		return about, nil
	}
	o, ok := obj.(metav1.Object)
	if !ok {
		return nil, nil
	}
	if c := metav1.GetControllerOf(o); c != nil {
		return []string{string(c.UID)}, nil
	}
	return nil, nil
}
