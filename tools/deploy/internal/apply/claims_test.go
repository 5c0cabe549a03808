package apply

import (
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// TestClaims: an object has one release; a name in another namespace or of
// another kind is another object.
func TestClaims(t *testing.T) {
	object := func(kind, namespace, name string) helmrelease.Object {
		o := helmrelease.Object{Namespace: namespace, Name: name}
		o.Kind = kind
		return o
	}
	c := claims{by: map[helmrelease.Object]string{}}
	role, config := object("ClusterRole", "", "reader"), object("ConfigMap", "one", "config")
	for _, first := range []error{
		c.take("a", []helmrelease.Object{role, config}),
		c.take("a", []helmrelease.Object{role}), // planned a second time
		c.take("b", []helmrelease.Object{object("ConfigMap", "two", "config"), object("Secret", "one", "config")}),
	} {
		if first != nil {
			t.Error(first)
		}
	}
	err := c.take("c", []helmrelease.Object{config, object("Secret", "one", "config"), role})
	if tool.CodeOf(err) != tool.Refused {
		t.Fatalf("code %d: %v", tool.CodeOf(err), err)
	}
	for _, want := range []string{`releases "a" and "c" both bring ConfigMap one/config`, `releases "b" and "c" both bring Secret one/config`, `releases "a" and "c" both bring ClusterRole reader`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}
