package helmrelease

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func one(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	list, err := parse(text)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d objects, error %v", len(list), err)
	}
	return list[0].Unstructured
}

const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n"

// TestPatch: what was asked for before is taken away, what others set stays,
// what others changed of ours comes back.
func TestPatch(t *testing.T) {
	custom := "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n"
	for name, c := range map[string]struct {
		olds                []string
		wanted, live, after string
	}{
		"nothing": {[]string{deployment + "spec: {replicas: 1}"}, deployment + "spec: {replicas: 1}", deployment + "spec: {replicas: 1, paused: false}", ""},
		"drift":   {[]string{deployment + "spec: {replicas: 1}"}, deployment + "spec: {replicas: 1}", deployment + "spec: {replicas: 4}", deployment + "spec: {replicas: 1}"},
		"taken away": {[]string{deployment + "spec: {replicas: 1, paused: true}"}, deployment + "spec: {replicas: 1}",
			deployment + "spec: {replicas: 1, paused: true, minReadySeconds: 3}", deployment + "spec: {replicas: 1, minReadySeconds: 3}"},
		"containers by name": {[]string{deployment + "spec: {template: {spec: {containers: [{name: a, image: one}, {name: gone, image: x}]}}}"},
			deployment + "spec: {template: {spec: {containers: [{name: a, image: two}]}}}",
			deployment + "spec: {template: {spec: {containers: [{name: a, image: one, stdin: false}, {name: gone, image: x}, {name: sidecar, image: y}]}}}",
			deployment + "spec: {template: {spec: {containers: [{name: a, image: two, stdin: false}, {name: sidecar, image: y}]}}}"},
		"custom drift":      {[]string{custom + "spec: {size: 1}"}, custom + "spec: {size: 1}", custom + "spec: {size: 5, other: set}", custom + "spec: {size: 1, other: set}"},
		"custom taken away": {[]string{custom + "spec: {size: 1, list: [a]}"}, custom + "spec: {size: 1}", custom + "spec: {size: 1, list: [a]}", custom + "spec: {size: 1}"},
		"adopted":           {nil, custom + "spec: {size: 1}", custom + "spec: {size: 2, theirs: 3}", custom + "spec: {size: 1, theirs: 3}"},
		"after a failed revision": {[]string{deployment + "spec: {paused: true}", deployment + "spec: {minReadySeconds: 3}"}, deployment + "spec: {replicas: 2}",
			deployment + "spec: {replicas: 1, paused: true, minReadySeconds: 3}", deployment + "spec: {replicas: 2}"},
		"after a failed revision, nothing": {[]string{deployment + "spec: {replicas: 1}", deployment + "spec: {replicas: 1}"}, deployment + "spec: {replicas: 1}", deployment + "spec: {replicas: 1}", ""},
	} {
		var olds []*unstructured.Unstructured
		for _, o := range c.olds {
			olds = append(olds, one(t, o))
		}
		live := one(t, c.live)
		p, err := makePatch(olds, one(t, c.wanted), live)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.after == "" {
			if !p.empty() {
				t.Errorf("%s: patch %s, want none", name, p.body)
			}
			continue
		}
		got, err := p.local(live)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if want := one(t, c.after); !equality.Semantic.DeepEqual(got.Object, want.Object) {
			t.Errorf("%s: patch %s makes\n%v, want\n%v", name, p.body, got.Object, want.Object)
		}
	}
}

func TestReplicasOfAnAutoscaledWorkloadAreTheLiveOnes(t *testing.T) {
	for _, wanted := range []string{deployment + "spec: {replicas: 2}", deployment + "spec: {paused: false}"} {
		w, live := one(t, wanted), one(t, deployment+"spec: {replicas: 7, paused: false}")
		keepReplicas(w, live)
		p, err := makePatch([]*unstructured.Unstructured{one(t, deployment+"spec: {replicas: 2}")}, w, live)
		if err != nil || !p.empty() {
			t.Errorf("patch %s, error %v", p.body, err)
		}
	}
}
