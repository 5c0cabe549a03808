package doctest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestExamplesFitTheSchemas: an editor that checks by schemas/ accepts the
// files of the examples, and refuses a field that does not exist.
func TestExamplesFitTheSchemas(t *testing.T) {
	for pattern, name := range map[string]string{
		"platform/landscape/landscape.yaml":  "landscape",
		"platform/landscape/services/*.yaml": "landscapeservice",
		"platform/addons/releases.yaml":      "releaseset",
		"*/slipway.yaml":                     "service",
		"environments/promotion.yaml":        "promotion",
		"environments/backup.yaml":           "backup",
		"environments/drill.yaml":            "drill",
	} {
		schema, err := jsonschema.NewCompiler().Compile(filepath.Join(root, "schemas", name+".schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(root, "examples", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no example fits %s: %v", pattern, err)
		}
		for _, f := range files {
			doc := document(t, f)
			if err := schema.Validate(doc); err != nil {
				t.Errorf("%s: %v", f, err)
			}
			doc["noSuchField"] = true
			if schema.Validate(doc) == nil {
				t.Errorf("%s: the schema %s accepts a field that does not exist", f, name)
			}
		}
	}
}

// document reads a YAML file as JSON would have it.
func document(t *testing.T, path string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	m, ok := doc.(map[string]any)
	if !ok {
		t.Fatalf("%s holds %s", path, json.RawMessage(asJSON))
	}
	return m
}
