package helmrelease

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	helmkube "helm.sh/helm/v3/pkg/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/pkg/tool"
)

func codeOf(err error) int { return tool.CodeOf(err) }

const workload = `apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  {{- if .Values.replicas }}
  replicas: {{ .Values.replicas }}
  {{- end }}
  selector: {matchLabels: {app: {{ .Values.app | default "orders" }}}}
  template:
    metadata: {labels: {app: {{ .Values.app | default "orders" }}}, annotations: {greeting: {{ .Values.greeting | default "hello" | quote }}}}
    spec: {containers: [{name: app, image: registry.example.com/app:1}]}
`

func config(name, data string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {" + data + "}\n"
}

// TestUnchangedIsSeenWithoutAWrite: the second look finds nothing, and no call
// of it changes anything. What somebody changed by hand is found and put back.
func TestUnchangedIsSeenWithoutAWrite(t *testing.T) {
	w := newWorld(t)
	s := w.spec("orders", "templates/a.yaml", workload, "templates/b.yaml", config("settings", "a: one"))
	w.apply(s)
	counted := w.proxied()
	counted.unchanged(s)
	if m := counted.log.Mutating(); len(m) > 0 {
		t.Errorf("looking changed something: %v", m)
	}

	w.patch(configMaps, "settings", `{"data": {"a": "by hand"}}`)
	w.must(w.cluster.Dynamic().Resource(deployments).Namespace(w.namespace).Delete(t.Context(), "orders", metav1.DeleteOptions{}))
	w.gone(deployments, "orders")
	if got := actions(w.plan(s)); got["ConfigMap "+w.namespace+"/settings"] != Update || got["Deployment "+w.namespace+"/orders"] != Create {
		t.Errorf("%v", got)
	}
	w.apply(s)
	if got := field(w.get(configMaps, "settings"), "data", "a"); got != "one" {
		t.Errorf("the drift is %v", got)
	}
	w.unchanged(s)
	if got := w.statuses(); got != "superseded deployed" {
		t.Errorf("history: %s", got)
	}
	s.Values["greeting"] = "another"
	if w.plan(s).Unchanged() {
		t.Error("other values are no change")
	}
}

func TestOriginIsNotedInPlace(t *testing.T) {
	w := newWorld(t)
	s := w.spec("orders", "templates/b.yaml", config("settings", "a: one"))
	s.Chart.Annotate("slipway.dev/commit", "one")
	w.apply(s)
	s.Chart.Annotate("slipway.dev/commit", "two")
	p, late := w.plan(s), w.plan(s)
	if !p.Unchanged() || !p.NewOrigin() {
		t.Fatalf("unchanged %v, new origin %v", p.Unchanged(), p.NewOrigin())
	}
	r, err := w.client.NoteOrigin(t.Context(), p)
	w.must(err)
	state, err := w.client.Read(t.Context(), w.namespace, "orders")
	w.must(err)
	if r.Number != 1 || state.Last.Number != 1 || state.Last.Annotations["slipway.dev/commit"] != "two" || state.Last.Status != "deployed" {
		t.Errorf("%+v", state.Last)
	}
	if p := w.plan(s); !p.Unchanged() || p.NewOrigin() {
		t.Error("it was not noted")
	}
	// Whoever read the record before somebody else wrote to it writes nothing.
	if _, err := w.client.NoteOrigin(t.Context(), late); err == nil {
		t.Error("a record was overwritten that had changed since")
	}
}

