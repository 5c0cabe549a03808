package config

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Layer is one file of values, as it took part.
type Layer struct {
	File  string `json:"file"`
	Found bool   `json:"found"`
}

// Layers merges files of values in their order, the last one wins. A file that
// is named with {environment} may be missing; one that is named outright must
// be there.
func Layers(src Source, layers []string, environment string) (map[string]any, []Layer, error) {
	out := map[string]any{}
	var used []Layer
	for _, l := range layers {
		file := strings.ReplaceAll(l, "{environment}", environment)
		raw, err := src.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && file != l {
			used = append(used, Layer{File: file})
			continue
		}
		if err != nil {
			return nil, nil, tool.Exit(tool.Usage, fmt.Errorf("reading values %q: %w", file, err))
		}
		v, err := ParseValues(file, raw)
		if err != nil {
			return nil, nil, err
		}
		Merge(out, v)
		used = append(used, Layer{File: file, Found: true})
	}
	return out, used, nil
}

// ParseValues reads a file of values as templates see them: numbers as
// float64, lists as []any.
func ParseValues(file string, raw []byte) (map[string]any, error) {
	v := map[string]any{}
	if err := yaml.UnmarshalStrict(raw, &v); err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading values %q: %w", file, err))
	}
	return v, nil
}

// Merge puts from over into. Maps are merged, everything else is replaced; a
// null stays, for the chart's default to be deleted by it.
func Merge(into, from map[string]any) {
	for k, v := range from {
		a, isMap := into[k].(map[string]any)
		b, fromMap := v.(map[string]any)
		if isMap && fromMap {
			Merge(a, b)
			continue
		}
		into[k] = v
	}
}

// Set puts a value at a dotted path.
func Set(values map[string]any, path string, value any) error {
	keys := strings.Split(path, ".")
	m := values
	for _, k := range keys[:len(keys)-1] {
		next, ok := m[k].(map[string]any)
		if !ok {
			if m[k] != nil {
				return tool.Exit(tool.Usage, fmt.Errorf("setting value %q: %q is not a map", path, k))
			}
			next = map[string]any{}
			m[k] = next
		}
		m = next
	}
	m[keys[len(keys)-1]] = value
	return nil
}

var byDigest = regexp.MustCompile(`^[a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}$`)

// References returns the images of a service by name, each taken from its
// variable, and all that is wrong with them.
func (s *Service) References(env func(string) string) (map[string]string, error) {
	out := map[string]string{}
	var p tool.Problems
	for _, name := range s.imageNames() {
		i := s.Images[name]
		ref := env(i.From)
		p.Check(ref != "", "image %q: variable %s is not set; the build job hands it on by dotenv", name, i.From)
		p.Check(ref == "" || byDigest.MatchString(ref), "image %q: variable %s is %q; it must be a reference by digest, <repository>@sha256:<64 hex digits>", name, i.From, ref)
		out[name] = ref
	}
	return out, p.Err()
}

// SetImages puts references into the values of the chart.
func (s *Service) SetImages(values map[string]any, refs map[string]string) error {
	for _, name := range s.imageNames() {
		ref, ok := refs[name]
		if !ok {
			return tool.Exit(tool.Usage, fmt.Errorf("setting image %q: the bundle has none of that name", name))
		}
		if err := Set(values, s.Images[name].Value, ref); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) imageNames() []string {
	names := make([]string, 0, len(s.Images))
	for n := range s.Images {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
