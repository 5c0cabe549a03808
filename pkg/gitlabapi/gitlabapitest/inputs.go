package gitlabapitest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// applyInputs writes a pipeline's inputs into the header of its configuration, as the defaults, after checking
// them as GitLab does. Handing them to gitlab-ci-local as --input would let them reach into every include that
// has an input of the same name, and would accept names that the file does not declare.
func applyInputs(config []byte, given map[string]any) ([]byte, []string) {
	header, body, ok := splitHeader(config)
	declared := map[string]any{}
	if ok {
		declared = mapOf(mapOf(header["spec"])["inputs"])
	}
	var problems []string
	for _, name := range keysOf(given) {
		if _, known := declared[name]; !known {
			problems = append(problems, "Given inputs not defined in the `spec` section of the included configuration file: ["+name+"]")
		}
	}
	for _, name := range keysOf(declared) {
		spec := mapOf(declared[name])
		if spec == nil {
			spec = map[string]any{}
			declared[name] = spec
		}
		value, has := given[name]
		if !has {
			value, has = spec["default"]
		}
		if !has {
			problems = append(problems, fmt.Sprintf("`%s` input: required value has not been provided", name))
			continue
		}
		typed, problem := checkInput(name, spec, value)
		if problem != "" {
			problems = append(problems, problem)
			continue
		}
		spec["default"] = typed
	}
	if !ok || len(problems) > 0 {
		return config, problems
	}
	out, err := yaml.Marshal(header)
	if err != nil {
		return nil, []string{err.Error()}
	}
	return append(append(out, "---\n"...), body...), nil
}

// splitHeader finds a spec header: the first of two documents, with the key spec.
func splitHeader(config []byte) (map[string]any, string, bool) {
	rest := strings.TrimPrefix(string(config), "---\n")
	at := regexp.MustCompile(`(?m)^---[ \t]*(#.*)?$\n?`).FindStringIndex(rest)
	if at == nil {
		return nil, "", false
	}
	var header map[string]any
	if err := yaml.Unmarshal([]byte(rest[:at[0]]), &header); err != nil || header["spec"] == nil {
		return nil, "", false
	}
	return header, rest[at[1]:], true
}

func checkInput(name string, spec map[string]any, value any) (any, string) {
	kind := text(spec, "type")
	if kind == "" {
		kind = "string"
	}
	typed, ok := convert(kind, value)
	if !ok {
		article := "a"
		if kind == "array" {
			article = "an"
		}
		return nil, fmt.Sprintf("`%s` input: provided value is not %s %s", name, article, kind)
	}
	if options := texts(spec["options"]); len(options) > 0 {
		for _, one := range texts(typed) {
			if !slices.Contains(options, one) {
				return nil, fmt.Sprintf("`%s` input: `%s` cannot be used because it is not in the list of allowed options", name, one)
			}
		}
	}
	if pattern := text(spec, "regex"); pattern != "" {
		re, err := regexp.Compile(pattern)
		if err != nil || !re.MatchString(fmt.Sprint(typed)) {
			return nil, fmt.Sprintf("`%s` input: provided value does not match required RegEx pattern", name)
		}
	}
	return typed, ""
}

// convert takes a value of a form or a push option, which is text, as well as a typed one.
func convert(kind string, value any) (any, bool) {
	s, isText := value.(string)
	switch kind {
	case "string":
		return value, isText
	case "number":
		switch value.(type) {
		case int, int64, uint64, float64:
			return value, true
		}
		n, err := strconv.ParseFloat(s, 64)
		return n, isText && err == nil
	case "boolean":
		if b, ok := value.(bool); ok {
			return b, true
		}
		return s == "true", s == "true" || s == "false"
	case "array":
		if list, ok := value.([]any); ok {
			return list, true
		}
		var list []any
		ok := isText && json.Unmarshal([]byte(s), &list) == nil
		return list, ok
	}
	return nil, false
}

func keysOf[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
