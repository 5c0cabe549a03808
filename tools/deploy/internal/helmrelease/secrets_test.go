package helmrelease

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What the release's Secrets hold is kept out of the log, and nothing that it
// says in clear.
func TestSecretsOfAPlan(t *testing.T) {
	made := func(o map[string]any) change {
		return change{object: object{Unstructured: &unstructured.Unstructured{Object: o}}}
	}
	held := made(map[string]any{"kind": "Secret", "metadata": map[string]any{"name": "credentials"},
		"data":       map[string]any{"password": "aHVudGVyMi1sb25n", "host": "cG9zdGdyZXMub3JkZXJz"}, // hunter2-long, postgres.orders
		"stringData": map[string]any{"file": "user: orders-service\n  key: 0123456789\nshort\n", "release": "orders-service"}})
	held.live = &unstructured.Unstructured{Object: map[string]any{"kind": "Secret", "data": map[string]any{"password": "dGhlLW9uZS1iZWZvcmU="}}} // the-one-before
	p := &Plan{Spec: Spec{Name: "orders-service", Namespace: "orders-dev"}, changes: []change{held,
		made(map[string]any{"kind": "ConfigMap", "data": map[string]any{"host": "postgres.orders"}})}}
	got := p.Secrets()
	slices.Sort(got)
	want := []string{"aHVudGVyMi1sb25n", "cG9zdGdyZXMub3JkZXJz", "dGhlLW9uZS1iZWZvcmU=", "hunter2-long", "key: 0123456789", "the-one-before", "user: orders-service"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
