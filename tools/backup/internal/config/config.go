// Package config is what people write for backups: backup.yaml and drill.yaml
// of the environments project.
package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// Backup is backup.yaml: the schedules, and what a backup must carry.
type Backup struct {
	APIVersion string              `json:"apiVersion" required:"true"`
	Kind       string              `json:"kind" required:"true"`
	Schedules  map[string]Schedule `json:"schedules" required:"true"`
	// Baseline is taken inside the backup, so that it belongs to the same moment.
	Baseline []Baseline `json:"baseline"`
	// RPO is how old the newest good backup may become.
	RPO yamlfile.Duration `json:"rpo"`
}

// Schedule is a backup of an environment, taken again and again.
type Schedule struct {
	Environment string   `json:"environment" required:"true"`
	Services    Services `json:"services"` // all, or a list
	// Every is how often the backup is taken.
	Every yamlfile.Duration `json:"every" required:"true"`
	// Keep is how long a backup is kept.
	Keep yamlfile.Duration `json:"keep" required:"true"`
	// Volumes is how the data of volumes is taken.
	Volumes string `json:"volumes" required:"true" enum:"files|snapshots|moved"`
}

// Services are the services of a schedule: the word all, or a list of names.
type Services struct {
	Names []string // empty for all
}

// All reports whether every service of the environment is meant.
func (s Services) All() bool { return len(s.Names) == 0 }

// DecodeYAML reads the word all, or a list.
func (s *Services) DecodeYAML(n *yamlfile.Node) yamlfile.Problems {
	if n.IsList() {
		p := n.Decode(&s.Names)
		if len(p) == 0 && len(s.Names) == 0 {
			p = append(p, n.Problem("the list is empty", "name services, or write all"))
		}
		return p
	}
	var word string
	p := n.Decode(&word)
	if len(p) == 0 && word != "all" {
		p = append(p, n.Problem(fmt.Sprintf("services is %q", word), "it is the word all, or a list of services"))
	}
	return p
}

// Baseline is what is written down of a store's data when the backup is taken.
type Baseline struct {
	Service string   `json:"service" required:"true"`
	Store   string   `json:"store" required:"true" enum:"postgres"`
	Quiesce string   `json:"quiesce" enum:"checkpoint"`
	Tables  []string `json:"tables"`
}

// Drill is drill.yaml: which backup is restored where, and what must hold then.
type Drill struct {
	APIVersion string     `json:"apiVersion" required:"true"`
	Kind       string     `json:"kind" required:"true"`
	Source     Source     `json:"source" required:"true"`
	Target     Target     `json:"target" required:"true"`
	Objectives Objectives `json:"objectives"`
	Checks     []Check    `json:"checks" required:"true"`
}

// Source names the schedule whose newest good backup is restored.
type Source struct {
	Schedule string `json:"schedule" required:"true"`
}

// Target is where the copy is restored to.
type Target struct {
	Cluster string `json:"cluster" required:"true"`
	// Namespaces is the pattern of the quarantine namespaces; {date} is the
	// drill's start in UTC, {service} the service.
	Namespaces string `json:"namespaces" required:"true"`
	// TTL is how long a leftover may stay before sweep removes it.
	TTL yamlfile.Duration `json:"ttl" required:"true"`
}

// Objectives are what the drill's figures are held against.
type Objectives struct {
	RPO yamlfile.Duration `json:"rpo"`
	RTO yamlfile.Duration `json:"rto"`
	// WorseBy is by how much a figure may grow from drill to drill.
	WorseBy Percent `json:"worseBy"`
}

// Percent is a share, written as 30%.
type Percent int

// DecodeYAML reads 30%.
func (p *Percent) DecodeYAML(n *yamlfile.Node) yamlfile.Problems {
	var text string
	problems := n.Decode(&text)
	if len(problems) > 0 {
		return problems
	}
	digits, ok := strings.CutSuffix(text, "%")
	v, err := strconv.Atoi(digits)
	if !ok || err != nil || v <= 0 {
		return yamlfile.Problems{n.Problem(fmt.Sprintf("%q is no percentage", text), "write a whole number above zero and %, such as 30%")}
	}
	*p = Percent(v)
	return nil
}

// Check is one thing that must hold of the restored copy. One field is set.
type Check struct {
	Ready    *Ready    `json:"ready"`
	HTTP     *HTTP     `json:"http"`
	Postgres *Postgres `json:"postgres"`
	RabbitMQ *RabbitMQ `json:"rabbitmq"`
}

// Ready asks that the restored workloads become ready and stay so.
type Ready struct {
	All    bool              `json:"all"`
	Stable yamlfile.Duration `json:"stable"`
}

// HTTP asks a service of the copy.
type HTTP struct {
	Service string `json:"service" required:"true"`
	Path    string `json:"path" required:"true"`
	Status  int    `json:"status" required:"true"`
}

// Postgres compares a service's database with the baseline.
type Postgres struct {
	Service string `json:"service" required:"true"`
	Equals  string `json:"equals" required:"true" enum:"baseline"`
}

// RabbitMQ compares a team's broker with the baseline.
type RabbitMQ struct {
	Team        string `json:"team" required:"true"`
	Definitions string `json:"definitions" required:"true" enum:"baseline"`
}

// Name is what a check is called in the report.
func (c Check) Name() string {
	switch {
	case c.Ready != nil:
		return "ready"
	case c.HTTP != nil:
		return "http " + c.HTTP.Service + c.HTTP.Path
	case c.Postgres != nil:
		return "postgres " + c.Postgres.Service
	case c.RabbitMQ != nil:
		return "rabbitmq " + c.RabbitMQ.Team
	}
	return "nothing"
}

// kinds counts the fields of a check that are set.
func (c Check) kinds() int {
	n := 0
	for _, set := range []bool{c.Ready != nil, c.HTTP != nil, c.Postgres != nil, c.RabbitMQ != nil} {
		if set {
			n++
		}
	}
	return n
}

// DateForm is how {date} in a namespace pattern is written: to the second, so
// that two drills never meet.
const DateForm = "20060102-150405"

// Namespace returns the quarantine namespace of a service.
func (t Target) Namespace(start time.Time, service string) string {
	return strings.NewReplacer("{date}", start.UTC().Format(DateForm), "{service}", service).Replace(t.Namespaces)
}
