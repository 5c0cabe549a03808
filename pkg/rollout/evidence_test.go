package rollout

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What is diagnosed of a saved bundle is what is diagnosed of the live objects.
func TestBundleIsDiagnosedAnew(t *testing.T) {
	s := waiting("CrashLoopBackOff", "")
	s.RestartCount, s.LastTerminationState.Terminated = 2, &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}
	p := podWith(s)
	e := Evidence{Workload: Ref{"apps/v1", "Deployment", "shop", "orders"}, Pods: []*corev1.Pod{p}, Events: []*corev1.Event{event("p", "BackOff", "x")},
		Live: &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Name: "orders", UID: "d"}},
		Logs: []Log{{Pod: p.Name, Container: "app", Previous: true, Text: "no licence\n"}}}
	custom := Evidence{Workload: Ref{"example.com/v1", "Database", "shop", "main"}, Live: &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Database",
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Stalled", "status": "True", "reason": "NoSpace", "message": "the disk is full"}}}}}}
	raw, err := json.Marshal(Bundle{Schema: BundleSchema, Evidence: []Evidence{e, custom}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := append(Diagnose(e), Diagnose(custom)...)
	rank(want)
	got := b.Diagnose()
	if len(got) != 2 || !strings.Contains(got[0].Sentence()+got[1].Sentence(), "NoSpace: the disk is full") || !strings.Contains(got[0].Sentence()+got[1].Sentence(), "no licence") {
		t.Errorf("findings %+v", got)
	}
	for i := range got {
		got[i].Since = want[i].Since // JSON keeps seconds, in UTC
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("got  %+v\nwant %+v", got[i], want[i])
		}
	}
	if _, err := ReadBundle([]byte(`{"schema":"slipway.evidence/v9"}`)); err == nil {
		t.Error("a bundle of another version is read")
	}
}

// A file may come from anywhere: no bundle makes the engine fall over.
func FuzzReadBundle(f *testing.F) {
	f.Add([]byte(`{"schema":"slipway.evidence/v1","evidence":[{"workload":{"kind":"Deployment"},"live":{"apiVersion":"apps/v1","kind":"Deployment"},"pods":[null,{}],"events":[null]}]}`))
	f.Add([]byte(`{"schema":"slipway.evidence/v1","evidence":[{"live":{"kind":"Job","apiVersion":"batch/v1"}}]}`))
	f.Add([]byte(`{"schema":"slipway.evidence/v1","evidence":[{"live":{"kind":"Service","apiVersion":"v1","status":{"loadBalancer":{"ingress":7}}}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := ReadBundle(raw)
		if err != nil {
			return
		}
		for _, found := range b.Diagnose() {
			if strings.Contains(found.Sentence(), "\n") {
				t.Errorf("more than a line: %q", found.Sentence())
			}
		}
	})
}

// What the caches keep has no value of a variable and nothing of a custom
// resource but its state; deployments find their replica sets all the same.
func TestSlim(t *testing.T) {
	template := func(labels map[string]any) map[string]any {
		return map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": []any{map[string]any{"name": "app", "image": "x",
			"env": []any{map[string]any{"name": "PASSWORD", "value": "hunter2"}}}}}}
	}
	in := func(kind string, spec map[string]any) any {
		got, err := slim(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": kind, "metadata": map[string]any{"name": "orders", "annotations": map[string]any{"a": "hunter2"}}, "spec": spec}})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	d := in("Deployment", map[string]any{"template": template(map[string]any{"app": "orders"})}).(*appsv1.Deployment)
	same := in("ReplicaSet", map[string]any{"template": template(map[string]any{"app": "orders", "pod-template-hash": "1"})}).(*appsv1.ReplicaSet)
	other := in("ReplicaSet", map[string]any{"template": template(map[string]any{"app": "orders", "tier": "1"})}).(*appsv1.ReplicaSet)
	if got := newReplicaSet(d, []*appsv1.ReplicaSet{other, same}); got != same {
		t.Errorf("the replica set is %v", got)
	}
	pod, err := slim(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "x"}, "spec": template(nil)["spec"]}})
	if err != nil {
		t.Fatal(err)
	}
	custom, err := slim(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Database", "metadata": map[string]any{"name": "x", "uid": "u"},
		"spec": map[string]any{"password": "hunter2"}, "status": map[string]any{"phase": "Up", "token": "hunter2"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []any{d, same, pod, custom} {
		raw, err := json.Marshal(o)
		if err != nil || strings.Contains(string(raw), "hunter2") {
			t.Errorf("kept %s, %v", raw, err)
		}
	}
	if u := custom.(*unstructured.Unstructured); u.GetUID() != "u" || u.Object["status"].(map[string]any)["phase"] != "Up" {
		t.Errorf("lost of a custom resource: %v", u)
	}
}
