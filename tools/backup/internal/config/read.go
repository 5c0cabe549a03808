package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// File is a file's name and content.
type File struct {
	Name string
	Raw  []byte
}

// ReadBackup reads the Backup document of a file, with every problem at once.
func ReadBackup(f File, s *landscape.Snapshot) (*Backup, error) {
	b, problems := backupOf(f, s)
	return b, problems.Err()
}

// ReadDrill reads the Drill document of one file and the Backup document of
// another, or of the same, with every problem of both at once.
func ReadDrill(drill, backup File, s *landscape.Snapshot) (*Drill, *Backup, error) {
	b, problems := backupOf(backup, s)
	d, more := drillOf(drill, b, s)
	problems = append(problems, more...)
	return d, b, problems.Err()
}

// find returns the document of a kind. A file may hold documents of the other.
func find(f File, kind string) (*yamlfile.Doc, yamlfile.Problems) {
	docs, err := yamlfile.Parse(f.Name, f.Raw)
	if err != nil {
		var p yamlfile.Problems
		if errors.As(err, &p) {
			return nil, p
		}
		return nil, yamlfile.Problems{{File: f.Name, Line: 1, Column: 1, Message: err.Error()}}
	}
	var found *yamlfile.Doc
	var problems yamlfile.Problems
	for _, d := range docs {
		switch {
		case d.Kind() == kind && found == nil:
			found = d
			problems = append(problems, d.Expect(kind)...)
		case d.Kind() == kind:
			problems = append(problems, d.Problem("kind", "a second "+kind+" in the file", "keep one"))
		default:
			problems = append(problems, d.Expect("Backup", "Drill")...)
		}
	}
	if found == nil && len(problems) == 0 {
		problems = append(problems, yamlfile.Problem{File: f.Name, Line: 1, Column: 1, Path: "kind",
			Message: "the file has no document of kind " + kind, Right: "write one, or name another file"})
	}
	return found, problems
}

