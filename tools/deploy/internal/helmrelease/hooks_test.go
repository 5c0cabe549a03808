package helmrelease

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/pkg/tool"
)

func hook(name, event, more, spec string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", annotations: {helm.sh/hook: " + event + more + "}}\ndata: {" + spec + "}\n"
}

// TestHooksRunInTheirOrder: by weight, at their events, cleared by their
// policies, and not at all where nothing changes.
func TestHooksRunInTheirOrder(t *testing.T) {
	w := newWorld(t)
	chart := func(v string) Spec {
		return w.spec("orders", "templates/a.yaml", config("a", "v: "+v),
			"templates/h1.yaml", hook("late", "pre-install", `, helm.sh/hook-weight: "5"`, "a: b"),
			"templates/h2.yaml", hook("early", "pre-install", `, helm.sh/hook-weight: "-5", helm.sh/hook-delete-policy: hook-succeeded`, "a: b"),
			"templates/h3.yaml", hook("after", "post-upgrade", "", "a: b"))
	}
	counted := w.proxied()
	counted.apply(chart("one"))
	var made []string
	for _, c := range counted.log.Mutating() {
		if strings.HasSuffix(c.Action, "configmaps") {
			made = append(made, c.Action)
		}
	}
	if got := strings.Join(made, ", "); got != "create configmaps, create configmaps, delete configmaps, create configmaps" {
		t.Errorf("calls: %s", got)
	}
	w.gone(configMaps, "early")
	w.get(configMaps, "late")
	w.unchanged(chart("one"))
	w.gone(configMaps, "after")
	w.apply(chart("two"))
	first := w.get(configMaps, "after")
	w.apply(chart("three"))
	if again := w.get(configMaps, "after"); again.GetUID() == first.GetUID() {
		t.Errorf("the hook of the last time is still there: %v", again.Object)
	}
}

// TestHookThatFails ends the release before its objects are touched.
func TestHookThatFails(t *testing.T) {
	w := newWorld(t)
	w.apply(w.spec("orders", "templates/a.yaml", config("a", "v: one")))
	job := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, annotations: {helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: hook-failed}}\n" +
		"spec: {template: {spec: {schedulerName: none, restartPolicy: Never, containers: [{name: a, image: a}]}}}\n"
	p := w.plan(w.spec("orders", "templates/a.yaml", config("a", "v: two"), "templates/h.yaml", job))
	w.must(p.Err())
	o, err := w.client.Apply(t.Context(), p, Wait{Timeout: 2 * time.Second})
	if err == nil || o.Revision != 2 || !o.Changed {
		t.Errorf("outcome %+v, error %v", o, err)
	}
	if got := field(w.get(configMaps, "a"), "data", "v"); got != "one" || w.statuses() != "deployed failed" {
		t.Errorf("the object is at %v, history %s", got, w.statuses())
	}
	if _, err := w.cluster.Clientset().BatchV1().Jobs(w.namespace).Get(t.Context(), "migrate", metav1.GetOptions{}); err == nil {
		t.Error("the failed hook is still there")
	}
}

