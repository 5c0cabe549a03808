package landscape

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// tenant is a service in an environment, with its namespace on a cluster.
type tenant struct {
	file, index int // of the service, and of the environment in its list
	environment string
	cluster     string
	pattern     string         // of the environment
	namespace   string         // with {mr} filled in, where there is one
	reviews     *regexp.Regexp // of the namespaces of all merge requests; nil for others
}

// namespaces checks that no two services share a namespace, whatever the
// patterns are, and that none gets one of the cluster's own.
func (c *checker) namespaces() {
	tenants := c.tenants()
	for i, t := range tenants {
		add := func(message, right string) {
			c.found = append(c.found, c.s.files[t.file].Problem(fmt.Sprintf("environments[%d]", t.index), message, right))
		}
		if n := t.namespace; n == "default" || n == "velero" || strings.HasPrefix(n, "kube-") {
			add(fmt.Sprintf("the namespace %q on cluster %q is the cluster's own", n, t.cluster), "another name, or another pattern for environment "+t.environment)
		}
		other := slices.IndexFunc(tenants[:i], t.meets)
		if other >= 0 {
			o, shared := tenants[other], t.namespace
			if o.reviews == nil {
				shared = o.namespace
			}
			add(fmt.Sprintf("the namespace %q on cluster %q is that of service %q in environment %q too", shared, t.cluster, c.s.Services[o.file].Name, o.environment),
				"a service has its namespaces for itself")
		}
	}
}

// meets reports whether both may have one namespace. Environments of one
// pattern were told before.
func (t tenant) meets(o tenant) bool {
	if t.cluster != o.cluster || t.pattern == o.pattern {
		return false
	}
	return t.namespace == o.namespace || t.reviews != nil && t.reviews.MatchString(o.namespace) || o.reviews != nil && o.reviews.MatchString(t.namespace)
}

func (c *checker) tenants() []tenant {
	var out []tenant
	for i, s := range c.s.Services {
		for j, name := range s.Environments {
			e, ok := c.s.Landscape.Environments[name]
			if !ok || !strings.Contains(e.Namespace, "{service}") || slices.Index(s.Environments, name) != j || !validName(s.Name, 30) {
				continue // told where it stands
			}
			t := tenant{file: i, index: j, environment: name, pattern: e.Namespace, namespace: strings.NewReplacer("{service}", s.Name, "{mr}", "1").Replace(e.Namespace)}
			if e.review() {
				expression := strings.NewReplacer(`\{service\}`, s.Name, `\{mr\}`, `[0-9]+`).Replace(regexp.QuoteMeta(e.Namespace))
				t.reviews = regexp.MustCompile("^" + expression + "$")
			}
			for _, t.cluster = range e.clustersOf() {
				out = append(out, t)
			}
		}
	}
	return out
}
