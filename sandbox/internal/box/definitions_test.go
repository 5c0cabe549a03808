package box

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"
)

// Every version of a definition that is to be served has to be.
func TestAllServed(t *testing.T) {
	definition := func(plural string, served bool) unstructured.Unstructured {
		return unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
			"group": "velero.io", "names": map[string]any{"plural": plural},
			"versions": []any{map[string]any{"name": "v1", "served": true}, map[string]any{"name": "v2alpha1", "served": served}},
		}}}
	}
	lists := func(versions map[string][]string) *fakediscovery.FakeDiscovery {
		d := &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{}}
		for version, plurals := range versions {
			list := &metav1.APIResourceList{GroupVersion: "velero.io/" + version}
			for _, p := range plurals {
				list.APIResources = append(list.APIResources, metav1.APIResource{Name: p})
			}
			d.Resources = append(d.Resources, list)
		}
		return d
	}
	for _, c := range []struct {
		name    string
		lists   map[string][]string
		both    bool
		missing string
	}{
		{"all", map[string][]string{"v1": {"backups", "restores"}}, false, ""},
		{"none", nil, false, "velero.io/v1/backups"},
		{"the second", map[string][]string{"v1": {"backups"}}, false, "velero.io/v1/restores"},
		{"the second's second version", map[string][]string{"v1": {"backups", "restores"}, "v2alpha1": {"backups"}}, true, "velero.io/v2alpha1/restores"},
		{"both versions", map[string][]string{"v1": {"backups", "restores"}, "v2alpha1": {"backups", "restores"}}, true, ""},
	} {
		err := allServed(lists(c.lists), []unstructured.Unstructured{definition("backups", c.both), definition("restores", c.both)})
		if c.missing == "" && err != nil || c.missing != "" && (err == nil || !strings.Contains(err.Error(), c.missing)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
