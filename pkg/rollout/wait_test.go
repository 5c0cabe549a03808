package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/retry"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// real is the cluster of the sandbox.
type real struct {
	dyn    dynamic.Interface
	mapper meta.RESTMapper
	*kubernetes.Clientset
}

func (r real) Dynamic() dynamic.Interface       { return r.dyn }
func (r real) Mapper() (meta.RESTMapper, error) { return r.mapper, nil }

func open(t *testing.T) (real, string) {
	t.Helper()
	sb := sandboxtest.Open(t)
	rc := sb.Rest(t, "nonprod")
	dyn, err := dynamic.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(discovery.NewDiscoveryClientForConfigOrDie(rc))
	if err != nil {
		t.Fatal(err)
	}
	return real{dyn, restmapper.NewDiscoveryRESTMapper(groups), kubernetes.NewForConfigOrDie(rc)}, sb.Namespace(t, "nonprod")
}

// workload is a deployment for the sandbox's fake nodes. Its pods are ready at
// once, or never, where fail says so.
func workload(fail bool) *appsv1.Deployment {
	labels := map[string]string{"app": "orders"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "orders"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "example.com/orders:1"}}}}}}
	if fail {
		// No scheduler takes it, so the test itself is the kubelet of this pod.
		d.Spec.Template.Spec.SchedulerName = "none"
	}
	return d
}

func wanted(ns string, generation int64) []*unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment"}}
	u.SetName("orders")
	u.SetNamespace(ns)
	u.SetGeneration(generation)
	return []*unstructured.Unstructured{u}
}

func TestWaitUntilReadyAndStable(t *testing.T) {
	c, ns := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := c.AppsV1().Deployments(ns).Create(ctx, workload(false), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Wait(ctx, c, wanted(ns, d.Generation), Options{Stable: 200 * time.Millisecond, Progress: func(l string) { t.Log(l) }})
	if err != nil || len(got.Objects) != 1 || !got.Objects[0].Ready || got.Took < 200*time.Millisecond {
		t.Fatalf("result %+v, error %v", got, err)
	}
}

// TestTerminalCauseEndsTheWait plays the kubelet for one pod: an image that
// does not exist is told within seconds, and a pod of an older revision that
// has the same trouble is not.
func TestTerminalCauseEndsTheWait(t *testing.T) {
	c, ns := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := c.AppsV1().Deployments(ns).Create(ctx, workload(true), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		w, err := c.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{LabelSelector: "app=orders"})
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Stop()
		for ev := range w.ResultChan() {
			p, ok := ev.Object.(*corev1.Pod)
			if !ok || len(p.Status.ContainerStatuses) > 0 || p.DeletionTimestamp != nil {
				continue
			}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("ErrImagePull", "not found")}
			if _, err := c.CoreV1().Pods(ns).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err == nil {
				return
			}
		}
	}()
	_, err = Wait(ctx, c, wanted(ns, d.Generation), Options{})
	var failure *Failure
	if !errors.As(err, &failure) || failure.Finding.Class != ClassImage || failure.Finding.Container != "app" {
		t.Fatalf("error %v, want the image's finding", err)
	}
	// The controller writes the status at the same time.
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() (err error) {
		if d, err = c.AppsV1().Deployments(ns).Get(ctx, "orders", metav1.GetOptions{}); err != nil {
			return err
		}
		d.Spec.Template = workload(false).Spec.Template
		d.Spec.Template.Labels["fixed"] = "yes"
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		d, err = c.AppsV1().Deployments(ns).Update(ctx, d, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Wait(ctx, c, wanted(ns, d.Generation), Options{}); err != nil {
		t.Fatalf("the mending revision: %v", err)
	}
}

// TestFailedPodEndsTheWait: a hook's pod that failed is told with the end of its
// log. The test is the pod's kubelet.
func TestFailedPodEndsTheWait(t *testing.T) {
	c, ns := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	spec := workload(true).Spec.Template.Spec
	spec.RestartPolicy = corev1.RestartPolicyNever
	p, err := c.CoreV1().Pods(ns).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "hook"}, Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status.Phase = corev1.PodFailed
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}}}}
	if _, err := c.CoreV1().Pods(ns).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod"}}
	u.SetName("hook")
	u.SetNamespace(ns)
	_, err = Wait(ctx, c, []*unstructured.Unstructured{u}, Options{Completed: true, Logs: func(_ context.Context, _, pod, container string, previous bool) (string, error) {
		return fmt.Sprintf("%s/%s previous=%t", pod, container, previous), nil
	}})
	var failure *Failure
	if !errors.As(err, &failure) || failure.Timeout != nil || failure.Finding.LogTail != "hook/app previous=false" || !strings.Contains(err.Error(), "exit code 3") {
		t.Fatalf("error %v, want the pod's end and its log", err)
	}
}

func TestTimeoutNamesTheObject(t *testing.T) {
	c, ns := open(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("it took longer than 300ms"))
	defer cancel()
	_, err := Wait(ctx, c, wanted(ns, 0), Options{})
	if err == nil || err.Error() != "waiting for Deployment "+ns+"/orders: not there yet: it took longer than 300ms" {
		t.Fatalf("error %v", err)
	}
}
