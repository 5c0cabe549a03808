// Package config reads the files of slipway-deploy: slipway.yaml, which
// describes a service, and releases.yaml, which describes a set of releases.
package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// ServiceFile is the name of a service's file.
const ServiceFile = "slipway.yaml"

// Source is where the files are: a folder, or an unpacked bundle.
type Source interface {
	ReadFile(name string) ([]byte, error)
}

// Service is slipway.yaml.
type Service struct {
	APIVersion   string                 `json:"apiVersion" required:"true"`
	Kind         string                 `json:"kind" required:"true"`
	Name         string                 `json:"name" required:"true"`
	Chart        Chart                  `json:"chart" required:"true"`
	Values       []string               `json:"values"`
	Images       map[string]Image       `json:"images"`
	Secrets      Secrets                `json:"secrets"`
	Migrations   *Migrations            `json:"migrations"`
	Rollout      Rollout                `json:"rollout"`
	Environments map[string]Environment `json:"environments"`
	Credentials  map[string]Credential  `json:"credentials"`

	doc *yamlfile.Doc
}

// Problem makes a problem at a field path of the service's file.
func (s *Service) Problem(path, message, right string) yamlfile.Problem {
	return s.doc.Problem(path, message, right)
}

// Image says which value of the chart is an image, and which variable of the
// job holds its reference by digest.
type Image struct {
	Value string `json:"value" required:"true"`
	From  string `json:"from" required:"true"`
}

// Secrets are declared for people and for rotation: pods fetch them at run time.
type Secrets struct {
	Runtime []string `json:"runtime"`
}

// Migrations say what a rollback may undo.
type Migrations struct {
	Job           string `json:"job" required:"true"`
	Compatibility string `json:"compatibility" required:"true" enum:"expand|contract"`
}

// Rollout says how long to wait, and what to do when it fails.
type Rollout struct {
	Timeout   *yamlfile.Duration `json:"timeout"`
	Stable    *yamlfile.Duration `json:"stable"`
	OnFailure string             `json:"onFailure" enum:"restore|leave"`
}

// DefaultTimeout is that of a rollout that says nothing else.
const DefaultTimeout = 10 * time.Minute

// Wait returns the timeout of a rollout and its stability window, which
// follows from each workload where the file says nothing.
func (r Rollout) Wait() (timeout, stable time.Duration) {
	timeout, stable = DefaultTimeout, rollout.ByWorkload
	if r.Timeout != nil {
		timeout = r.Timeout.Std()
	}
	if r.Stable != nil {
		stable = r.Stable.Std()
	}
	return timeout, stable
}

// Restores reports whether a failed rollout is rolled back, and why not. A
// schema that was contracted cannot be worked with by the code before it.
func (s *Service) Restores() (ok bool, why string) {
	switch {
	case s.Rollout.OnFailure == "leave":
		return false, "rollout.onFailure is leave"
	case s.Migrations != nil && s.Migrations.Compatibility == "contract":
		return false, "migrations.compatibility is contract: the revision before cannot work with the migrated data"
	}
	return true, ""
}

// Environment is what differs from the landscape in one environment.
type Environment struct {
	URL string `json:"url"`
}

var (
	label    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$`)
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	dotted   = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	holder   = regexp.MustCompile(`\{[^}]*\}`)
)

// ReadService reads slipway.yaml, with every problem at once. file is its name
// in messages. Where the file is YAML, the service comes with its problems, and
// without the layers and images that are wrong: the rest can be looked at.
func ReadService(file string, raw []byte) (*Service, error) {
	docs, err := yamlfile.Parse(file, raw)
	if err != nil {
		return nil, err
	}
	d := docs[0]
	s := Service{doc: d}
	p := append(d.Expect("Service"), d.Decode(&s)...)
	if len(docs) > 1 {
		p = append(p, d.Problem("", "the file holds several documents", "one service to a file"))
	}
	if d.Has("name") && !label.MatchString(s.Name) {
		p = append(p, d.Problem("name", fmt.Sprintf("%q is not a release name", s.Name), "lower-case letters, digits and dashes, 53 at the most"))
	}
	if d.Has("chart") {
		p = append(p, s.Chart.check(d, "chart")...)
	}
	p = append(p, checkCredentials(d, s.Credentials)...)
	p = append(p, checkLayers(d, "values", s.Values, true)...)
	for name, i := range s.Images {
		if d.Has("images."+name+".value") && !dotted.MatchString(i.Value) {
			p = append(p, d.Problem("images."+name+".value", fmt.Sprintf("%q is not the path of a value", i.Value), "names with dots between, such as migrations.image"))
		}
		if d.Has("images."+name+".from") && !variable.MatchString(i.From) {
			p = append(p, d.Problem("images."+name+".from", fmt.Sprintf("%q is not the name of a variable", i.From), "such as IMAGE_REF"))
		}
	}
	p = append(p, s.Rollout.check(d)...)
	s.leaveOut(p)
	return &s, p.Err()
}

// leaveOut takes out the layers and images that have problems.
func (s *Service) leaveOut(p yamlfile.Problems) {
	wrong := func(path string) bool {
		return slices.ContainsFunc(p, func(x yamlfile.Problem) bool { return x.Path == path || strings.HasPrefix(x.Path, path+".") })
	}
	var layers []string
	for i, l := range s.Values {
		if !wrong(fmt.Sprintf("values[%d]", i)) {
			layers = append(layers, l)
		}
	}
	s.Values = layers
	for name := range s.Images {
		if wrong("images." + name) {
			delete(s.Images, name)
		}
	}
}

func (r Rollout) check(d *yamlfile.Doc) (p yamlfile.Problems) {
	if r.Timeout != nil && *r.Timeout <= 0 {
		p = append(p, d.Problem("rollout.timeout", "the timeout is not above zero", "such as 10m"))
	}
	if r.Stable != nil && *r.Stable < 0 {
		p = append(p, d.Problem("rollout.stable", "the window is below zero", "0s, or such as 5s"))
	}
	return p
}

func checkLayers(d *yamlfile.Doc, at string, layers []string, placeholders bool) (p yamlfile.Problems) {
	for i, l := range layers {
		where := fmt.Sprintf("%s[%d]", at, i)
		if l == "" || !inside(l) {
			p = append(p, d.Problem(where, fmt.Sprintf("%q is not a file below the folder", l), "a path below the file's folder"))
		}
		for _, h := range holder.FindAllString(l, -1) {
			if h != "{environment}" || !placeholders {
				p = append(p, d.Problem(where, "the placeholder "+h+" is not known here", map[bool]string{true: "{environment} is", false: "write the name out"}[placeholders]))
			}
		}
		if slices.Index(layers, l) != i {
			p = append(p, d.Problem(where, fmt.Sprintf("%q stands here twice", l), "keep one"))
		}
	}
	return p
}

func inside(p string) bool {
	clean := path.Clean(p)
	return !path.IsAbs(p) && clean != ".." && !strings.HasPrefix(clean, "../") && !strings.Contains(p, "\\")
}
