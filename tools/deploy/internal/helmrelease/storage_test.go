package helmrelease

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestReread: what somebody wrote since the state was read is seen, whoever it
// was and whatever they wrote.
func TestReread(t *testing.T) {
	w := newWorld(t)
	reread := func(was State) State {
		t.Helper()
		now, err := w.client.Reread(t.Context(), w.namespace, "orders", was)
		w.must(err)
		fresh, err := w.client.Read(t.Context(), w.namespace, "orders")
		w.must(err)
		if !now.Same(fresh) {
			t.Errorf("it is %+v, and read anew %+v", now, fresh)
		}
		return now
	}
	none := reread(State{})
	w.apply(w.spec("orders", "templates/a.yaml", config("a", "a: b")))
	first := reread(none)
	if first.Last == nil || first.Last.Number != 1 {
		t.Fatalf("the installation was not seen: %+v", first.Last)
	}
	if again := reread(first); again.Last != first.Last {
		t.Error("it was read anew, and nobody had written")
	}
	_, err := w.cluster.Clientset().CoreV1().Secrets(w.namespace).Patch(t.Context(), recordName("orders", 1), types.MergePatchType, []byte(`{"metadata":{"labels":{"seen":"yes"}}}`), metav1.PatchOptions{})
	w.must(err)
	if again := reread(first); again.Last == first.Last {
		t.Error("a write to the last record was not seen")
	}
	w.apply(w.spec("orders", "templates/a.yaml", config("a", "a: c")))
	if second := reread(first); second.Last.Number != 2 {
		t.Errorf("the upgrade was not seen: %+v", second.Last)
	}
}

// TestIndex: one list for all releases of a namespace tells of each what its own
// list does.
func TestIndex(t *testing.T) {
	w := newWorld(t)
	w.apply(w.spec("orders", "templates/a.yaml", config("a", "a: b")))
	w.apply(w.spec("orders", "templates/a.yaml", config("a", "a: c")))
	w.apply(w.spec("catalog", "templates/b.yaml", config("b", "a: b")))
	x := NewIndex()
	for _, name := range []string{"orders", "catalog", "none"} {
		got, err := x.read(t.Context(), w.client, w.namespace, name)
		w.must(err)
		want, err := w.client.Read(t.Context(), w.namespace, name)
		w.must(err)
		if !got.Same(want) {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	if len(x.lists) != 1 {
		t.Errorf("%d lists were made", len(x.lists))
	}
}
