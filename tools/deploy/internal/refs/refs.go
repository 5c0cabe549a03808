// Package refs resolves the references to secrets that values hold, in the form
// of helmfile's vals: ref+awsssm://path and ref+awssecretsmanager://name#/key.
// Where a pod can fetch its secret at run time, it should: a value that is
// rendered lands in the release's record and grows stale when it rotates.
package refs

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// The services that a reference may name.
const (
	parameterStore = "awsssm"
	secretsManager = "awssecretsmanager"
)

// reference is one reference, read.
type reference struct {
	source
	key []string // into the secret, which is then a map in JSON or YAML
}

// source is what is fetched for a reference; several may share one.
type source struct{ service, name, region, version, stage string }

// String names what is fetched, as people know it.
func (s source) String() string {
	if s.service == parameterStore {
		return "parameter " + strconv.Quote(s.name)
	}
	return "secret " + strconv.Quote(s.name)
}

var pattern = regexp.MustCompile(`\b(?:secret)?ref\+([A-Za-z0-9]+)://([^+]*)\+?`)

// parse reads one match of the pattern.
func parse(service, rest string) (reference, error) {
	rest, fragment, hasKey := strings.Cut(rest, "#")
	name, query, _ := strings.Cut(rest, "?")
	r := reference{source: source{service: service, name: name}}
	params, err := url.ParseQuery(query)
	if err != nil {
		return r, fmt.Errorf("its parameters cannot be read")
	}
	if hasKey {
		r.key = strings.Split(strings.Trim(fragment, "/"), "/")
		if slices.Contains(r.key, "") {
			return r, fmt.Errorf("the key after # is empty")
		}
	}
	r.region = params.Get("region")
	known := []string{"region"}
	switch service {
	case parameterStore:
		r.name = "/" + strings.TrimPrefix(name, "/")
		if r.version = params.Get("version"); r.version != "" && !number.MatchString(r.version) {
			return r, fmt.Errorf("version %q is not a number", r.version)
		}
		known = append(known, "version", "mode")
		// vals reads a key as the rest of a path, unless it is told otherwise.
		if mode := params.Get("mode"); hasKey && mode == "" {
			r.name, r.key = r.name+"/"+strings.Join(r.key, "/"), nil
		} else if mode != "" && mode != "singleparam" {
			return r, fmt.Errorf("mode %q is not known; singleparam is", mode)
		}
	case secretsManager:
		r.version, r.stage = params.Get("version_id"), params.Get("version_stage")
		known = append(known, "version_id", "version_stage")
	default:
		return r, fmt.Errorf("%q is not known; awsssm and awssecretsmanager are", service)
	}
	for name := range params {
		if !slices.Contains(known, name) {
			return r, fmt.Errorf("parameter %q is not known here; known are %s", name, strings.Join(known, ", "))
		}
	}
	if r.region != "" && !region.MatchString(r.region) {
		return r, fmt.Errorf("%q is not a region", r.region)
	}
	if strings.Trim(name, "/") == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return r, fmt.Errorf("it names nothing")
	}
	return r, nil
}

var (
	number = regexp.MustCompile(`^[0-9]{1,18}$`)
	region = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
)

// Set is the references that a release's values hold.
type Set struct {
	values map[string]any
	found  []reference
}

// Find reads every reference in values, and names all that cannot be read.
// origin says where a value was written.
func Find(values map[string]any, origin func(path []string) string) (*Set, error) {
	s := &Set{values: values}
	var p tool.Problems
	walk(values, nil, func(path []string, text string) string {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			r, err := parse(m[1], m[2])
			if err != nil {
				p.Add("%s: %s: reading reference %q: %v", origin(path), strings.Join(path, "."), m[0], err)
				continue
			}
			s.found = append(s.found, r)
		}
		return text
	})
	return s, p.Err()
}

// Sources names what the references are to, each once.
func (s *Set) Sources() []string {
	var out []string
	for _, r := range s.found {
		out = append(out, r.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Unresolved refuses references that stand where none is resolved: in the
// defaults of a chart. Whoever publishes a chart must not choose which secrets
// it gets.
func Unresolved(effective map[string]any, chart string) error {
	var p tool.Problems
	walk(effective, nil, func(path []string, text string) string {
		if m := pattern.FindString(text); m != "" {
			p.Add("value %s of chart %q is the reference %q, and the chart itself says so: references are resolved in layers of values", strings.Join(path, "."), chart, m)
		}
		return text
	})
	return p.Err()
}

// walk visits every string among values in a fixed order and puts back what
// visit returns.
func walk(v any, path []string, visit func(path []string, text string) string) any {
	switch v := v.(type) {
	case string:
		return visit(path, v)
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			v[k] = walk(v[k], append(path[:len(path):len(path)], k), visit)
		}
	case []any:
		for i := range v {
			v[i] = walk(v[i], append(path[:len(path):len(path)], strconv.Itoa(i)), visit)
		}
	}
	return v
}
