package config

import (
	"fmt"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// ReleaseSet is releases.yaml.
type ReleaseSet struct {
	APIVersion  string                `json:"apiVersion" required:"true"`
	Kind        string                `json:"kind" required:"true"`
	Defaults    Defaults              `json:"defaults"`
	Releases    []Release             `json:"releases" required:"true"`
	Credentials map[string]Credential `json:"credentials"`
}

// Defaults hold for every release that says nothing else.
type Defaults struct {
	Timeout *yamlfile.Duration `json:"timeout"`
	Stable  *yamlfile.Duration `json:"stable"`
}

// Release is one release of a set.
type Release struct {
	Name            string             `json:"name" required:"true"`
	Namespace       string             `json:"namespace" required:"true"`
	CreateNamespace bool               `json:"createNamespace"`
	Chart           Chart              `json:"chart" required:"true"`
	Values          []string           `json:"values"`
	Needs           []string           `json:"needs"`
	Timeout         *yamlfile.Duration `json:"timeout"`
	Stable          *yamlfile.Duration `json:"stable"`
}

// Rollout returns how long to wait for the release.
func (s *ReleaseSet) Rollout(r Release) Rollout {
	out := Rollout{Timeout: s.Defaults.Timeout, Stable: s.Defaults.Stable}
	if r.Timeout != nil {
		out.Timeout = r.Timeout
	}
	if r.Stable != nil {
		out.Stable = r.Stable
	}
	return out
}

// ReadSet reads releases.yaml, with every problem at once.
func ReadSet(file string, raw []byte) (*ReleaseSet, error) {
	docs, err := yamlfile.Parse(file, raw)
	if err != nil {
		return nil, err
	}
	d := docs[0]
	var s ReleaseSet
	p := append(d.Expect("ReleaseSet"), d.Decode(&s)...)
	if len(docs) > 1 {
		p = append(p, d.Problem("", "the file holds several documents", "one set to a file"))
	}
	p = append(p, checkCredentials(d, s.Credentials)...)
	names := map[string]bool{}
	for i, r := range s.Releases {
		at := fmt.Sprintf("releases[%d]", i)
		if r.Name != "" && !label.MatchString(r.Name) {
			p = append(p, d.Problem(at+".name", fmt.Sprintf("%q is not a release name", r.Name), "lower-case letters, digits and dashes, 53 at the most"))
		}
		if r.Namespace != "" && !label.MatchString(r.Namespace) {
			p = append(p, d.Problem(at+".namespace", fmt.Sprintf("%q is not a namespace", r.Namespace), "lower-case letters, digits and dashes"))
		}
		// needs name releases by name alone, so a name stands for one release.
		if names[r.Name] {
			p = append(p, d.Problem(at+".name", fmt.Sprintf("the name %q stands here twice", r.Name), "a name of its own for each release"))
		}
		names[r.Name] = true
		if d.Has(at + ".chart") {
			p = append(p, r.Chart.check(d, at+".chart")...)
		}
		p = append(p, checkLayers(d, at+".values", r.Values, false)...)
	}
	for i, r := range s.Releases {
		for j, need := range r.Needs {
			if !names[need] {
				p = append(p, d.Problem(fmt.Sprintf("releases[%d].needs[%d]", i, j), fmt.Sprintf("there is no release %q", need), "known are "+strings.Join(sorted(names), ", ")))
			}
		}
	}
	if len(p) == 0 {
		if cycle := s.cycle(); cycle != nil {
			p = append(p, d.Problem("releases", "the needs go round in a circle: "+strings.Join(cycle, " -> "), "take one need out"))
		}
	}
	return &s, p.Err()
}

func sorted(m map[string]bool) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// cycle returns the names along a circle of needs, or nil.
func (s *ReleaseSet) cycle() []string {
	needs := map[string][]string{}
	for _, r := range s.Releases {
		needs[r.Name] = r.Needs
	}
	done := map[string]bool{}
	var path []string
	var visit func(string) []string
	visit = func(n string) []string {
		if i := slices.Index(path, n); i >= 0 {
			return append(slices.Clone(path[i:]), n)
		}
		if done[n] {
			return nil
		}
		path = append(path, n)
		for _, next := range needs[n] {
			if c := visit(next); c != nil {
				return c
			}
		}
		path = path[:len(path)-1]
		done[n] = true
		return nil
	}
	for _, r := range s.Releases {
		if c := visit(r.Name); c != nil {
			return c
		}
	}
	return nil
}
