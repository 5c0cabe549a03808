package helmrelease

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestParse(t *testing.T) {
	list, err := parse(`---
# Source: orders/templates/a.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data:
  text: |
    --- not a separator
    # Source: not/a/source.yaml
---
# Source: orders/templates/list.yaml
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Secret, metadata: {name: b, namespace: other}}
  - {apiVersion: v1, kind: Service, metadata: {name: c}, spec: {ports: [{port: 80}]}}
---
# Source: orders/templates/empty.yaml
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range list {
		got = append(got, fmt.Sprintf("%s from %s", o.key(), o.source))
	}
	want := "ConfigMap a from orders/templates/a.yaml, Secret other/b from orders/templates/list.yaml, Service c from orders/templates/list.yaml"
	if strings.Join(got, ", ") != want {
		t.Errorf("%s", strings.Join(got, ", "))
	}
	ports, _, _ := unstructured.NestedSlice(list[2].Object, "spec", "ports")
	if _, whole := ports[0].(map[string]any)["port"].(int64); !whole {
		t.Errorf("a port is %T", ports[0].(map[string]any)["port"])
	}
}

func TestParseNamesTheTemplate(t *testing.T) {
	_, err := parse("# Source: orders/templates/a.yaml\nkind: [")
	if err == nil || !strings.Contains(err.Error(), "orders/templates/a.yaml: ") {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("---\n# Source: a\nkind: List\nitems: [{}, 3, {kind: List, items: [{a: 1}]}]\n")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parse(text)
		for _, o := range list {
			if err == nil && len(o.Object) == 0 {
				t.Error("an object without content")
			}
		}
	})
}