// TestHookOfSomebodyElse: what has the name of a hook and is not the release's
// is never deleted for it, whether it is found beforehand or comes later.
func TestHookOfSomebodyElse(t *testing.T) {
	w := newWorld(t)
	chart := func(name, v string) Spec {
		return w.spec(name, "templates/a.yaml", config("{{ .Release.Name }}", "v: "+v), "templates/h.yaml", hook("prepare", `"pre-install,pre-upgrade"`, "", "a: b"))
	}
	w.byHand("prepare")
	w.proxied().refused(chart("orders", "one"), tool.Failed, "orders/templates/h.yaml: ConfigMap "+w.namespace+"/prepare: it exists already and belongs to no release")
	w.must(w.cluster.Clientset().CoreV1().ConfigMaps(w.namespace).Delete(t.Context(), "prepare", metav1.DeleteOptions{}))
	p := w.plan(chart("orders", "one"))
	w.must(p.Err())
	w.byHand("prepare")
	if _, err := w.client.Apply(t.Context(), p, Wait{Timeout: time.Minute}); err == nil || !strings.Contains(err.Error(), "replacing hook ConfigMap "+w.namespace+"/prepare: it exists already") {
		t.Errorf("error %v", err)
	}
	if got := field(w.get(configMaps, "prepare"), "data", "made"); got != "by hand" {
		t.Errorf("what was made by hand is %v", got)
	}
	w.must(w.cluster.Clientset().CoreV1().ConfigMaps(w.namespace).Delete(t.Context(), "prepare", metav1.DeleteOptions{}))

	w.apply(chart("orders", "one"))
	w.proxied().refused(chart("second", "one"), tool.Failed, "/prepare: it belongs to release "+w.namespace+"/orders")
	w.apply(chart("orders", "two"))

	// Helm puts no mark on a hook: the records of its release tell of it.
	w.patch(configMaps, "prepare", `{"metadata": {"annotations": {"`+releaseName+`": null, "`+releaseNamespace+`": null}}}`)
	w.proxied().refused(chart("second", "one"), tool.Failed, "/prepare: it exists already and belongs to no release")
	w.apply(chart("orders", "three"))
}

// TestHookOfARollback: Helm's own code runs those, and would delete anything.
func TestHookOfARollback(t *testing.T) {
	w := newWorld(t)
	chart := func(v string) Spec {
		return w.spec("orders", "templates/a.yaml", config("a", "v: "+v), "templates/h.yaml", hook("undo", "pre-rollback", "", "a: b"))
	}
	w.apply(chart("one"))
	w.apply(chart("two"))
	w.byHand("undo")
	if _, err := w.client.Rollback(t.Context(), w.namespace, "orders", 1, Wait{Timeout: time.Minute}); err == nil || !strings.Contains(err.Error(), "replacing hook ConfigMap "+w.namespace+"/undo") {
		t.Errorf("error %v", err)
	}
	if got := field(w.get(configMaps, "undo"), "data", "made"); got != "by hand" {
		t.Errorf("what was made by hand is %v", got)
	}
	w.must(w.cluster.Clientset().CoreV1().ConfigMaps(w.namespace).Delete(t.Context(), "undo", metav1.DeleteOptions{}))
	for range 2 { // the second time over what the first one left
		_, err := w.client.Rollback(t.Context(), w.namespace, "orders", 1, Wait{Timeout: time.Minute})
		w.must(err)
	}
	if got := ownerOf(w.get(configMaps, "undo")); got != w.namespace+"/orders" {
		t.Errorf("the hook is of release %q", got)
	}
}

