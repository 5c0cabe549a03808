// Package envstate is the desired state of the gated environments, as files of
// the environments project: promote writes them, deploy holds to them.
package envstate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/goccy/go-yaml"
)

// Desired is <environment>/<service>.desired.yaml: what shall run, and why it
// may.
type Desired struct {
	APIVersion    string    `yaml:"apiVersion" json:"apiVersion"`
	Kind          string    `yaml:"kind" json:"kind"`
	Service       string    `yaml:"service" json:"service"`
	Environment   string    `yaml:"environment" json:"environment"`
	Bundle        string    `yaml:"bundle" json:"bundle"`
	Configuration string    `yaml:"configuration" json:"configuration"` // digest of <service>.values.yaml, or "none"
	Commit        string    `yaml:"commit" json:"commit"`               // of the service
	By            string    `yaml:"by" json:"by"`
	Pipeline      int64     `yaml:"pipeline" json:"pipeline"`
	At            time.Time `yaml:"at" json:"at"`
	Gates         []Gate    `yaml:"gates" json:"gates"`
}

// Gate is a gate's result in the file.
type Gate struct {
	Gate   string `yaml:"gate" json:"gate"`
	Passed bool   `yaml:"passed" json:"passed"`
	Reason string `yaml:"reason" json:"reason"`
}

// DesiredFile returns the path of the desired state.
func DesiredFile(environment, service string) string {
	return environment + "/" + service + ".desired.yaml"
}

// ValuesFile returns the path of the configuration that people own.
func ValuesFile(environment, service string) string {
	return environment + "/" + service + ".values.yaml"
}

// Revision names a configuration: its digest, or "none" where there is no file.
func Revision(values []byte) string {
	if values == nil {
		return "none"
	}
	sum := sha256.Sum256(values)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Encode returns the file.
func (d Desired) Encode() ([]byte, error) {
	raw, err := yaml.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encoding the desired state of %q: %w", d.Service, err)
	}
	return append([]byte("# Written by slipway-promote; people change the values file.\n"), raw...), nil
}

// ReadDesired reads the file.
func ReadDesired(path string, raw []byte) (Desired, error) {
	var d Desired
	if err := yaml.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("reading %q: %s", path, yaml.FormatError(err, false, false))
	}
	if d.Kind != "Desired" {
		return d, fmt.Errorf("reading %q: it is a %q, not a Desired", path, d.Kind)
	}
	return d, nil
}
