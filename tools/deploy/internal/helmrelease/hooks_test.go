package helmrelease

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