// TestEverythingIsFoundAtOnce: before anything is touched.
func TestEverythingIsFoundAtOnce(t *testing.T) {
	w := newWorld(t)
	w.apply(w.spec("orders", "templates/a.yaml", workload))
	w.apply(w.spec("other", "templates/a.yaml", config("theirs", "a: b")))
	_, err := w.cluster.Clientset().CoreV1().ServiceAccounts(w.namespace).Create(t.Context(), account("nobodys"), metav1.CreateOptions{})
	w.must(err)
	s := w.spec("orders", "templates/a.yaml", workload, "templates/typo.yaml", strings.Replace(workload, "name: orders", "name: typo", 1)+"  replica: 3\n",
		"templates/theirs.yaml", config("theirs", "a: c"), "templates/nobody.yaml", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: nobodys}\n",
		"templates/kind.yaml", "apiVersion: example.com/v1\nkind: Nothing\nmetadata: {name: a}\n",
		"templates/invalid.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: []}\n",
		"templates/hook.yaml", "apiVersion: batch/v1\nkind: Job\nmetadata: {name: hook, annotations: {helm.sh/hook: pre-upgrade}}\nspec: {template: {spec: {restartPolicy: Never, container: []}}}\n")
	s.Values["app"] = "renamed"
	w.proxied().refused(s, tool.Usage, "7 problems", `orders/templates/typo.yaml: Deployment `+w.namespace+`/typo: unknown field "spec.replica"`,
		"orders/templates/a.yaml: Deployment "+w.namespace+"/orders: spec.selector", "belongs to release "+w.namespace+"/other",
		"nobodys: it exists already and belongs to no release", "does not know kind Nothing of example.com/v1", "Service "+w.namespace+"/bad: spec.ports",
		`orders/templates/hook.yaml: Job `+w.namespace+`/hook: unknown field "spec.template.spec.container"`)
	if got := w.statuses(); got != "deployed" {
		t.Errorf("history: %s", got)
	}
}

func TestNamespaceThatIsNotThere(t *testing.T) {
	w := newWorld(t)
	s := w.spec("orders", "templates/a.yaml", config("a", "a: b"))
	s.Namespace = w.namespace + "-not"
	w.proxied().refused(s, tool.Failed, "Namespace "+s.Namespace+": it does not exist")
	p, err := w.client.Plan(t.Context(), s, Look{NewNamespace: true})
	w.must(err)
	if p.Err() != nil || !p.NewNamespace() {
		t.Errorf("new namespace %v, error %v", p.NewNamespace(), p.Err())
	}
}

func TestRecordThatWouldBeTooLarge(t *testing.T) {
	w := newWorld(t)
	noise := make([]byte, 1200<<10)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(noise)
	w.proxied().refused(w.spec("orders", "templates/a.yaml", config("a", "a: b"), "files/model.bin", string(noise)), tool.Usage,
		"the limit is 1024 KiB", "chart file files/model.bin (1200 KiB)")
}

// TestRightsAreMissedBeforehand: somebody who may read and not write learns of
// every right that is missing, and a diff of theirs is worked out without.
func TestRightsAreMissedBeforehand(t *testing.T) {
	w := newWorld(t)
	s := w.spec("orders", "templates/a.yaml", config("a", "a: b"), "templates/b.yaml", config("b", "a: b"))
	w.apply(s)
	w.bind("view-all", readAll())
	s = w.spec("orders", "templates/a.yaml", config("a", "a: c"), "templates/b.yaml", config("b", "a: c"), "templates/c.yaml", config("c", "a: b"))
	reader := w.as("view-all")
	reader.refused(s, tool.Denied, "3 problems", "/a: ", "/b: ", "/c: ", "cannot patch", "cannot create")
	p, err := reader.client.Plan(t.Context(), s, Look{Lenient: true})
	w.must(err)
	got := actions(p)
	if p.Err() != nil || got["ConfigMap "+w.namespace+"/a"] != Update || got["ConfigMap "+w.namespace+"/c"] != Create || len(p.Problems) != 3 {
		t.Errorf("error %v, changes %v, problems %v", p.Err(), got, p.Problems)
	}
	for _, ch := range p.Changes() {
		if ch.Checked {
			t.Errorf("%s was tried", ch.Object)
		}
		if strings.HasSuffix(ch.Object, "/a") && (ch.Before["data"].(map[string]any)["a"] != "b" || ch.After["data"].(map[string]any)["a"] != "c") {
			t.Errorf("%v becomes %v", ch.Before, ch.After)
		}
	}
}

