// Package state is the observed state of the gated
// environments, as files of the environments project.
package state

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml"

	"gitlab.com/slipway/slipway/pkg/envstate"
	"gitlab.com/slipway/slipway/tools/promote/internal/gate"
)

// Observed is <environment>/<service>.observed.yaml: what runs, as
// slipway-deploy saw it.
type Observed struct {
	APIVersion  string            `yaml:"apiVersion" json:"apiVersion"`
	Kind        string            `yaml:"kind" json:"kind"`
	Service     string            `yaml:"service" json:"service"`
	Environment string            `yaml:"environment" json:"environment"`
	Bundle      string            `yaml:"bundle" json:"bundle"`
	Revision    any               `yaml:"revision" json:"revision,omitempty"`
	Status      string            `yaml:"status" json:"status"` // deployed | restored | failed
	Images      map[string]string `yaml:"images" json:"images,omitempty"`
	Since       time.Time         `yaml:"since" json:"since"`
}

// The states a deployment can end in.
const (
	Deployed = "deployed"
	Restored = "restored"
	Failed   = "failed"
)

// ObservedFile returns the path of the observed state.
func ObservedFile(environment, service string) string {
	return environment + "/" + service + ".observed.yaml"
}

// Gates returns results in the form of the file.
func Gates(results []gate.Result) []envstate.Gate {
	out := make([]envstate.Gate, len(results))
	for i, r := range results {
		out[i] = envstate.Gate(r)
	}
	return out
}

// ReadObserved reads the file. Fields that a newer slipway-deploy added are
// left out.
func ReadObserved(path string, raw []byte) (Observed, error) {
	var o Observed
	if err := yaml.Unmarshal(raw, &o); err != nil {
		return o, fmt.Errorf("reading %q: %s", path, yaml.FormatError(err, false, false))
	}
	if o.Kind != "Observed" {
		return o, fmt.Errorf("reading %q: it is a %q, not an Observed", path, o.Kind)
	}
	return o, nil
}

// Event is a point of an environment's history, as evidence for a bundle.
type Event struct {
	At     time.Time
	Ours   bool // the bundle was deployed then, and healthy
	Ends   bool // something else runs from then on, or nothing is known
	Source string
}

// Events returns the history of the observed file, newest first as git tells
// it, as evidence for a bundle. A restored deployment changes nothing: what ran
// before runs on. Nor does a failed one that names the bundle: it ran before
// and after. One that left something broken names none.
func Events(newest []Observed, bundle string) []Event {
	var out []Event
	for i := len(newest) - 1; i >= 0; i-- {
		o := newest[i]
		if o.Status == Restored || o.Status == Failed && o.Bundle == bundle {
			continue
		}
		ours := o.Status == Deployed && o.Bundle == bundle
		out = append(out, Event{At: o.Since, Ours: ours, Ends: !ours, Source: "observed state"})
	}
	return out
}

// Intervals joins events, oldest first, to the times in which the bundle ran.
func Intervals(oldest []Event) []gate.Interval {
	var out []gate.Interval
	open := false
	for _, e := range oldest {
		switch {
		case e.Ours && !open:
			out = append(out, gate.Interval{Since: e.At, Source: e.Source})
			open = true
		case e.Ends && open:
			out[len(out)-1].Until = e.At
			open = false
		}
	}
	return out
}
