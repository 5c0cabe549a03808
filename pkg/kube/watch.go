package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// Until waits by watch until done is true of one object, and returns the
// object as done saw it. obj is nil while the object does not exist. An error
// from done ends the wait.
func (c *Cluster) Until(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string,
	done func(obj *unstructured.Unstructured) (bool, error)) (*unstructured.Unstructured, error) {
	var last *unstructured.Unstructured
	opts := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	err := c.UntilList(ctx, gvr, namespace, opts, func(list []*unstructured.Unstructured) (bool, error) {
		last = nil
		if len(list) > 0 {
			last = list[0]
		}
		return done(last)
	})
	if err != nil {
		return last, fmt.Errorf("waiting for %s %q: %w", gvr.Resource, name, err)
	}
	return last, nil
}

// UntilList waits by watch until done is true of the list of objects that opts
// select (its label and field selectors). done is called once the list is
// complete and after every change; its objects must not be changed.
func (c *Cluster) UntilList(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts metav1.ListOptions,
	done func(list []*unstructured.Unstructured) (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := c.dynamic.Resource(gvr).Namespace(namespace)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector, o.FieldSelector = opts.LabelSelector, opts.FieldSelector
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector, o.FieldSelector = opts.LabelSelector, opts.FieldSelector
			return client.Watch(ctx, o)
		},
	}
	inf := cache.NewSharedIndexInformerWithOptions(lw, &unstructured.Unstructured{}, cache.SharedIndexInformerOptions{})
	var fatal refusal
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := inf.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		fatal.note(err)
		poke()
	}); err != nil {
		return fmt.Errorf("watching %s: %w", gvr.Resource, err)
	}
	if _, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() },
	}); err != nil {
		return fmt.Errorf("watching %s: %w", gvr.Resource, err)
	}
	var running sync.WaitGroup
	running.Go(func() { inf.RunWithContext(ctx) })
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) {
			poke()
		}
	})
	for {
		select {
		case <-ctx.Done():
			if last := fatal.last(); last != nil {
				return fmt.Errorf("watching %s: %w (the server last said: %w)", gvr.Resource, context.Cause(ctx), last)
			}
			return context.Cause(ctx)
		case <-changed:
			if err := fatal.err(); err != nil {
				return fmt.Errorf("watching %s: %w", gvr.Resource, err)
			}
			if !inf.HasSynced() {
				continue
			}
			ok, err := done(listOf(inf.GetStore()))
			if ok || err != nil {
				return err
			}
		}
	}
}

func listOf(store cache.Store) []*unstructured.Unstructured {
	items := store.List()
	out := make([]*unstructured.Unstructured, 0, len(items))
	for _, item := range items {
		if u, ok := item.(*unstructured.Unstructured); ok {
			out = append(out, u)
		}
	}
	return out
}

// refusal keeps what a watch failed with. A watch that the server refuses is
// over; one that broke is started again by the informer.
type refusal struct {
	mu    sync.Mutex
	fatal error
	seen  error
}

func (r *refusal) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = err
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsBadRequest(err) {
		r.fatal = err
	}
}

func (r *refusal) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fatal
}

func (r *refusal) last() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// Passing reports whether an error is one of a server that could not answer just
// now: it is busy, goes down or comes up, or the connection broke.
func Passing(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err)
}

// Denied reports whether the cluster refused the caller.
func Denied(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code == 401 || code == 403 && status.Status().Reason == metav1.StatusReasonForbidden
}
