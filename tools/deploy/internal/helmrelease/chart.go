// Package helmrelease is the one package that knows Helm. It installs,
// upgrades and rolls back releases in Helm's ordinary storage, so that the
// helm command line of version 3 and 4 goes on working with them.
package helmrelease

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"path"
	"sort"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Chart is a chart that was read.
type Chart struct{ c *chart.Chart }

// LoadDir reads a chart from a folder.
func LoadDir(dir string) (*Chart, error) {
	c, err := loader.LoadDir(dir)
	return checked(c, dir, err)
}

// LoadArchive reads a chart from a packed one.
func LoadArchive(raw []byte, name string) (*Chart, error) {
	c, err := loader.LoadArchive(bytes.NewReader(raw))
	return checked(c, name, err)
}

func checked(c *chart.Chart, where string, err error) (*Chart, error) {
	if err == nil {
		err = c.Validate()
	}
	if err == nil {
		err = action.CheckDependencies(c, c.Metadata.Dependencies)
	}
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("loading chart %q: %w", where, err))
	}
	return &Chart{c}, nil
}

// Name returns the name of the chart.
func (c *Chart) Name() string { return c.c.Metadata.Name }

// Version returns the version of the chart.
func (c *Chart) Version() string { return c.c.Metadata.Version }

// Annotate notes something in the chart's metadata, which Helm stores with the
// release and takes back with a rollback.
func (c *Chart) Annotate(key, value string) {
	if c.c.Metadata.Annotations == nil {
		c.c.Metadata.Annotations = map[string]string{}
	}
	c.c.Metadata.Annotations[key] = value
}

// Pack returns the chart as an archive. The same files give the same bytes.
func (c *Chart) Pack() ([]byte, error) {
	files := append([]*chart.File{}, c.c.Raw...)
	sort.Slice(files, func(i, j int) bool { return files[i].Name < files[j].Name })
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for _, f := range files {
		h := &tar.Header{Name: path.Join(c.Name(), f.Name), Mode: 0o644, Size: int64(len(f.Data)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("packing chart %q: %w", c.Name(), err)
		}
		if _, err := tw.Write(f.Data); err != nil {
			return nil, fmt.Errorf("packing chart %q: %w", c.Name(), err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("packing chart %q: %w", c.Name(), err)
	}
	if err := gz.Close(); err != nil {
		return nil, fmt.Errorf("packing chart %q: %w", c.Name(), err)
	}
	return out.Bytes(), nil
}

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
	// Adopt takes over objects that are of another release, or of nobody.
	Adopt bool
}

// Objects are the objects of a stored revision, as a wait takes them.
func (r Revision) Objects(namespace string) ([]*unstructured.Unstructured, error) {
	docs, err := documents(r.Manifest)
	if err != nil {
		return nil, err
	}
	return rollout.Objects(docs, namespace), nil
}