// TestDropped: what a release lets go of goes, unless it is to be kept, and
// what only a failed revision brought goes as well.
func TestDropped(t *testing.T) {
	w := newWorld(t)
	keep := strings.Replace(config("kept", "a: b"), "{name: kept}", "{name: kept, annotations: {helm.sh/resource-policy: keep}}", 1)
	w.apply(w.spec("orders", "templates/a.yaml", config("a", "a: b, gone: soon"), "templates/b.yaml", config("b", "a: b"), "templates/kept.yaml", keep))
	p := w.plan(w.spec("orders", "templates/a.yaml", config("a", "a: b"), "templates/failed.yaml", config("failed", "a: b"),
		"templates/never.yaml", "apiVersion: batch/v1\nkind: Job\nmetadata: {name: never}\nspec: {template: {spec: {schedulerName: none, restartPolicy: Never, containers: [{name: a, image: a}]}}}\n"))
	w.must(p.Err())
	if _, err := w.client.Apply(t.Context(), p, Wait{Timeout: time.Second}); err == nil {
		t.Fatal("the revision became ready")
	}
	if got := w.statuses(); got != "deployed failed" {
		t.Fatalf("history: %s", got)
	}
	w.apply(w.spec("orders", "templates/a.yaml", config("a", "a: b")))
	for _, name := range []string{"b", "failed"} {
		w.gone(configMaps, name)
	}
	if got := field(w.get(configMaps, "kept"), "data", "a"); got != "b" {
		t.Errorf("what was to be kept is %v", got)
	}
	if got := field(w.get(configMaps, "a"), "data", "gone"); got != nil {
		t.Errorf("a field that was dropped is %v", got)
	}
}

