package helmrelease_test

import (
	"slices"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// TestViolations: all that a schema does not allow is told at once, each with
// the layer and line that said it, in dependencies too.
func TestViolations(t *testing.T) {
	strict := `{"type": "object", "additionalProperties": false, "required": ["name"], "properties": {"global": {}, "name": {"type": "string"},
	  "replicas": {"type": "integer", "minimum": 1}, "ports": {"type": "array", "items": {"type": "integer"}}, "sub": {"type": "object"}}}`
	c, err := helmrelease.LoadArchive(archive(t,
		entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/values.yaml", data: "replicas: zero\n"}, entry{name: "c/values.schema.json", data: strict},
		entry{name: "c/charts/sub/Chart.yaml", data: strings.Replace(meta, "name: c", "name: sub", 1)},
		entry{name: "c/charts/sub/values.schema.json", data: `{"properties": {"level": {"enum": ["debug", "info"]}}}`}), "c")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	write(t, root+"/a.yaml", []byte("titel: orders\nports:\n  - 80\n  - http\n"))
	write(t, root+"/b.yaml", []byte("extra: {deep: 1}\nsub:\n  level: trace\n"))
	values, err := config.Layers(dir(root), []string{"a.yaml", "b.yaml"}, "")
	if err != nil {
		t.Fatal(err)
	}
	alone, err := helmrelease.Assign("ports[0]=many", values.Map)
	if err != nil {
		t.Fatal(err)
	}
	values.Note("--set", alone)
	_, violations, err := c.Effective(values.Map)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range violations {
		got = append(got, v.Describe(values.Origin))
	}
	slices.Sort(got)
	want := []string{
		"--set: ports.0: got string, want integer",
		"a.yaml:1: titel: there is no value of this name",
		"a.yaml:4: ports.1: got string, want integer",
		"b.yaml:1: extra: there is no value of this name",
		"b.yaml:3: sub.level: value must be one of 'debug', 'info'",
		"the defaults of chart c: replicas: got string, want integer",
		"the defaults of chart c: the values: missing property 'name'",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestBadSchemas(t *testing.T) {
	for schema, want := range map[string]string{
		`{`:                           "reading values.schema.json",
		`{"type": "nonsense"}`:        "reading values.schema.json",
		`{"$ref": "#/definitions/x"}`: "reading values.schema.json",
		`{"$ref": "https://example.com/schema.json"}`: "", // Helm's to fetch
		`{"$ref": "file:///etc/passwd"}`:              "",
		`{"properties": {"a": {"pattern": "("}}}`:     "reading values.schema.json",
	} {
		c, err := helmrelease.LoadArchive(archive(t, entry{name: "c/Chart.yaml", data: meta}, entry{name: "c/values.schema.json", data: schema}), "c")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Effective(map[string]any{})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || tool.CodeOf(err) != tool.Usage) {
			t.Errorf("%s: %v", schema, err)
		}
	}
}

func TestAssignRefuses(t *testing.T) {
	for _, text := range []string{"a", "a.b", "a[x]=1", "a[-1]=1", "a[99999999]=1", "a={1"} {
		values := map[string]any{"a": "text"}
		if _, err := helmrelease.Assign(text, values); err == nil || tool.CodeOf(err) != tool.Usage || values["a"] != "text" {
			t.Errorf("%s: %v, values %v", text, err, values)
		}
	}
}
