package config_test

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
)

type files map[string]string

func (f files) ReadFile(name string) ([]byte, error) {
	if text, ok := f[name]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func TestLayersAndOrigins(t *testing.T) {
	src := files{"a.yaml": "a: 1\nm: {x: 1, w: 2}\nl: [1, 2]\ngone: here\n", "dev.yaml": "# c\nm:\n  x: 5\ngone: null\nl:\n- z: 1\n"}
	v, err := config.Layers(src, []string{"a.yaml", "{environment}.yaml", "{environment}-2.yaml"}, "dev")
	if err != nil {
		t.Fatal(err)
	}
	v.Note("--set", map[string]any{"a": 2.0, "n": map[string]any{"o": true}})
	for path, want := range map[string]string{"a": "--set", "m.x": "dev.yaml:3", "m.w": "a.yaml:2", "m.new": "dev.yaml:2", "gone": "dev.yaml:4", "l.0.z": "dev.yaml:6",
		"l.0.q": "dev.yaml:6", "n.o": "--set", "none": ""} {
		if got := v.Origin(strings.Split(path, ".")); got != want {
			t.Errorf("%s comes from %q, want %q", path, got, want)
		}
	}
	if len(v.Layers) != 4 || v.Layers[2].Found {
		t.Errorf("layers %v", v.Layers)
	}
	got, err := json.Marshal(v.Map)
	if err != nil || string(got) != `{"a":1,"gone":null,"l":[{"z":1}],"m":{"w":2,"x":5}}` {
		t.Errorf("values %s, error %v", got, err)
	}
}

// TestBadValues: every bad layer is told, not only the first.
func TestBadValues(t *testing.T) {
	src := files{"twice.yaml": "a: 1\na: 2\n", "list.yaml": "- 1\n", "two.yaml": "a: 1\n---\nb: 2\n", "syntax.yaml": "a: {\n", "large.yaml": strings.Repeat("#", 1<<20+1), "null.yaml": "null\n", "empty.yaml": "", "deep.yaml": "m:\n l: [{x: &a 1,\n   x: *a}]\n", "key.yaml": "? [a]\n: 1\n", "one.yaml": "---\na: 1\n"}
	_, err := config.Layers(src, []string{"twice.yaml", "list.yaml", "two.yaml", "syntax.yaml", "large.yaml", "missing.yaml", "null.yaml", "deep.yaml", "key.yaml"}, "")
	for _, want := range []string{"twice.yaml:2:1: a: the key stands here twice", "list.yaml:1:1: here stands no map", "two.yaml:2:1: the file holds several documents", "syntax.yaml:1:4: reading YAML", "deep.yaml:3:4: m.l[0].x: the key",
		"key.yaml:1:1: reading YAML", "large.yaml:1:1: the file has 1048577 bytes", `reading values "missing.yaml"`, "7 problems"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
	if tool.CodeOf(err) != tool.Usage || strings.Contains(err.Error(), "null.yaml") {
		t.Errorf("code %d: %v", tool.CodeOf(err), err)
	}
	for _, fine := range []string{"null.yaml", "empty.yaml", "one.yaml"} {
		if _, err := config.Layers(src, []string{fine}, ""); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
}

// FuzzValues: a file of values is read as a map, or refused; where it was
// read, every key of it has a line.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"", "a: 1", "a: &x {b: 1}\nc: {<<: *x}", "- 1", "a: 1\n---\nb: 2", "\xef\xbb\xbfa: 1", "{a: {b: [1, {c: d}]}}", "a: !!binary aGk=", "? [x]\n: 1", "1: 2\ntrue: 3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := &config.Values{Map: map[string]any{}}
		if err := v.Add("fuzz.yaml", []byte(text)); err != nil {
			if tool.CodeOf(err) != tool.Usage {
				t.Fatalf("code %d: %v", tool.CodeOf(err), err)
			}
			return
		}
		for k := range v.Map {
			if o := v.Origin([]string{k}); o != "" && !strings.HasPrefix(o, "fuzz.yaml:") {
				t.Fatalf("key %q comes from %q", k, o)
			}
		}
		if _, err := json.Marshal(v.Map); err != nil {
			t.Fatalf("the values cannot be written: %v", err)
		}
	})
}

