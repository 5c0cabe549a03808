package helmrelease

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// byHand makes a ConfigMap that is of no release.
func (w *world) byHand(name string) {
	w.t.Helper()
	_, err := w.cluster.Clientset().CoreV1().ConfigMaps(w.namespace).Create(w.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"made": "by hand"}}, metav1.CreateOptions{})
	w.must(err)
}

// hand gives an object to another release, as adopt does.
func (w *world) hand(name, release string) {
	w.t.Helper()
	w.patch(configMaps, name, fmt.Sprintf(`{"metadata": {"annotations": {%q: %q, %q: %q}}}`, releaseName, release, releaseNamespace, w.namespace))
}

func TestTwiceInOneManifest(t *testing.T) {
	w := newWorld(t)
	w.proxied().refused(w.spec("orders", "templates/a.yaml", config("a", "v: one"), "templates/b.yaml", config("a", "v: two"), "templates/c.yaml", config("c", "v: one")+"---\n"+config("c", "v: two")),
		tool.Usage, "2 problems", "orders/templates/b.yaml: ConfigMap "+w.namespace+"/a: template orders/templates/a.yaml makes it as well",
		"orders/templates/c.yaml: ConfigMap "+w.namespace+"/c: the template makes it twice")
}

// TestDefinitionOfAnotherRelease: where both have it in a template, they would
// take it from each other for ever. One of a crds folder is nobody's own.
func TestDefinitionOfAnotherRelease(t *testing.T) {
	w := newWorld(t)
	text, kind := w.definition("", "v1")
	first := w.spec("orders", "templates/thing.yaml", text)
	w.apply(first)
	w.proxied().refused(w.spec("second", "templates/thing.yaml", text), tool.Failed,
		"second/templates/thing.yaml: CustomResourceDefinition things."+strings.ToLower(kind)+".example.com: it belongs to release "+w.namespace+"/orders")
	w.must(w.plan(w.spec("second", "crds/thing.yaml", text)).Err())
	w.unchanged(first)
}

// TestObjectThatIsAnothersByNow is left alone by the release that lets go of
// it, and told.
func TestObjectThatIsAnothersByNow(t *testing.T) {
	w := newWorld(t)
	a := w.spec("orders", "templates/a.yaml", config("a", "a: b"))
	w.apply(a)
	w.apply(w.spec("orders", "templates/a.yaml", config("a", "a: b"), "templates/b.yaml", config("b", "a: b"), "templates/c.yaml", config("c", "a: b")))
	w.hand("b", "other")
	p := w.plan(a)
	w.must(p.Err())
	if got := actions(p); got["ConfigMap "+w.namespace+"/b"] != Keep || got["ConfigMap "+w.namespace+"/c"] != Delete {
		t.Errorf("%v", got)
	}
	if len(p.Problems) != 1 || !p.Problems[0].Warning || !strings.Contains(p.Problems[0].String(), "/b: it belongs to release "+w.namespace+"/other by now") {
		t.Errorf("problems %v", p.Problems)
	}
	_, err := w.client.Rollback(t.Context(), w.namespace, "orders", 1, Wait{Timeout: time.Minute})
	w.must(err)
	w.gone(configMaps, "c")
	w.get(configMaps, "b")
	if len(w.told) != 1 || !strings.Contains(w.told[0], "/b stays: it belongs to release "+w.namespace+"/other by now") {
		t.Errorf("told %q", w.told)
	}
}

// TestAdoptionThatIsCutShort says what was taken over before it.
func TestAdoptionThatIsCutShort(t *testing.T) {
	w := newWorld(t)
	var files []string
	for _, name := range []string{"a", "b", "c"} {
		w.byHand(name)
		files = append(files, "templates/"+name+".yaml", config(name, "made: by hand"))
	}
	s := w.spec("orders", files...)
	look := func(changed string) error {
		t.Helper()
		list, err := w.client.Adoptable(t.Context(), s, true)
		w.must(err)
		w.patch(configMaps, changed, `{"data": {"changed": "`+fmt.Sprint(len(list))+`"}}`)
		return w.client.Adopt(t.Context(), s, list)
	}
	if err := look("a"); codeOf(err) != tool.Failed || len(tool.HintsOf(err)) != 0 {
		t.Errorf("nothing was taken: %v, code %d, hints %v", err, codeOf(err), tool.HintsOf(err))
	}
	err := look("c")
	if hints := strings.Join(tool.HintsOf(err), "\n"); codeOf(err) != tool.Broken || !strings.Contains(hints, "ConfigMap "+w.namespace+"/a, ConfigMap "+w.namespace+"/b;") {
		t.Errorf("%v, code %d, hints %v", err, codeOf(err), hints)
	}
	for name, want := range map[string]string{"a": "orders", "b": "orders", "c": ""} {
		if got := w.get(configMaps, name).GetAnnotations()[releaseName]; got != want {
			t.Errorf("%s is of release %q", name, got)
		}
	}
}

// TestAdoptFromAReleaseThatLetGo: what another release still has is refused,
// and what its chart no longer has is not.
func TestAdoptFromAReleaseThatLetGo(t *testing.T) {
	w := newWorld(t)
	keep := strings.Replace(config("a", "a: b"), "{name: a}", "{name: a, annotations: {helm.sh/resource-policy: keep}}", 1)
	w.apply(w.spec("other", "templates/a.yaml", keep))
	s := w.spec("orders", "templates/a.yaml", config("a", "a: b"))
	one := func() Adoption {
		t.Helper()
		list, err := w.client.Adoptable(t.Context(), s, true)
		w.must(err)
		if len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		return list[0]
	}
	if a := one(); a.Was != "of release "+w.namespace+"/other" || !strings.HasPrefix(a.Problem, "that release has it") {
		t.Errorf("%+v", a)
	}
	w.apply(w.spec("other", "templates/b.yaml", config("b", "a: b")))
	a := one()
	if a.Problem != "" || !strings.HasSuffix(a.Was, "whose chart does not have it any more") {
		t.Errorf("%+v", a)
	}
	w.must(w.client.Adopt(t.Context(), s, []Adoption{a}))
	w.apply(s)
}
