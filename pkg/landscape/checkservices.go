package landscape

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

func (c *checker) clusters() {
	l := &c.s.Landscape
	for _, name := range keys(l.Clusters) {
		k, path := l.Clusters[name], "clusters."+name
		c.name(path, name, 40)
		if k.Network == "" && k.CopyOf == "" {
			c.add(path+".network", "the field is missing", "it must be set")
		}
		ref(c, path+".network", k.Network, "network", l.Networks)
		if n := k.Nodes; n != nil && (n.Min < 0 || n.Max < 1 || n.Min > n.Max) {
			c.add(path+".nodes", fmt.Sprintf("between %d and %d nodes there is no number", n.Min, n.Max), "0 <= min <= max, and max is at least 1")
		}
		if o := k.OffHours; o != nil {
			c.offHours(path+".offHours", *o)
		}
	}
}

func (c *checker) offHours(path string, o OffHoursSource) {
	when := regexp.MustCompile(`^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))? ([01]\d|2[0-3]):[0-5]\d$`)
	for _, f := range [][2]string{{"from", o.From}, {"to", o.To}} {
		if f[1] != "" && !when.MatchString(f[1]) {
			c.add(path+"."+f[0], fmt.Sprintf("%q is not a time of the week", f[1]), "it is written as Mon-Fri 20:00")
		}
	}
	if o.Zone != "" && !regexp.MustCompile(`^(UTC|[A-Z][A-Za-z_]+(/[A-Z][A-Za-z_+-]+)+)$`).MatchString(o.Zone) {
		c.add(path+".zone", fmt.Sprintf("%q is not a time zone", o.Zone), "it is written as Europe/Warsaw, or UTC")
	}
}

func (c *checker) environments() {
	l := &c.s.Landscape
	patterns := map[string]string{} // cluster and pattern -> environment
	for _, name := range keys(l.Environments) {
		e, path := l.Environments[name], "environments."+name
		c.name(path, name, 30)
		switch {
		case e.Cluster == "" && len(e.Clusters) == 0:
			c.add(path+".cluster", "the field is missing", "it must be set, or clusters")
		case e.Cluster != "" && len(e.Clusters) > 0:
			c.add(path+".clusters", "both cluster and clusters are set", "keep one")
		}
		ref(c, path+".cluster", e.Cluster, "cluster", l.Clusters)
		for i, k := range e.Clusters {
			ref(c, fmt.Sprintf("%s.clusters[%d]", path, i), k, "cluster", l.Clusters)
			if slices.Index(e.Clusters, k) != i {
				c.add(fmt.Sprintf("%s.clusters[%d]", path, i), fmt.Sprintf("cluster %q stands here twice", k), "keep one")
			}
		}
		c.namespace(path, e)
		if e.review() && e.Gated {
			c.add(path+".gated", "an environment of merge requests cannot be gated", "promotions go to environments with one state")
		}
		if e.StopAfter != nil && !e.review() {
			c.add(path+".stopAfter", "only environments of merge requests stop by themselves", "take it away, or put {mr} into the namespace")
		}
		if e.StopAfter != nil && *e.StopAfter <= 0 {
			c.add(path+".stopAfter", "the time is not positive", "a time such as 2d")
		}
		for _, k := range e.clustersOf() {
			key := k + " " + e.Namespace
			if other, ok := patterns[key]; ok && e.Namespace != "" {
				c.add(path+".namespace", fmt.Sprintf("environment %q has the same namespaces on cluster %q", other, k), "each environment has its own")
			}
			patterns[key] = name
		}
	}
}

func (c *checker) namespace(path string, e EnvironmentSource) {
	if e.Namespace == "" {
		return
	}
	path += ".namespace"
	if !strings.Contains(e.Namespace, "{service}") {
		c.add(path, fmt.Sprintf("the pattern %q gives all services one namespace", e.Namespace), "it holds {service}")
		return
	}
	example := strings.NewReplacer("{service}", "s", "{mr}", "1").Replace(e.Namespace)
	if !validName(example, 63) {
		c.add(path, fmt.Sprintf("the pattern %q gives no name of a namespace", e.Namespace), "{service}, {mr}, lower-case letters, digits and dashes")
	}
}

