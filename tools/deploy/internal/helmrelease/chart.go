// Package helmrelease is the one package that knows Helm. It installs,
// upgrades and rolls back releases in Helm's ordinary storage, so that the
// helm command line of version 3 and 4 goes on working with them.
package helmrelease

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"path"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Chart is a chart that was read. It is used by one release at a time: Helm
// writes into charts while it renders them.
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
}

// Render returns the manifest of a release, hooks included, without a
// cluster: with Helm's default capabilities, and lookup finding nothing.
func Render(ctx context.Context, s Spec) (string, error) {
	i := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	i.ReleaseName, i.Namespace = s.Name, s.Namespace
	i.DryRun, i.ClientOnly, i.IncludeCRDs, i.Replace = true, true, true, true
	rel, err := i.RunWithContext(ctx, s.Chart.c, s.Values)
	if err != nil {
		return "", tool.Exit(tool.Usage, fmt.Errorf("rendering chart %q: %w", s.Chart.Name(), err))
	}
	return manifestOf(rel), nil
}

func manifestOf(rel *release.Release) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(rel.Manifest))
	for _, h := range rel.Hooks {
		fmt.Fprintf(&b, "\n---\n# Source: %s\n%s", h.Path, strings.TrimSpace(h.Manifest))
	}
	return b.String() + "\n"
}

// documents decodes the objects of a manifest.
func documents(manifest string) ([]map[string]any, error) {
	var out []map[string]any
	for _, doc := range strings.Split("\n"+manifest, "\n---") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var m map[string]any
		if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
			return nil, fmt.Errorf("reading a rendered object: %w", err)
		}
		if len(m) > 0 {
			out = append(out, m)
		}
	}
	return out, nil
}

// Render returns the manifest that a release would have in the cluster, with
// its capabilities and with lookup. It changes nothing.
func (c *Client) Render(ctx context.Context, s Spec, upgrade bool) (string, error) {
	cfg, _, err := c.helm(ctx, s.Namespace, Wait{})
	if err != nil {
		return "", err
	}
	var rel *release.Release
	if upgrade {
		u := action.NewUpgrade(cfg)
		u.Namespace, u.ResetValues, u.DisableOpenAPIValidation, u.DryRun, u.DryRunOption = s.Namespace, true, true, true, "server"
		rel, err = u.RunWithContext(ctx, s.Name, s.Chart.c, s.Values)
	} else {
		i := action.NewInstall(cfg)
		i.ReleaseName, i.Namespace, i.DisableOpenAPIValidation, i.DryRun, i.DryRunOption = s.Name, s.Namespace, true, true, "server"
		rel, err = i.RunWithContext(ctx, s.Chart.c, s.Values)
	}
	if err != nil {
		return "", applyError(ctx, s, Outcome{}, err)
	}
	return manifestOf(rel), nil
}

// Objects are the objects of a stored revision, as a wait takes them.
func (r Revision) Objects(namespace string) ([]*unstructured.Unstructured, error) {
	docs, err := documents(r.Manifest)
	if err != nil {
		return nil, err
	}
	return rollout.Objects(docs, namespace), nil
}
