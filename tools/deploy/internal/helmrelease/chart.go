// Package helmrelease is the one package that knows Helm. It installs,
// upgrades and rolls back releases in Helm's ordinary storage, so that the
// helm command line of version 3 and 4 goes on working with them.
package helmrelease

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gitlab.com/slipway/slipway/pkg/rollout"
)

// Spec is a release as it is asked for.
type Spec struct {
	Name, Namespace string
	Chart           *Chart
	Values          map[string]any
	// Secrets are the strings among the values that were fetched by a
	// reference: they are shown nowhere.
	Secrets []string
	// Tenant is set for a service: it may only bring what a service may.
	Tenant bool
}

// Objects are the objects of a stored revision, as a wait takes them.
func (r Revision) Objects(namespace string) ([]*unstructured.Unstructured, error) {
	docs, err := documents(r.Manifest)
	if err != nil {
		return nil, err
	}
	return rollout.Objects(docs, namespace), nil
}
