package helmrelease

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// definition is a kind of this test's own, with the versions given; the last
// is the one that objects are stored in. It stays as long as the sandbox:
// Velero looks every five minutes which kinds there are, and a backup that
// meets one that is gone since then fails in part.
func (w *world) definition(extra string, versions ...string) (text, kind string) {
	w.t.Helper()
	kind = "T" + strings.ReplaceAll(w.namespace, "-", "")
	group := strings.ToLower(kind) + ".example.com"
	var list []string
	for i, v := range versions {
		list = append(list, fmt.Sprintf("{name: %s, served: true, storage: %v, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true%s}}}}}", v, i == len(versions)-1, extra))
	}
	return fmt.Sprintf("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.%s}\nspec: {group: %s, scope: Namespaced, names: {kind: %s, plural: things, singular: thing}, versions: [%s]}\n",
		group, group, kind, strings.Join(list, ", ")), kind
}

func thing(kind, spec string) string {
	return "apiVersion: " + strings.ToLower(kind) + ".example.com/v1\nkind: " + kind + "\nmetadata: {name: one}\nspec: {" + spec + "}\n"
}

func (w *world) crd(kind string) (version string, generation int64) {
	w.t.Helper()
	u, err := w.cluster.Dynamic().Resource(definitions).Get(w.t.Context(), "things."+strings.ToLower(kind)+".example.com", metav1.GetOptions{})
	w.must(err)
	return u.GetResourceVersion(), u.GetGeneration()
}

// TestDefinitions: they come before what is of their kind, whether from a crds
// folder, a subchart's or a template; they are upgraded, left alone while they
// are the same, and never lose a stored version.
func TestDefinitions(t *testing.T) {
	for name, where := range map[string]string{"folder": "crds/nested/thing.yaml", "template": "templates/thing.yaml", "subchart": "charts/sub/crds/thing.yaml"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			chart := func(spec string, versions ...string) Spec {
				text, kind := w.definition("", versions...)
				object := thing(kind, spec)
				if name != "template" { // Helm, too, asks before it has read those
					object = "{{- if .Capabilities.APIVersions.Has \"" + strings.ToLower(kind) + ".example.com/v1\" }}\n" + object + "{{- end }}\n"
				}
				return w.spec("orders", where, text, "charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n", "templates/one.yaml", object)
			}
			_, kind := w.definition("", "v1")
			things := schema.GroupVersionResource{Group: strings.ToLower(kind) + ".example.com", Version: "v1", Resource: "things"}
			s := chart("size: 1, extra: 1", "v1")
			w.apply(s)
			if got := field(w.get(things, "one"), "spec", "size"); got != int64(1) {
				t.Fatalf("size %v", got)
			}
			before, _ := w.crd(kind)
			counted := w.proxied()
			counted.unchanged(s)
			if m := counted.log.Mutating(); len(m) > 0 {
				t.Errorf("an unchanged definition makes calls: %v", m)
			}
			if after, _ := w.crd(kind); after != before {
				t.Error("an unchanged definition was written")
			}

			w.patch(things, "one", `{"spec": {"size": 5, "others": "stay"}}`)
			s = chart("size: 1", "v1", "v2")
			w.apply(s)
			got := field(w.get(things, "one"), "spec")
			if fmt.Sprint(got) != "map[others:stay size:1]" {
				t.Errorf("the drift of a custom resource: %v", got)
			}
			if _, generation := w.crd(kind); generation != 2 {
				t.Errorf("the definition is at generation %d", generation)
			}
			w.proxied().refused(chart("size: 1", "v2"), tool.Failed, "it drops the version v1, in which objects are stored")
		})
	}
}

func TestLargeDefinition(t *testing.T) {
	w := newWorld(t)
	text, kind := w.definition(", description: "+strings.Repeat("x", 400<<10), "v1")
	s := w.spec("orders", "crds/thing.yaml", text, "templates/one.yaml", thing(kind, "size: 1"))
	w.apply(s)
	w.unchanged(s)
}

// TestKindOfTheSameRelease: an object of a kind that comes with the release is
// looked at once the kind is there, and before anything else is touched.
func TestKindOfTheSameRelease(t *testing.T) {
	w := newWorld(t)
	text, kind := w.definition("", "v1")
	s := w.spec("orders", "crds/thing.yaml", text, "templates/a.yaml", config("a", "a: b"), "templates/one.yaml", thing(kind, "size: 1")+"unknown: field\n")
	p := w.plan(s)
	w.must(p.Err())
	same := w.plan(s)
	if o, err := w.client.Apply(t.Context(), p, Wait{Timeout: time.Minute}); err == nil || !strings.Contains(err.Error(), `unknown field "unknown"`) || !o.Changed {
		t.Errorf("outcome %+v, error %v", o, err)
	}
	// The kind is there by now, as the second plan would have it.
	if o, err := w.client.Apply(t.Context(), same, Wait{Timeout: time.Minute}); err == nil || o.Changed {
		t.Errorf("outcome %+v, error %v", o, err)
	}
	if got := w.statuses(); got != "" {
		t.Errorf("history: %s", got)
	}
	w.gone(configMaps, "a")
}

func TestKindOfAnEarlierRelease(t *testing.T) {
	w := newWorld(t)
	s := w.spec("orders", "templates/one.yaml", thing("Sometime", "size: 1"))
	w.refused(s, tool.Failed, "does not know kind Sometime")
	p, err := w.client.Plan(t.Context(), s, Look{Kinds: map[schema.GroupKind]bool{{Group: "sometime.example.com", Kind: "Sometime"}: true}})
	w.must(err)
	if p.Err() != nil || len(p.Problems) != 1 || !p.Problems[0].Warning {
		t.Errorf("error %v, problems %v", p.Err(), p.Problems)
	}
}
