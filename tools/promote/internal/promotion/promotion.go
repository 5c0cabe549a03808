// Package promotion is promotion.yaml of the environments project: the order
// of the environments, and the gates before each.
package promotion

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // freezes name zones, and an image may have no zone files

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// Promotion is the file.
type Promotion struct {
	APIVersion string          `json:"apiVersion" required:"true"`
	Kind       string          `json:"kind" required:"true"`
	Order      []Wave          `json:"order" required:"true"`
	Gates      map[string]Gate `json:"gates"`
	Lanes      Lanes           `json:"lanes"`
}

// Wave is a step of the order: an environment, or several in a list.
type Wave []string

// DecodeYAML reads a name or a list of names.
func (w *Wave) DecodeYAML(n *yamlfile.Node) yamlfile.Problems {
	if n.IsList() {
		var names []string
		p := n.Decode(&names)
		*w = names
		return p
	}
	var name string
	p := n.Decode(&name)
	*w = Wave{name}
	return p
}

// Gate is what a bundle must pass before it is deployed to an environment.
type Gate struct {
	Healthy yamlfile.Duration `json:"healthy"`
	Require []Requirement     `json:"require"`
	Actor   Actor             `json:"actor"`
	Freeze  []Freeze          `json:"freeze"`
	Rules   []string          `json:"rules"`
}

// Actor says who may press the button.
type Actor struct {
	NotAuthor bool `json:"notAuthor"`
}

// Requirement is an evidence that must be there: a word, or a map of a word to
// its conditions.
type Requirement struct {
	Name string
	Age  yamlfile.Duration
}

// DecodeYAML reads "tests" or {backup: {age: 24h}}.
func (r *Requirement) DecodeYAML(n *yamlfile.Node) yamlfile.Problems {
	if n.IsScalar() {
		p := n.Decode(&r.Name)
		if len(p) == 0 && r.Name != "tests" {
			p = append(p, n.Problem(fmt.Sprintf("%q is not known here", r.Name), "it is tests, {backup: {age: 24h}} or {drill: {age: 30d}}"))
		}
		return p
	}
	var form struct {
		Backup *struct {
			Age yamlfile.Duration `json:"age" required:"true"`
		} `json:"backup"`
		Drill *struct {
			Age yamlfile.Duration `json:"age" required:"true"`
		} `json:"drill"`
	}
	p := n.Decode(&form)
	if len(p) > 0 {
		return p
	}
	switch {
	case form.Backup != nil && form.Drill == nil:
		*r = Requirement{Name: "backup", Age: form.Backup.Age}
	case form.Drill != nil && form.Backup == nil:
		*r = Requirement{Name: "drill", Age: form.Drill.Age}
	default:
		return yamlfile.Problems{n.Problem("a requirement names one thing", "write each as an item of the list")}
	}
	return nil
}

// Freeze is a time in which nothing is promoted.
type Freeze struct {
	From   string `json:"from" required:"true"`
	To     string `json:"to" required:"true"`
	Zone   string `json:"zone" required:"true"`
	Reason string `json:"reason" required:"true"`
}

// freezeForm is how the ends of a freeze are written.
const freezeForm = "2006-01-02 15:04"

// Window returns the freeze's ends.
func (f Freeze) Window() (from, to time.Time, err error) {
	zone, err := time.LoadLocation(f.Zone)
	if err != nil {
		return from, to, fmt.Errorf("finding time zone %q: %w", f.Zone, err)
	}
	if from, err = time.ParseInLocation(freezeForm, f.From, zone); err != nil {
		return from, to, fmt.Errorf("reading %q: %w", f.From, err)
	}
	if to, err = time.ParseInLocation(freezeForm, f.To, zone); err != nil {
		return from, to, fmt.Errorf("reading %q: %w", f.To, err)
	}
	return from, to, nil
}

// Lanes are the ways beside the ordinary one.
type Lanes struct {
	Hotfix        *Hotfix        `json:"hotfix"`
	Configuration *Configuration `json:"configuration"`
}

// Hotfix is the lane of an urgent repair.
type Hotfix struct {
	From      string            `json:"from" required:"true" enum:"running"`
	Order     []string          `json:"order" required:"true"`
	Healthy   yamlfile.Duration `json:"healthy"`
	MergeBack string            `json:"mergeBack" enum:"required|none"`
}

// Configuration is the lane of a change of values alone.
type Configuration struct {
	Healthy yamlfile.Duration `json:"healthy"`
}

