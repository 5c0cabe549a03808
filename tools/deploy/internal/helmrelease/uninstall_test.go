package helmrelease

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestUninstallLeavesDefinitions: with a definition go all objects of its
// kind, those of other releases too.
func TestUninstallLeavesDefinitions(t *testing.T) {
	w := newWorld(t)
	text, kind := w.definition("", "v1")
	w.apply(w.spec("orders", "templates/thing.yaml", text))
	w.apply(w.spec("user", "templates/one.yaml", thing(kind, "size: 1")))
	left, err := w.client.Uninstall(t.Context(), w.namespace, "orders", Wait{Timeout: time.Minute})
	w.must(err)
	if len(left) != 1 || left[0].Object.Name != "things."+strings.ToLower(kind)+".example.com" || left[0].Why != everything {
		t.Errorf("left %v", left)
	}
	w.get(schema.GroupVersionResource{Group: strings.ToLower(kind) + ".example.com", Version: "v1", Resource: "things"}, "one")
	if got := w.statuses(); got != "" {
		t.Errorf("history %s", got)
	}
}

// TestUninstallTakesAllThatWasAskedFor: also what a failed revision brought and
// what it was about to take away, and nothing that is another release's by now.
func TestUninstallTakesAllThatWasAskedFor(t *testing.T) {
	w := newWorld(t)
	a := config("a", "a: b")
	w.apply(w.spec("orders", "templates/a.yaml", a, "templates/first.yaml", config("first", "a: b")))
	w.fails(w.spec("orders", "templates/a.yaml", a, "templates/second.yaml", config("second", "a: b"), "templates/first.yaml", config("first", "a: b"), "templates/never.yaml", never))
	hook := strings.Replace(never, "{name: never}", "{name: stuck, annotations: {helm.sh/hook: pre-upgrade}}", 1)
	w.fails(w.spec("orders", "templates/theirs.yaml", config("theirs", "a: b"), "templates/hook.yaml", hook))
	w.byHand("theirs")
	w.hand("theirs", "other")
	left, err := w.client.Uninstall(t.Context(), w.namespace, "orders", Wait{Timeout: time.Minute})
	w.must(err)
	for _, name := range []string{"a", "first", "second"} {
		w.gone(configMaps, name)
	}
	w.get(configMaps, "theirs")
	if len(left) != 2 || left[0].Object.Name != "theirs" || left[0].Why != "it belongs to release "+w.namespace+"/other by now" || left[1].Object.Name != "stuck" {
		t.Errorf("left %v", left)
	}
}