// TestAutoscaledReplicas: neither an upgrade nor a rollback changes how many
// there are, whether the chart says a number or not.
func TestAutoscaledReplicas(t *testing.T) {
	w := newWorld(t)
	scaler := "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: orders}\nspec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: orders}, minReplicas: 1, maxReplicas: 9}\n"
	s := w.spec("orders", "templates/a.yaml", workload)
	s.Values["replicas"] = 2
	w.apply(s)
	w.apply(w.spec("scaler", "templates/a.yaml", scaler)) // of another release
	w.patch(deployments, "orders", `{"spec": {"replicas": 4}}`)
	for i, values := range []map[string]any{{"replicas": 2, "greeting": "two"}, {"greeting": "three"}} {
		s.Values = values
		w.apply(s)
		if got := field(w.get(deployments, "orders"), "spec", "replicas"); got != int64(4) {
			t.Errorf("upgrade %d: %v replicas, want 4", i, got)
		}
		w.unchanged(s)
	}
	if _, err := w.client.Rollback(t.Context(), w.namespace, "orders", 1, Wait{Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if got := field(w.get(deployments, "orders"), "spec", "replicas"); got != int64(4) {
		t.Errorf("rollback: %v replicas, want 4", got)
	}
}

// TestCancelMeansStop: with as many calls on their way as go out at once, a
// cancelled run makes not one more.
func TestCancelMeansStop(t *testing.T) {
	w := newWorld(t)
	var files []string
	for i := range 60 {
		files = append(files, fmt.Sprintf("templates/%d.yaml", i), config(fmt.Sprintf("c%d", i), "a: b"))
	}
	s := w.spec("orders", files...)
	slow := w.proxied(faultproxy.Rule{Match: faultproxy.Match{Mutating: true, Action: "create configmaps"}, Fault: faultproxy.Delay(30 * time.Second)})
	p := slow.plan(s)
	w.must(p.Err())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := slow.client.Apply(ctx, p, Wait{Timeout: time.Minute})
		ended <- err
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for creates(slow.log) < parallelObjects {
		select {
		case err := <-ended:
			t.Fatalf("the run ended before it was cancelled: %v", err)
		case <-tick.C:
		}
	}
	before := len(slow.log.Mutating())
	cancel()
	if err := <-ended; err == nil {
		t.Error("a cancelled run went well")
	}
	if got := creates(slow.log); got != parallelObjects {
		t.Errorf("%d objects were sent, want %d", got, parallelObjects)
	}
	if after := len(slow.log.Mutating()); after != before {
		t.Errorf("%d calls after the end: %v", after-before, slow.log.Mutating()[before:])
	}
	if got := w.statuses(); got != "pending-install" {
		t.Errorf("history: %s; whoever holds the lease ends it", got)
	}
}

func creates(log *faultproxy.Log) int {
	n := 0
	for _, c := range log.Mutating() {
		if c.Action == "create configmaps" {
			n++
		}
	}
	return n
}

// TestHelmGoesOnWithIt: Helm's own code reads our history and rolls back, and
// we go on from there.
func TestHelmGoesOnWithIt(t *testing.T) {
	w := newWorld(t)
	s := w.spec("orders", "templates/a.yaml", workload, "templates/b.yaml", config("a", "v: one"))
	w.apply(s)
	w.apply(w.spec("orders", "templates/a.yaml", workload, "templates/b.yaml", config("a", "v: two")))
	getter := w.cluster.RESTClientGetter(t.Context())
	cfg := &action.Configuration{}
	w.must(cfg.Init(getter, w.namespace, "secret", t.Logf))
	plain := helmkube.New(getter)
	plain.Namespace, cfg.KubeClient = w.namespace, plain
	helmkube.ManagedFieldsManager = "helm"
	r := action.NewRollback(cfg)
	r.Version = 1
	w.must(r.Run("orders"))
	if got := field(w.get(configMaps, "a"), "data", "v"); got != "one" {
		t.Errorf("helm rolled back to %v", got)
	}
	history, err := action.NewHistory(cfg).Run("orders")
	w.must(err)
	if len(history) != 3 || w.statuses() != "superseded superseded deployed" {
		t.Errorf("%d revisions: %s", len(history), w.statuses())
	}
	w.unchanged(s)
	for _, m := range w.get(configMaps, "a").GetManagedFields() {
		if m.Manager != "helm" {
			t.Errorf("field manager %q beside helm's", m.Manager)
		}
	}
}

// TestHistoryIsBounded: as many revisions as the helm command line keeps.
func TestHistoryIsBounded(t *testing.T) {
	w := newWorld(t)
	for i := range maxHistory + 2 {
		w.apply(w.spec("orders", "templates/a.yaml", config("a", fmt.Sprintf("n: %q", fmt.Sprint(i)))))
	}
	if got := strings.Fields(w.statuses()); len(got) != maxHistory || got[maxHistory-1] != "deployed" {
		t.Errorf("%d revisions: %v", len(got), got)
	}
}

// TestErrorsOfTheServerShowNoSecret: neither in what is told nor in the record.
func TestErrorsOfTheServerShowNoSecret(t *testing.T) {
	w := newWorld(t)
	s := w.spec("orders", "templates/a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: {{ .Values.token | quote }}, ports: [{port: 80}]}\n")
	s.Values["token"], s.Secrets = "swordfish", []string{"swordfish"}
	p := w.plan(s)
	raw, err := json.Marshal(p.Changes())
	w.must(err)
	if p.Err() == nil || strings.Contains(p.Err().Error()+fmt.Sprint(p.Problems)+string(raw), "swordfish") {
		t.Errorf("%v", p.Err())
	}
}

// TestTwoReleasesOfOneChart: what they share is found before the first write,
// in one namespace and across two.
func TestTwoReleasesOfOneChart(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	shared := "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: " + w.namespace + "}\nrules: []\n"
	chart := func(w *world, name string) Spec {
		return w.spec(name, "templates/shared.yaml", shared, "templates/own.yaml", config("{{ .Release.Name }}", "a: b"))
	}
	w.apply(chart(w, "orders"))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = w.cluster.Clientset().RbacV1().ClusterRoles().Delete(ctx, w.namespace, metav1.DeleteOptions{})
	})
	w.proxied().refused(chart(w, "second"), tool.Failed, "shared.yaml: ClusterRole "+w.namespace+": it belongs to release "+w.namespace+"/orders")
	other.proxied().refused(chart(other, "orders"), tool.Failed, "it belongs to release "+w.namespace+"/orders")
}