// TestHookThatAnEarlierRunStarted is waited for while it works, and no pod of
// it is left when the next one starts.
func TestHookThatAnEarlierRunStarted(t *testing.T) {
	w := newWorld(t)
	job := func(v string) Spec {
		return w.spec("orders", "templates/a.yaml", config("a", "v: "+v), "templates/h.yaml",
			"apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, annotations: {helm.sh/hook: \"pre-install,pre-upgrade\"}}\n"+
				"spec: {backoffLimit: 0, template: {metadata: {labels: {job: migrate}}, spec: {schedulerName: none, terminationGracePeriodSeconds: 0, restartPolicy: Never, containers: [{name: a, image: a}]}}}\n")
	}
	pods, jobs := w.cluster.Clientset().CoreV1().Pods(w.namespace), w.cluster.Clientset().BatchV1().Jobs(w.namespace)
	labelled := metav1.ListOptions{LabelSelector: "job=migrate"}
	// first is the pod of the first run, whose kubelet the test plays.
	ctx, kill := context.WithCancel(t.Context())
	p := w.plan(job("one"))
	w.must(p.Err())
	ended := make(chan error, 1)
	go func() {
		_, err := w.client.Apply(ctx, p, Wait{Timeout: time.Minute})
		ended <- err
	}()
	var first *corev1.Pod
	w.until("the hook has a pod", func() bool {
		list, err := pods.List(t.Context(), labelled)
		w.must(err)
		for i := range list.Items {
			first = &list.Items[i]
		}
		return first != nil
	})
	name, job1 := first.Name, first.OwnerReferences[0].UID
	hold := func(ctx context.Context, how string) error {
		_, err := pods.Patch(ctx, name, types.StrategicMergePatchType, []byte(`{"metadata": {"`+how+`": ["example.com/hold"]}}`), metav1.PatchOptions{})
		return err
	}
	w.must(hold(t.Context(), "finalizers")) // so that it does not go before anybody has looked
	t.Cleanup(func() { _ = hold(context.Background(), "$deleteFromPrimitiveList/finalizers") })
	first, err := pods.Get(t.Context(), name, metav1.GetOptions{})
	w.must(err)
	state := func(s corev1.ContainerState, phase corev1.PodPhase) {
		t.Helper()
		first.Status.Phase, first.Status.ContainerStatuses = phase, []corev1.ContainerStatus{{Name: "a", State: s}}
		var err error
		first, err = pods.UpdateStatus(t.Context(), first, metav1.UpdateOptions{})
		w.must(err)
	}
	state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}, corev1.PodRunning)
	kill()
	<-ended
	w.must(w.client.MarkFailed(t.Context(), w.namespace, "orders", 1, "killed"))

	next := w.plan(job("two"))
	w.must(next.Err())
	short := Wait{Timeout: time.Second}
	if o, err := w.client.Apply(t.Context(), next, short); codeOf(err) != tool.Temporary || o.Changed || !strings.Contains(err.Error(), "waiting for the end of hook Job "+w.namespace+"/migrate of an earlier run") {
		t.Errorf("outcome %+v, code %d, error %v", o, codeOf(err), err)
	}
	if one, err := pods.Get(t.Context(), first.Name, metav1.GetOptions{}); err != nil || one.DeletionTimestamp != nil {
		t.Fatalf("the pod that works was cut short: %v", err)
	}

	next = w.plan(job("two"))
	w.must(next.Err())
	waits := make(chan bool, 1)
	progress := func(line string) {
		if strings.Contains(line, "of an earlier run still works") {
			waits <- true
		}
	}
	go func() {
		_, err := w.client.Apply(t.Context(), next, Wait{Timeout: time.Minute, Tell: progress})
		ended <- err
	}()
	watch, err := pods.Watch(t.Context(), labelled)
	w.must(err)
	defer watch.Stop()
	select {
	case <-waits:
	case err := <-ended:
		t.Fatalf("the run did not wait: %v", err)
	}
	state(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 0}}, corev1.PodSucceeded)
	held, gone, second := true, false, false
	for !second {
		select {
		case ev := <-watch.ResultChan():
			one, ok := ev.Object.(*corev1.Pod)
			switch {
			case !ok:
				t.Fatalf("the watch broke off: %v", ev)
			case one.Name == name && ev.Type == "DELETED":
				gone = true
			case one.Name == name && held && one.DeletionTimestamp != nil:
				held = false
				if j, err := jobs.Get(t.Context(), "migrate", metav1.GetOptions{}); err != nil || j.UID != job1 {
					t.Errorf("the last hook is gone, and its pod is there: %v", err)
				}
				w.must(hold(t.Context(), "$deleteFromPrimitiveList/finalizers"))
			case one.Name == name:
			default:
				second = true
				if !gone {
					t.Error("the next hook started while the pod of the last was there")
				}
				first = one
			}
		case err := <-ended:
			t.Fatalf("the run ended before its hook: %v", err)
		}
	}
	state(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 0}}, corev1.PodSucceeded)
	w.must(<-ended)
}