// FuzzFiles: a set and a service are read or refused, with a place in the file.
func FuzzFiles(f *testing.F) {
	for _, s := range []string{
		"apiVersion: slipway/v1\nkind: ReleaseSet\nreleases:\n  - {name: a, namespace: x, chart: {path: a}, needs: [b]}\n  - {name: b, namespace: x, chart: {oci: oci://r/x, version: 1.0.0}}\n",
		"apiVersion: slipway/v1\nkind: ReleaseSet\nreleases: [{name: a, namespace: x, chart: {repo: 'https://x', name: a, version: '~1'}, needs: [a]}]\ncredentials: {x: {userFrom: A, passwordFrom: B}}\n",
		"apiVersion: slipway/v1\nkind: Service\nname: orders\nchart: {path: chart}\nvalues: ['{environment}.yaml']\nimages: {a: {value: a.b, from: A}}\n",
		"kind: ReleaseSet", "releases: 1", "a: &a [*a]", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, setErr := config.ReadSet("releases.yaml", []byte(text))
		_, serviceErr := config.ReadService("slipway.yaml", []byte(text))
		for _, err := range []error{setErr, serviceErr} {
			if err != nil && (tool.CodeOf(err) != tool.Usage || !strings.Contains(err.Error(), ".yaml:")) {
				t.Fatalf("code %d: %v", tool.CodeOf(err), err)
			}
		}
		if setErr == nil && serviceErr == nil {
			t.Fatal("one text is a set and a service")
		}
	})
}

// TestForms reads the forms that people are shown: a chart from each place it
// may be in, credentials, layers and needs.
func TestForms(t *testing.T) {
	_, err := config.ReadService("slipway.yaml", []byte(`apiVersion: slipway/v1
kind: Service
name: orders
chart: {path: chart}
values: [values.yaml, "values/{environment}.yaml"]
images: {app: {value: image, from: IMAGE_REF}, migrate: {value: migrations.image, from: MIGRATE_IMAGE_REF}}
secrets: {runtime: [orders/db]}
migrations: {job: orders-migrate, compatibility: expand}
rollout: {timeout: 10m, stable: 5s, onFailure: restore}
environments: {prod: {url: https://orders.example.com}}
`))
	if err != nil {
		t.Error(err)
	}
	set, err := config.ReadSet("releases.yaml", []byte(`apiVersion: slipway/v1
kind: ReleaseSet
defaults: {timeout: 10m}
credentials:
  gitlab.example.com: {userFrom: CI_REGISTRY_USER, passwordFrom: CI_JOB_TOKEN}
  localhost:5000: {userFrom: A, passwordFrom: B}
releases:
  - {name: cert-manager, namespace: cert-manager, chart: {repo: https://charts.jetstack.io, name: cert-manager, version: v1.21.1}, values: [cert-manager.yaml]}
  - {name: issuers, namespace: cert-manager, chart: {path: issuers}, needs: [cert-manager]}
  - {name: range, namespace: x, chart: {repo: "http://localhost:8080/charts", name: redis, version: ">=1.0.0 <2.0.0"}}
  - {name: pinned, namespace: x, chart: {repo: https://charts.example.com, name: redis, version: ~1, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}
  - {name: tag, namespace: x, chart: {oci: oci://ghcr.io/team/charts/orders, version: 1.2.3}}
  - {name: digest, namespace: x, chart: {oci: "oci://localhost:5000/orders", digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []bool{true, true, false, true, false, true}
	for i, r := range set.Releases {
		if ok, right := r.Chart.Pinned(); ok != want[i] || ok != (right == "") {
			t.Errorf("%s: %s is named for good: %v; %q", r.Name, r.Chart, ok, right)
		}
	}
}
