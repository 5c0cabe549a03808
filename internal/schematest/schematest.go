// Package schematest keeps the JSON Schemas in schemas/ equal to the Go types
// that read the files: the test fails where one is stale, and writes it under
// `make generate`.
package schematest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// Check compares schemas/<name>.schema.json with the type of v, a struct. root
// is the way from the test's folder to the repository's, importPath the
// package's own, from whose comments the descriptions come.
func Check(t *testing.T, root, importPath, name string, v any) {
	t.Helper()
	got := schemaOf(t, importPath, name, v)
	path := filepath.Join(root, "schemas", name+".schema.json")
	if os.Getenv("SLIPWAY_GENERATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, got) {
		t.Errorf("%s is stale; run make generate", path)
	}
}

func schemaOf(t *testing.T, importPath, name string, v any) []byte {
	t.Helper()
	r := &jsonschema.Reflector{Anonymous: true, ExpandedStruct: true, RequiredFromJSONSchemaTags: true, Mapper: mapper}
	if err := r.AddGoComments(importPath, "./"); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(v)
	s.ID = jsonschema.ID("https://gitlab.com/slipway/slipway/schemas/" + name + ".schema.json")
	tags(s, s.Definitions, reflect.TypeOf(v), map[reflect.Type]bool{})
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(raw, '\n')
}

// mapper describes the types that read themselves.
func mapper(t reflect.Type) *jsonschema.Schema {
	if t == reflect.TypeFor[yamlfile.Duration]() {
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d|w))+$`, Description: "a duration, such as 90s, 10m, 36h, 7d, 2w"}
	}
	if _, own := reflect.PointerTo(t).MethodByName("JSONSchema"); own {
		return nil
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[yamlfile.Unmarshaler]()) {
		return &jsonschema.Schema{} // several forms; the program tells them apart
	}
	return nil
}

// tags carries the required and enum tags of pkg/yamlfile over.
func tags(s *jsonschema.Schema, defs jsonschema.Definitions, t reflect.Type, seen map[reflect.Type]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	if d, ok := defs[t.Name()]; ok {
		s = d
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if s.Properties != nil {
			if p, ok := s.Properties.Get(name); ok {
				if f.Tag.Get("required") == "true" {
					s.Required = append(s.Required, name)
				}
				if e := f.Tag.Get("enum"); e != "" {
					for _, one := range strings.Split(e, "|") {
						p.Enum = append(p.Enum, one)
					}
				}
			}
		}
		tags(&jsonschema.Schema{}, defs, f.Type, seen)
	}
}