func (c *checker) services() {
	l := &c.s.Landscape
	seen := map[string]string{}
	for i, s := range c.s.Services {
		doc := c.s.files[i]
		add := func(path, message, right string) { c.found = append(c.found, doc.Problem(path, message, right)) }
		if s.Name != "" && !validName(s.Name, 30) {
			add("name", fmt.Sprintf("%q is not a name", s.Name), fmt.Sprintf(nameRule, 30))
		}
		// These start the names of roles that belong to the platform itself.
		if slices.Contains([]string{"platform", "environments", "backup", "bootstrap"}, s.Name) {
			add("name", fmt.Sprintf("%q is a name of the platform's own roles", s.Name), "another name")
		}
		if other, ok := seen[s.Name]; ok && s.Name != "" {
			add("name", fmt.Sprintf("service %q is in %s too", s.Name, other), "a service has one file")
		}
		seen[s.Name] = doc.File()
		if _, ok := l.Teams[s.Team]; !ok && s.Team != "" {
			add("team", fmt.Sprintf("there is no team %q", s.Team), known("team", keys(l.Teams)))
		}
		for j, e := range s.Environments {
			path := fmt.Sprintf("environments[%d]", j)
			env, ok := l.Environments[e]
			switch {
			case !ok:
				add(path, fmt.Sprintf("there is no environment %q", e), known("environment", keys(l.Environments)))
				continue
			case slices.Index(s.Environments, e) != j:
				add(path, fmt.Sprintf("environment %q stands here twice", e), "keep one")
			}
			ns := strings.NewReplacer("{service}", s.Name, "{mr}", "1234567").Replace(env.Namespace)
			if validName(s.Name, 30) && len(ns) > 63 {
				add(path, fmt.Sprintf("the namespace %q has %d characters", ns, len(ns)), "63 are the most")
			}
		}
		if s.Stores != nil && s.Stores.Postgres != nil && !regexp.MustCompile(`^[1-9]\d*(Mi|Gi|Ti)$`).MatchString(s.Stores.Postgres.Size) {
			add("stores.postgres.size", fmt.Sprintf("%q is not a size", s.Stores.Postgres.Size), "it is written as 20Gi")
		}
		for j, secret := range s.Secrets {
			path := fmt.Sprintf("secrets[%d]", j)
			if secret.Name != "" && !regexp.MustCompile(`^[a-z0-9][a-z0-9/_.-]*$`).MatchString(secret.Name) {
				add(path+".name", fmt.Sprintf("%q is not the name of a secret", secret.Name), "it is written as orders/db")
			}
			if secret.Rotate != nil && *secret.Rotate <= 0 {
				add(path+".rotate", "the time is not positive", "a time such as 30d")
			}
		}
	}
}

// part is what a GitLab project is in the landscape.
type part struct {
	what    string
	path    string
	service bool
}

// projects checks that each GitLab project has one part to play: trust is
// bound to its id. Several services may share one, which is then a monorepo.
func (c *checker) projects() {
	byID, byPath := map[int64]part{}, map[string]int64{}
	one := func(doc *yamlfile.Doc, what, path string, p ProjectSource, service bool) {
		add := func(path, message, right string) { c.found = append(c.found, doc.Problem(path, message, right)) }
		if p.Path != "" && !regexp.MustCompile(`^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)+$`).MatchString(p.Path) {
			add(path+".path", fmt.Sprintf("%q is not the path of a project", p.Path), "it is written as group/project")
		}
		if p.ID < 1 && doc.Has(path+".id") {
			add(path+".id", fmt.Sprintf("%d is not the id of a project", p.ID), "the number that GitLab shows on the project's page")
		}
		// It becomes part of a trust policy, where a star is a wildcard.
		if p.Branch != "" && !regexp.MustCompile(`^[A-Za-z0-9][\w./-]*$`).MatchString(p.Branch) {
			add(path+".branch", fmt.Sprintf("%q is not the name of a branch", p.Branch), "letters, digits, and . _ / - between them")
		}
		other, taken := byID[p.ID]
		id, known := byPath[p.Path]
		switch {
		case p.ID < 1 || p.Path == "":
			return
		case taken && (!service || !other.service):
			add(path+".id", fmt.Sprintf("project %d is that of %s", p.ID, other.what), "each has a project of its own, since trust is bound to the id; only services may share one")
		case taken && other.path != p.Path:
			add(path+".path", fmt.Sprintf("project %d is %q at %s, and %q here", p.ID, other.path, other.what, p.Path), "a project has one path")
		case known && id != p.ID:
			add(path+".id", fmt.Sprintf("project %q is %d at %s, and %d here", p.Path, id, byID[id].what, p.ID), "a project has one id")
		}
		byID[p.ID], byPath[p.Path] = part{what, p.Path, service}, p.ID
	}
	g := c.s.Landscape.GitLab
	one(c.s.file, "the platform", "gitlab.platformProject", g.PlatformProject, false)
	one(c.s.file, "the environments", "gitlab.environmentsProject", g.EnvironmentsProject, false)
	for i, s := range c.s.Services {
		one(c.s.files[i], fmt.Sprintf("service %q", s.Name), "project", s.Project, true)
	}
}
