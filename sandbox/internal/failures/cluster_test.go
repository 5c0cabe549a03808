package failures

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/retry"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/rollout"
)

// cluster is a namespace of its own in the sandbox's cluster.
type cluster struct {
	*kubernetes.Clientset
	dyn    dynamic.Interface
	mapper meta.RESTMapper
	ns     string
	from   metav1.ListOptions // a version from before the test did anything
}

func (c cluster) Dynamic() dynamic.Interface       { return c.dyn }
func (c cluster) Mapper() (meta.RESTMapper, error) { return c.mapper, nil }

func open(t *testing.T) cluster {
	t.Helper()
	sb := sandboxtest.Open(t)
	rc := sb.Rest(t, "nonprod")
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(discovery.NewDiscoveryClientForConfigOrDie(rc))
	if err != nil {
		t.Fatal(err)
	}
	ns := sb.Namespace(t, "nonprod")
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}}
	if _, err := client.CoreV1().ConfigMaps(ns).Create(t.Context(), settings, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cluster{client, dyn, restmapper.NewDiscoveryRESTMapper(groups), ns, metav1.ListOptions{ResourceVersion: before.ResourceVersion}}
}

// patience is how long a test waits for what must come.
func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("it took longer than two minutes"))
	t.Cleanup(cancel)
	return ctx
}

// observe calls see with each state of each pod, and with each event about
// one, from the first on, until see says that it has seen enough.
func (c cluster) observe(ctx context.Context, see func(*corev1.Pod, *corev1.Event) bool) error {
	pods, err := c.CoreV1().Pods(c.ns).Watch(ctx, c.from)
	if err != nil {
		return fmt.Errorf("watching the pods: %w", err)
	}
	defer pods.Stop()
	events, err := c.CoreV1().Events(c.ns).Watch(ctx, c.from)
	if err != nil {
		return fmt.Errorf("watching the events: %w", err)
	}
	defer events.Stop()
	known := map[types.UID]*corev1.Pod{}
	early := map[types.UID][]*corev1.Event{} // about pods that are not known yet
	for {
		var w watch.Event
		var open bool
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case w, open = <-pods.ResultChan():
		case w, open = <-events.ResultChan():
		}
		if !open {
			return errors.New("the watch ended")
		}
		done := false
		switch o := w.Object.(type) {
		case *corev1.Pod:
			if w.Type == watch.Deleted {
				continue
			}
			known[o.UID] = o
			done = see(o, nil)
			for _, e := range early[o.UID] {
				done = see(o, e) || done
			}
			delete(early, o.UID)
		case *corev1.Event:
			if p := known[o.InvolvedObject.UID]; p != nil {
				done = see(p, o)
			} else {
				early[o.InvolvedObject.UID] = append(early[o.InvolvedObject.UID], o)
			}
		case runtime.Object:
			return fmt.Errorf("watching: %v", o)
		}
		if done {
			return nil
		}
	}
}

// apply makes the deployment, or changes it to what is given.
func (c cluster) apply(t *testing.T, d *appsv1.Deployment) []*unstructured.Unstructured {
	t.Helper()
	deployments, spec := c.AppsV1().Deployments(c.ns), d.Spec
	d, err := deployments.Create(t.Context(), d, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if d, err = deployments.Get(t.Context(), "orders", metav1.GetOptions{}); err != nil {
				return err
			}
			d.Spec = spec
			d, err = deployments.Update(t.Context(), d, metav1.UpdateOptions{})
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment"}}
	u.SetName(d.Name)
	u.SetNamespace(c.ns)
	u.SetGeneration(d.Generation)
	return []*unstructured.Unstructured{u}
}

// wait runs the product's own wait for the deployment.
func (c cluster) wait(ctx context.Context, objects []*unstructured.Unstructured, stable time.Duration) error {
	_, err := rollout.Wait(ctx, c, objects, rollout.Options{Stable: stable})
	return err
}
