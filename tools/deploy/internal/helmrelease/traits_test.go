package helmrelease_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	helmvalues "helm.sh/helm/v3/pkg/cli/values"

	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// trait is a chart with a trait of charts in the wild, and what is expected of
// it: lines of its comment.
type trait struct {
	dir                string
	layers             []string
	set                string
	want, lacks, varie []string
	helm               string // why Helm itself fails
}

func readTrait(t *testing.T, file string) trait {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := trait{dir: t.TempDir()}
	for _, f := range a.Files {
		write(t, filepath.Join(tr.dir, f.Name), f.Data)
		switch {
		case !strings.Contains(f.Name, "/") && strings.HasSuffix(f.Name, ".yaml"):
			tr.layers = append(tr.layers, f.Name)
		case f.Name == "set":
			tr.set = strings.TrimSpace(string(f.Data))
		}
	}
	for line := range strings.Lines(string(a.Comment)) {
		key, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "want":
			tr.want = append(tr.want, text)
		case "lacks":
			tr.lacks = append(tr.lacks, text)
		case "vary":
			tr.varie = append(tr.varie, text)
		case "helm":
			tr.helm = text
		}
	}
	return tr
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// helmRenders is what helm v3 itself makes of a chart and its layers.
func helmRenders(t *testing.T, tr trait) (string, error) {
	t.Helper()
	c, err := loader.LoadDir(filepath.Join(tr.dir, "chart"))
	if err != nil {
		return "", err
	}
	o := helmvalues.Options{}
	for _, l := range tr.layers {
		o.ValueFiles = append(o.ValueFiles, filepath.Join(tr.dir, l))
	}
	if tr.set != "" {
		o.Values = []string{tr.set}
	}
	values, err := o.MergeValues(nil)
	if err != nil {
		t.Fatal(err)
	}
	i := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	i.ReleaseName, i.Namespace, i.DryRun, i.ClientOnly, i.IncludeCRDs, i.Replace = "demo", "default", true, true, true, true
	rel, err := i.Run(c, values)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(rel.Manifest)
	for _, h := range rel.Hooks {
		b.WriteString("\n---\n# Source: " + h.Path + "\n" + h.Manifest)
	}
	return b.String(), nil
}

// weRender is what we make of them, the chart packed and opened on the way, as
// a bundle does.
func weRender(t *testing.T, tr trait) (string, error) {
	t.Helper()
	folder, err := helmrelease.LoadDir(tr.dir, filepath.Join(tr.dir, "chart"))
	if err != nil {
		return "", err
	}
	packed, err := folder.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c, err := helmrelease.LoadArchive(packed, "packed")
	if err != nil {
		return "", err
	}
	values, err := config.Layers(dir(tr.dir), tr.layers, "")
	if err != nil {
		t.Fatal(err)
	}
	if tr.set != "" {
		if _, err := helmrelease.Assign(tr.set, values.Map); err != nil {
			t.Fatal(err)
		}
	}
	if _, violations, err := c.Effective(values.Map); err != nil || len(violations) > 0 {
		t.Fatalf("values that Helm takes: %v, %v", violations, err)
	}
	return helmrelease.Render(t.Context(), helmrelease.Spec{Name: "demo", Namespace: "default", Chart: c.Copy(), Values: values.Map})
}

type dir string

func (d dir) ReadFile(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(d), name))
}

// TestTraits: charts as people publish them become what helm makes of them.
func TestTraits(t *testing.T) {
	files, err := filepath.Glob("testdata/traits/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d charts, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			tr := readTrait(t, file)
			theirs, err := helmRenders(t, tr)
			if (err != nil) != (tr.helm != "") || err != nil && !strings.Contains(err.Error(), tr.helm) {
				t.Fatalf("helm: %v, expected %q", err, tr.helm)
			}
			ours, err := weRender(t, tr)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range tr.varie {
				re := regexp.MustCompile(v)
				if a, b := re.FindString(ours), re.FindString(theirs); a == b || a == "" {
					t.Errorf("%s does not vary: %q, %q", v, a, b)
				}
				ours, theirs = re.ReplaceAllString(ours, ""), re.ReplaceAllString(theirs, "")
			}
			if tr.helm == "" && squeeze(ours) != squeeze(theirs) {
				t.Errorf("we render\n%s\nhelm renders\n%s", ours, theirs)
			}
			for _, w := range tr.want {
				if !strings.Contains(ours, w) {
					t.Errorf("%q is missing:\n%s", w, ours)
				}
			}
			for _, l := range tr.lacks {
				if strings.Contains(ours, l) {
					t.Errorf("%q is there:\n%s", l, ours)
				}
			}
		})
	}
}

// squeeze takes out empty lines, which say nothing in a manifest.
func squeeze(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if line = strings.TrimRight(line, " \n"); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
