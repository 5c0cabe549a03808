package helmrelease

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// never is a job that no node takes.
const never = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: never}\nspec: {template: {spec: {schedulerName: none, restartPolicy: Never, containers: [{name: a, image: a}]}}}\n"

// fails puts a release in place that does not become ready.
func (w *world) fails(s Spec) {
	w.t.Helper()
	p := w.plan(s)
	w.must(p.Err())
	if _, err := w.client.Apply(w.t.Context(), p, Wait{Timeout: time.Second}); err == nil {
		w.t.Fatal("the revision became ready")
	}
}

// TestNothingOfAFailedRevisionIsForgotten: one brings an object and fails, the
// next is without it and fails before it takes anything away.
func TestNothingOfAFailedRevisionIsForgotten(t *testing.T) {
	a := config("a", "v: one")
	hook := strings.Replace(never, "{name: never}", "{name: stuck, annotations: {helm.sh/hook: pre-upgrade}}", 1)
	for name, next := range map[string]func(*world){
		"release": func(w *world) { w.apply(w.spec("orders", "templates/a.yaml", a)) },
		"rollback": func(w *world) {
			_, err := w.client.Rollback(w.t.Context(), w.namespace, "orders", 1, Wait{Timeout: time.Minute})
			w.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(w.spec("orders", "templates/a.yaml", a))
			w.fails(w.spec("orders", "templates/a.yaml", a, "templates/worker.yaml", config("worker", "a: b"), "templates/never.yaml", never))
			w.get(configMaps, "worker")
			w.fails(w.spec("orders", "templates/a.yaml", a, "templates/hook.yaml", hook))
			w.get(configMaps, "worker")
			next(w)
			w.gone(configMaps, "worker")
			w.get(configMaps, "a")
		})
	}
}

// TestOlderRecordThatCannotBeWritten: what is ready and stored as deployed has
// not failed. The next release puts the older record right.
func TestOlderRecordThatCannotBeWritten(t *testing.T) {
	w := newWorld(t)
	chart := func(v string) Spec { return w.spec("orders", "templates/a.yaml", config("a", "v: "+v)) }
	w.apply(chart("one"))
	broken := w.proxied(faultproxy.Rule{Match: faultproxy.Match{Method: "PUT", Path: ".*/" + recordName("orders", 1)}, Fault: faultproxy.Status(500)})
	if o := broken.apply(chart("two")); o.Revision != 2 {
		t.Errorf("revision %d", o.Revision)
	}
	if got := w.statuses(); got != "deployed deployed" || len(broken.told) != 1 || !strings.Contains(broken.told[0], "revision 2 is deployed") {
		t.Errorf("history %s, told %q", got, broken.told)
	}
	w.apply(chart("two"))
	if got := w.statuses(); got != "superseded superseded deployed" {
		t.Errorf("history %s", got)
	}
}