// nameRule keeps a schedule's name fit to begin the name of a backup, which
// Velero uses as a label.
var nameRule = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,22}[a-z0-9])?$`)

func backupOf(f File, s *landscape.Snapshot) (*Backup, yamlfile.Problems) {
	doc, problems := find(f, "Backup")
	if doc == nil {
		return nil, problems
	}
	var b Backup
	problems = append(problems, doc.Decode(&b)...)
	for _, name := range slices.Sorted(maps.Keys(b.Schedules)) {
		problems = append(problems, scheduleProblems(doc, s, name, b.Schedules[name])...)
	}
	if doc.Has("schedules") && len(b.Schedules) == 0 {
		problems = append(problems, doc.Problem("schedules", "there is no schedule", "name one"))
	}
	for i, x := range b.Baseline {
		if _, ok := s.Services[x.Service]; x.Service != "" && !ok {
			problems = append(problems, unknown(doc, fmt.Sprintf("baseline[%d].service", i), "service", x.Service, s.Services))
		}
	}
	return &b, append(problems, positive(doc, "rpo", b.RPO)...)
}

func scheduleProblems(doc *yamlfile.Doc, s *landscape.Snapshot, name string, x Schedule) yamlfile.Problems {
	var problems yamlfile.Problems
	path := "schedules." + name
	if !nameRule.MatchString(name) {
		problems = append(problems, doc.Problem(path, fmt.Sprintf("%q is no name for a schedule", name), "at most 24 of a-z, 0-9 and -, not at the ends"))
	}
	env, known := s.Environments[x.Environment]
	switch {
	case x.Environment == "":
	case !known:
		problems = append(problems, unknown(doc, path+".environment", "environment", x.Environment, s.Environments))
	case len(env.Clusters) == 0:
		problems = append(problems, doc.Problem(path+".environment", "the landscape gives the environment no cluster", "name another environment"))
	case strings.Contains(env.Namespace, "{mr}"):
		problems = append(problems, doc.Problem(path+".environment", "a review environment is not backed up", "name another environment"))
	}
	for i, service := range x.Services.Names {
		at := fmt.Sprintf("%s.services[%d]", path, i)
		svc, ok := s.Services[service]
		switch {
		case !ok:
			problems = append(problems, unknown(doc, at, "service", service, s.Services))
		case known && !slices.Contains(svc.Environments, x.Environment):
			problems = append(problems, doc.Problem(at, fmt.Sprintf("service %q is not in environment %q", service, x.Environment), "it is in "+strings.Join(svc.Environments, ", ")))
		case slices.Index(x.Services.Names, service) != i:
			problems = append(problems, doc.Problem(at, fmt.Sprintf("service %q stands here twice", service), "keep one"))
		}
	}
	problems = append(problems, positive(doc, path+".every", x.Every)...)
	problems = append(problems, positive(doc, path+".keep", x.Keep)...)
	if x.Every > 0 && x.Keep > 0 && x.Keep < x.Every {
		problems = append(problems, doc.Problem(path+".keep", fmt.Sprintf("%s is shorter than every %s: there would be times without any backup", x.Keep.Std(), x.Every.Std()), "keep a backup at least until the next"))
	}
	return problems
}

func drillOf(f File, b *Backup, s *landscape.Snapshot) (*Drill, yamlfile.Problems) {
	doc, problems := find(f, "Drill")
	if doc == nil {
		return nil, problems
	}
	var d Drill
	problems = append(problems, doc.Decode(&d)...)
	var schedule Schedule
	if b != nil && d.Source.Schedule != "" {
		var ok bool
		if schedule, ok = b.Schedules[d.Source.Schedule]; !ok {
			problems = append(problems, unknown(doc, "source.schedule", "schedule", d.Source.Schedule, b.Schedules))
		}
	}
	problems = append(problems, targetProblems(doc, s, d.Target.Cluster, schedule.Environment)...)
	problems = append(problems, positive(doc, "target.ttl", d.Target.TTL)...)
	problems = append(problems, positive(doc, "objectives.rpo", d.Objectives.RPO)...)
	problems = append(problems, positive(doc, "objectives.rto", d.Objectives.RTO)...)
	if d.Target.Namespaces != "" {
		problems = append(problems, patternProblems(doc, d.Target, ServicesOf(s, schedule))...)
	}
	if doc.Has("checks") && len(d.Checks) == 0 {
		problems = append(problems, doc.Problem("checks", "a drill without a check proves nothing", "ask at least for ready: {all: true}"))
	}
	for i, c := range d.Checks {
		problems = append(problems, checkProblems(doc, fmt.Sprintf("checks[%d]", i), c, s)...)
	}
	return &d, problems
}

// targetProblems refuses a cluster that the backup roles of the drill's
// environment cannot reach. An environment without any is another trouble.
func targetProblems(doc *yamlfile.Doc, s *landscape.Snapshot, cluster, environment string) yamlfile.Problems {
	const path = "target.cluster"
	if _, ok := s.Clusters[cluster]; !ok {
		if cluster == "" {
			return nil
		}
		return yamlfile.Problems{unknown(doc, path, "cluster", cluster, s.Clusters)}
	}
	_, reach := RoleIn(s, environment, cluster)
	if len(reach) == 0 || slices.Contains(reach, cluster) {
		return nil
	}
	return yamlfile.Problems{doc.Problem(path, fmt.Sprintf("no backup role of environment %q may work in cluster %q", environment, cluster), "they may in "+strings.Join(reach, ", "))}
}

// RoleIn returns the backup role of an environment that may work in a cluster,
// nil where there is none, and all the clusters that its backup roles reach: it
// has one for each account.
func RoleIn(s *landscape.Snapshot, environment, cluster string) (role *landscape.Role, reach []string) {
	for i, r := range s.Roles {
		if r.Purpose != landscape.PurposeBackup || r.Environment != environment {
			continue
		}
		reach = append(reach, r.Clusters...)
		if slices.Contains(r.Clusters, cluster) {
			role = &s.Roles[i]
		}
	}
	return role, reach
}

// namespaceRule is Kubernetes' rule for the name of a namespace.
var namespaceRule = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func patternProblems(doc *yamlfile.Doc, t Target, services []string) yamlfile.Problems {
	const path = "target.namespaces"
	for _, part := range []string{"{service}", "{date}"} {
		if !strings.Contains(t.Namespaces, part) {
			return yamlfile.Problems{doc.Problem(path, "the pattern lacks "+part, "such as drill-{date}-{service}: every service and every drill needs a namespace of its own")}
		}
	}
	for _, service := range append([]string{"s"}, services...) {
		if ns := t.Namespace(time.Unix(0, 0), service); !namespaceRule.MatchString(ns) {
			return yamlfile.Problems{doc.Problem(path, fmt.Sprintf("the pattern gives %q, which is no name for a namespace", ns), "at most 63 of a-z, 0-9 and -, with {date} (15 characters) and {service}")}
		}
	}
	return nil
}

func checkProblems(doc *yamlfile.Doc, path string, c Check, s *landscape.Snapshot) yamlfile.Problems {
	service := ""
	switch {
	case c.kinds() != 1:
		return yamlfile.Problems{doc.Problem(path, "a check is one of ready, http, postgres, rabbitmq", "write each as an item of the list")}
	case c.Ready != nil && !c.Ready.All:
		return yamlfile.Problems{doc.Problem(path+".ready", "the check cannot fail: it asks for nothing", "write all: true")}
	case c.HTTP != nil && c.HTTP.Status != 0 && (c.HTTP.Status < 100 || c.HTTP.Status > 599):
		return yamlfile.Problems{doc.Problem(path+".http.status", fmt.Sprintf("%d is no HTTP status", c.HTTP.Status), "such as 200")}
	case c.HTTP != nil:
		service, path = c.HTTP.Service, path+".http.service"
	case c.Postgres != nil:
		service, path = c.Postgres.Service, path+".postgres.service"
	}
	if _, ok := s.Services[service]; service != "" && !ok {
		return yamlfile.Problems{unknown(doc, path, "service", service, s.Services)}
	}
	return nil
}

func positive(doc *yamlfile.Doc, path string, d yamlfile.Duration) yamlfile.Problems {
	if doc.Has(path) && d <= 0 {
		return yamlfile.Problems{doc.Problem(path, fmt.Sprintf("%s is not above zero", d.Std()), "such as 1h")}
	}
	return nil
}

// ServicesOf returns the services that a schedule means, sorted.
func ServicesOf(s *landscape.Snapshot, x Schedule) []string {
	if !x.Services.All() {
		return slices.Sorted(slices.Values(x.Services.Names))
	}
	var out []string
	for name, svc := range s.Services {
		if slices.Contains(svc.Environments, x.Environment) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func unknown[V any](doc *yamlfile.Doc, path, what, name string, known map[string]V) yamlfile.Problem {
	return doc.Problem(path, fmt.Sprintf("there is no %s %q", what, name), "there is "+strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}
