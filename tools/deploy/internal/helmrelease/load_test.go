package helmrelease_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/downloader"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

const meta = "apiVersion: v2\nname: c\nversion: 1.0.0\n"

type entry struct {
	name, data, link string
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const aMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n"

// TestArchives: what packers of every kind make is read as Helm reads it.
func TestArchives(t *testing.T) {
	for name, raw := range map[string][]byte{
		"plain":       archive(t, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/templates/m.yaml", data: aMap}),
		"BOM":         archive(t, entry{name: "c/Chart.yaml", data: "\ufeff" + meta}, entry{name: "c/values.yaml", data: "\ufeffa: 1\n"}, entry{name: "c/templates/m.yaml", data: "\ufeff" + aMap}),
		"backslashes": archive(t, entry{name: `c\Chart.yaml`, data: meta}, entry{name: `c\templates\m.yaml`, data: aMap}),
		"symlink":     archive(t, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/templates/l.yaml", link: "/etc/passwd"}, entry{name: "c/templates/m.yaml", data: aMap}),
		"nested":      archive(t, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/charts/s-1.0.0.tgz", data: string(archive(t, entry{name: "s/Chart.yaml", data: strings.Replace(meta, "c", "s", 1)}))}, entry{name: "c/templates/m.yaml", data: aMap}),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := helmrelease.LoadArchive(raw, name)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := helmrelease.Render(t.Context(), helmrelease.Spec{Name: "demo", Namespace: "default", Chart: c, Values: map[string]any{}})
			if err != nil || !strings.Contains(ours, "kind: ConfigMap") || strings.Contains(ours, "root:") {
				t.Errorf("%v\n%s", err, ours)
			}
			theirs, err := loader.LoadArchive(bytes.NewReader(raw))
			if err != nil || len(theirs.Templates) == 0 {
				t.Errorf("helm itself: %v", err)
			}
		})
	}
}

// bomb is a chart whose dependencies lie in each other; each is small, and all
// together are not.
func bomb(t testing.TB, depth, width, size int) string {
	zeros := strings.Repeat("\x00", size)
	if depth == 0 {
		return string(archive(t, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/zeros", data: zeros}))
	}
	inner := bomb(t, depth-1, width, size)
	entries := []entry{{name: "c/Chart.yaml", data: meta}}
	for i := range width {
		entries = append(entries, entry{name: fmt.Sprintf("c/charts/%d.tgz", i), data: inner})
	}
	return string(archive(t, entries...))
}

func TestBadCharts(t *testing.T) {
	many := []entry{{name: "c/Chart.yaml", data: meta}}
	for i := range 10_001 {
		many = append(many, entry{name: fmt.Sprintf("c/f%d", i)})
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"no gzip":       {[]byte("hello"), "gzip"},
		"cut":           {archive(t, entry{name: "c/Chart.yaml", data: meta})[:40], ""},
		"empty":         {archive(t), "no files"},
		"above":         {archive(t, entry{name: "c/../../x", data: "x"}, entry{name: "c/Chart.yaml", data: meta}), "parent directory"},
		"absolute":      {archive(t, entry{name: "c//etc/x", data: "x"}), "absolute"},
		"drive":         {archive(t, entry{name: `c\C:\x`, data: "x"}), "illegally named"},
		"no metadata":   {archive(t, entry{name: "c/values.yaml", data: "a: 1"}), "Chart.yaml file is missing"},
		"bad metadata":  {archive(t, entry{name: "c/Chart.yaml", data: "name: [\n"}), "cannot load Chart.yaml"},
		"no version":    {archive(t, entry{name: "c/Chart.yaml", data: "apiVersion: v2\nname: c\n"}), "version"},
		"bad values":    {archive(t, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/values.yaml", data: "a: {\n"}), "values.yaml"},
		"dependency":    {archive(t, entry{name: "c/Chart.yaml", data: meta + "dependencies: [{name: d, version: 1.0.0, repository: https://x}]\n"}), "missing in charts/ directory: d"},
		"a large file":  {archive(t, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/x", data: strings.Repeat("\x00", 6<<20)}), "larger than"},
		"many files":    {archive(t, many...), "larger than a chart may be"},
		"nested bomb":   {[]byte(bomb(t, 2, 6, 4<<20)), "larger than a chart may be"},
		"deep":          {[]byte(bomb(t, 9, 1, 1)), "deep"},
		"bad dependent": {archive(t, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/charts/x.tgz", data: "hello"}), `"c/charts/x.tgz"`},
	} {
		_, err := helmrelease.LoadArchive(c.raw, "bad")
		if err == nil || tool.CodeOf(err) != tool.Usage || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `chart "bad"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLinks(t *testing.T) {
	for name, c := range map[string]struct {
		link, to string
		want     string
	}{
		"beside":    {"chart/templates/l.yaml", "../../common/m.yaml", ""},
		"a folder":  {"chart/templates/l", "../../common", ""},
		"out":       {"chart/templates/l.yaml", "/etc/passwd", "leads out"},
		"above":     {"chart/templates/l.yaml", "../../../x.yaml", "leads out"},
		"nowhere":   {"chart/templates/l.yaml", "../none", "nowhere"},
		"circle":    {"chart/templates/l", "..", "circle"},
		"by itself": {"chart/templates/l", "l", "nowhere"},
		"by way of": {"common/l", "../chart", ""}, // not a part of the chart
	} {
		root := filepath.Join(t.TempDir(), "root")
		write(t, filepath.Join(root, "chart/Chart.yaml"), []byte(meta))
		write(t, filepath.Join(root, "chart/templates/x.yaml"), nil)
		write(t, filepath.Join(root, "common/m.yaml"), []byte(aMap))
		write(t, filepath.Join(root, "../x.yaml"), []byte(aMap))
		if err := os.Symlink(c.to, filepath.Join(root, c.link)); err != nil {
			t.Fatal(err)
		}
		_, err := helmrelease.LoadDir(root, filepath.Join(root, "chart"))
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || tool.CodeOf(err) != tool.Usage) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestLock: a lock that Helm itself made, with an alias and ranges, is in step;
// one of another time is not.
func TestLock(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "lib/Chart.yaml"), []byte("apiVersion: v2\nname: lib\nversion: 1.4.2\n"))
	manifest := meta + `dependencies:
  - {name: lib, version: ~1.4, repository: "file://../lib"}
  - {name: lib, version: ">=1", repository: "file://../lib", alias: second, condition: second.enabled, tags: [x], import-values: [data]}
`
	write(t, filepath.Join(root, "chart/Chart.yaml"), []byte(manifest))
	m := downloader.Manager{Out: io.Discard, ChartPath: filepath.Join(root, "chart"), SkipUpdate: true,
		RepositoryConfig: filepath.Join(root, "none.yaml"), RepositoryCache: filepath.Join(root, "cache")}
	if err := m.Update(); err != nil {
		t.Fatal(err)
	}
	load := func() *helmrelease.Chart {
		t.Helper()
		c, err := helmrelease.LoadDir(root, filepath.Join(root, "chart"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if missing, err := load().Missing(); err != nil || len(missing) > 0 {
		t.Errorf("after helm dependency update: %v, %v", missing, err)
	}
	if err := os.RemoveAll(filepath.Join(root, "chart/charts")); err != nil {
		t.Fatal(err)
	}
	if missing, err := load().Missing(); err != nil || len(missing) != 1 || missing[0].Version != "1.4.2" {
		t.Errorf("without the charts folder: %v, %v", missing, err)
	}
	for name, c := range map[string]struct{ file, data, want string }{
		"another range": {"Chart.yaml", strings.Replace(manifest, "~1.4", "~1.5", 1), "out of step"},
		"one more":      {"Chart.yaml", manifest + "  - {name: more, version: 1.0.0, repository: https://x}\n", "out of step"},
		"stale charts":  {"charts/lib/Chart.yaml", "apiVersion: v2\nname: lib\nversion: 1.4.1\n", "charts/ has lib 1.4.1, the lock says 1.4.2"},
	} {
		write(t, filepath.Join(root, "chart/Chart.yaml"), []byte(manifest))
		write(t, filepath.Join(root, "chart", c.file), []byte(c.data))
		if _, err := load().Missing(); err == nil || !strings.Contains(err.Error(), c.want) || tool.CodeOf(err) != tool.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(root, "chart/Chart.lock")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "chart/Chart.yaml"), []byte(manifest))
	if err := os.RemoveAll(filepath.Join(root, "chart/charts")); err != nil {
		t.Fatal(err)
	}
	if _, err := load().Missing(); err == nil || !strings.Contains(err.Error(), "no Chart.lock") {
		t.Errorf("without a lock: %v", err)
	}
}

// TestCopies: releases of one chart do not write into each other's.
func TestCopies(t *testing.T) {
	raw := archive(t, entry{name: "c/Chart.yaml", data: meta + "annotations: {a: b}\n"}, entry{name: "c/values.yaml", data: "m: {k: v}\nl: [{x: 1}]\n"},
		entry{name: "c/templates/m.yaml", data: aMap + "data: {v: {{ .Values.m.k }}}\n"})
	one, err := helmrelease.LoadArchive(raw, "c")
	if err != nil {
		t.Fatal(err)
	}
	if err := one.From("here"); err != nil {
		t.Fatal(err)
	}
	two := one.Copy()
	two.Annotate("only", "two")
	for i, c := range []*helmrelease.Chart{two, one, two, one} {
		value := fmt.Sprint("v", i)
		text, err := helmrelease.Render(t.Context(), helmrelease.Spec{Name: "demo", Namespace: "default", Chart: c.Copy(), Values: map[string]any{"m": map[string]any{"k": value}}})
		if err != nil || !strings.Contains(text, "v: "+value) {
			t.Errorf("%v: %s", err, text)
		}
	}
	if got := one.Labels()["slipway.dev/chart-digest"]; len(got) > 63 || !strings.HasPrefix(got, "sha256-") || one.Digest() != two.Digest() {
		t.Errorf("label %q, digests %q and %q", got, one.Digest(), two.Digest())
	}
	packed, err := two.Pack()
	if err != nil || !bytes.Equal(packed, raw) {
		t.Errorf("an archive is not packed as it came: %v", err)
	}
}

// FuzzArchive: a hostile archive is read or refused, and costs no more than it
// may.
func FuzzArchive(f *testing.F) {
	f.Add(archive(f, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/templates/m.yaml", data: aMap}))
	f.Add(archive(f, entry{name: `c\Chart.yaml`, data: "\ufeff" + meta}, entry{name: "c/l", link: "../../x"}))
	f.Add([]byte(bomb(f, 2, 2, 10)))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := helmrelease.LoadArchive(raw, "fuzz")
		if err != nil {
			if tool.CodeOf(err) != tool.Usage {
				t.Fatalf("code %d: %v", tool.CodeOf(err), err)
			}
			return
		}
		if _, err := c.Missing(); err == nil {
			c.Copy().Brings()
		}
		packed, err := c.Pack()
		if err != nil || !bytes.Equal(packed, raw) {
			t.Fatalf("packing what was read: %v", err)
		}
	})
}
