package helmrelease

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Chart is a chart that was read. It is used by one release at a time, since
// Helm writes into charts while it renders them: every release takes a Copy.
type Chart struct {
	c      *chart.Chart
	packed []byte // the archive it was read from, if it was one
	digest string // of the archive
}

// Where a revision's chart came from, in the annotations of the stored chart.
const (
	sourceAnnotation = "slipway.dev/chart-source"
	digestAnnotation = "slipway.dev/chart-digest"
)

// LoadDir reads a chart from a folder. Links in it may lead anywhere below
// root, and nowhere else. Dependencies may be missing yet: see Missing.
func LoadDir(root, dir string) (*Chart, error) {
	name := path.Base(strings.ReplaceAll(dir, `\`, "/"))
	if err := inspect(root, dir); err != nil {
		return nil, badChart(name, err)
	}
	c, err := loader.LoadDir(dir)
	return read(c, name, nil, err)
}

// LoadArchive reads a packed chart.
func LoadArchive(raw []byte, name string) (*Chart, error) {
	files, err := unpackChart(raw)
	if err != nil {
		return nil, badChart(name, err)
	}
	c, err := loader.LoadFiles(files)
	if err == nil {
		err = action.CheckDependencies(c, c.Metadata.Dependencies)
	}
	return read(c, name, raw, err)
}

func read(c *chart.Chart, name string, packed []byte, err error) (*Chart, error) {
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return nil, badChart(name, err)
	}
	dropNotes(c)
	return &Chart{c: c, packed: packed}, nil
}

func badChart(name string, err error) error {
	return tool.Exit(tool.Usage, fmt.Errorf("loading chart %q: %w", name, err))
}

// dropNotes takes the notes for people out of a chart. Helm renders them with
// everything else, and one that cannot be rendered fails the whole release;
// nobody reads them in a job.
func dropNotes(c *chart.Chart) {
	c.Templates = slices.DeleteFunc(c.Templates, func(f *chart.File) bool { return strings.HasSuffix(f.Name, "NOTES.txt") })
	for _, d := range c.Dependencies() {
		dropNotes(d)
	}
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

// From notes where the chart came from and the digest of its archive.
func (c *Chart) From(source string) error {
	raw, err := c.Pack()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	c.digest = "sha256:" + hex.EncodeToString(sum[:])
	c.Annotate(sourceAnnotation, source)
	c.Annotate(digestAnnotation, c.digest)
	return nil
}

// Digest returns the digest of the chart's archive, or "" before From.
func (c *Chart) Digest() string { return c.digest }

// Labels are what is noted of the chart in a release's labels. A label's value
// has 63 characters at the most: the whole digest is among the annotations.
func (c *Chart) Labels() map[string]string {
	if c.digest == "" {
		return nil
	}
	return map[string]string{digestAnnotation: strings.Replace(c.digest, ":", "-", 1)[:len("sha256-")+32]}
}

// Copy returns a chart that may be written into; the files are shared.
func (c *Chart) Copy() *Chart { return &Chart{c: duplicate(c.c), packed: c.packed, digest: c.digest} }

func duplicate(c *chart.Chart) *chart.Chart {
	out := &chart.Chart{Raw: c.Raw, Lock: c.Lock, Schema: c.Schema,
		Templates: slices.Clone(c.Templates), Files: slices.Clone(c.Files)}
	meta := *c.Metadata
	meta.Annotations = maps.Clone(meta.Annotations)
	meta.Dependencies = nil
	for _, d := range c.Metadata.Dependencies {
		if d != nil {
			own := *d
			meta.Dependencies = append(meta.Dependencies, &own)
		}
	}
	out.Metadata = &meta
	if c.Values != nil {
		out.Values = duplicateValue(c.Values).(map[string]any)
	}
	for _, d := range c.Dependencies() {
		out.AddDependency(duplicate(d))
	}
	return out
}

// duplicateValue copies values as YAML gives them.
func duplicateValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[k] = duplicateValue(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = duplicateValue(item)
		}
		return out
	}
	return v
}

// Pack returns the chart as an archive: the one it was read from, or one whose
// bytes follow from the files alone.
func (c *Chart) Pack() ([]byte, error) {
	if c.packed != nil {
		return c.packed, nil
	}
	files := append([]*chart.File{}, c.c.Raw...)
	sort.Slice(files, func(i, j int) bool { return files[i].Name < files[j].Name })
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	var err error
	for _, f := range files {
		h := &tar.Header{Name: path.Join(c.Name(), f.Name), Mode: 0o644, Size: int64(len(f.Data)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if err = tw.WriteHeader(h); err != nil {
			break
		}
		if _, err = tw.Write(f.Data); err != nil {
			break
		}
	}
	if err = errors.Join(err, tw.Close(), gz.Close()); err != nil {
		return nil, fmt.Errorf("packing chart %q: %w", c.Name(), err)
	}
	return out.Bytes(), nil
}