// Read reads and checks the file against the landscape. Its error names every
// problem at once.
func Read(file string, raw []byte, s *landscape.Snapshot) (*Promotion, error) {
	docs, err := yamlfile.Parse(file, raw)
	if err != nil {
		return nil, err
	}
	d := docs[0]
	var p Promotion
	problems := append(d.Expect("Promotion"), d.Decode(&p)...)
	for _, extra := range docs[1:] {
		problems = append(problems, extra.Problem("", "a second document", "the file holds one Promotion"))
	}
	return &p, append(problems, p.check(d, s)...).Err()
}

// check finds what the form alone does not show.
func (p *Promotion) check(d *yamlfile.Doc, s *landscape.Snapshot) yamlfile.Problems {
	c := checker{doc: d, snapshot: s}
	first := map[string]string{}
	if d.Has("order") && len(p.Order) == 0 {
		c.add("order", "the order is empty", "name the environments, the first first")
	}
	for i, wave := range p.Order {
		for j, env := range wave {
			path := fmt.Sprintf("order[%d]", i)
			if d.Has(path + "[0]") {
				path = fmt.Sprintf("order[%d][%d]", i, j)
			}
			if at, ok := first[env]; ok {
				c.add(path, fmt.Sprintf("environment %q stands in the order twice", env), "it is already at "+at)
				continue
			}
			first[env] = path
			c.known(path, env)
		}
	}
	for _, env := range slices.Sorted(maps.Keys(p.Gates)) {
		c.gate(p, "gates."+env, env, first)
	}
	if p.Lanes.Hotfix != nil {
		for i, env := range p.Lanes.Hotfix.Order {
			c.known(fmt.Sprintf("lanes.hotfix.order[%d]", i), env)
		}
		c.notNegative("lanes.hotfix.healthy", p.Lanes.Hotfix.Healthy)
	}
	if p.Lanes.Configuration != nil {
		c.notNegative("lanes.configuration.healthy", p.Lanes.Configuration.Healthy)
	}
	return c.all
}

type checker struct {
	doc      *yamlfile.Doc
	snapshot *landscape.Snapshot
	all      yamlfile.Problems
}

func (c *checker) add(path, message, right string) {
	c.all = append(c.all, c.doc.Problem(path, message, right))
}

func (c *checker) known(path, env string) bool {
	if _, ok := c.snapshot.Environments[env]; !ok {
		c.add(path, fmt.Sprintf("the landscape has no environment %q", env),
			"it has "+strings.Join(slices.Sorted(maps.Keys(c.snapshot.Environments)), ", "))
		return false
	}
	return true
}

func (c *checker) notNegative(path string, d yamlfile.Duration) {
	if d < 0 {
		c.add(path, "the duration is negative", "it is 0s or more")
	}
}

func (c *checker) gate(p *Promotion, path, env string, order map[string]string) {
	if c.known(path, env) {
		if !c.snapshot.Environments[env].Gated {
			c.add(path, fmt.Sprintf("environment %q is not gated in the landscape, so that nothing would evaluate this gate", env), "set gated: true there, or leave the gate out")
		}
		if _, ok := order[env]; !ok {
			c.add(path, fmt.Sprintf("environment %q is not in the order", env), "add it to order")
		}
	}
	g := p.Gates[env]
	c.notNegative(path+".healthy", g.Healthy)
	if len(p.Order) > 0 && slices.Contains(p.Order[0], env) && g.Healthy > 0 {
		c.add(path+".healthy", "it is the first of the order: there is no environment before it to have been healthy in", "leave it out")
	}
	for i, f := range g.Freeze {
		at := fmt.Sprintf("%s.freeze[%d]", path, i)
		from, to, err := f.Window()
		switch {
		case f.From == "" || f.To == "" || f.Zone == "": // the form has told
		case err != nil:
			c.add(at, err.Error(), `write "2026-12-20 00:00", and the zone as Europe/Warsaw`)
		case !from.Before(to):
			c.add(at, fmt.Sprintf("the freeze ends at %q, not after its start %q", f.To, f.From), "from must be before to")
		}
	}
	for i, r := range g.Rules {
		if strings.TrimSpace(r) == "" {
			c.add(fmt.Sprintf("%s.rules[%d]", path, i), "the rule is empty", "write a CEL expression")
		}
	}
}

// Before returns the environments that a bundle of a service must have been in
// before the target: the nearest earlier wave with environments of the service.
// It reports whether the order names the target.
func (p *Promotion) Before(target string, of []string) (before []string, found bool) {
	for _, wave := range p.Order {
		if slices.Contains(wave, target) {
			return before, true
		}
		var have []string
		for _, env := range wave {
			if slices.Contains(of, env) {
				have = append(have, env)
			}
		}
		if len(have) > 0 {
			before = have
		}
	}
	return nil, false
}
