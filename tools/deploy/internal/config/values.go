package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// Layer is one file of values, as it took part.
type Layer struct {
	File  string `json:"file"`
	Found bool   `json:"found"`
}

// Values are the values of a release as they are put together, layer by layer,
// and where each comes from.
type Values struct {
	Map    map[string]any
	Layers []Layer
	lines  []map[string]int // of the layer: line by path
}

// Layers merges files of values in their order, the last one wins. A file that
// is named with {environment} may be missing; one that is named outright must
// be there. With an error come the values of the files that are right.
func Layers(src Source, layers []string, environment string) (*Values, error) {
	v := &Values{Map: map[string]any{}}
	var wrong []error
	for _, l := range layers {
		file := strings.ReplaceAll(l, "{environment}", environment)
		raw, err := src.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && file != l {
			v.Miss(file)
			continue
		}
		if err != nil {
			err = tool.Exit(tool.Usage, fmt.Errorf("reading values %q: %w", file, err))
		} else {
			err = v.Add(file, raw)
		}
		wrong = append(wrong, err)
	}
	return v, Join(wrong...)
}

// Miss notes a layer that is not there.
func (v *Values) Miss(file string) {
	v.Layers, v.lines = append(v.Layers, Layer{File: file}), append(v.lines, nil)
}

// Add merges a layer over those before it.
func (v *Values) Add(file string, raw []byte) error {
	m, err := ParseValues(file, raw)
	if err != nil {
		return err
	}
	Merge(v.Map, m)
	v.Layers, v.lines = append(v.Layers, Layer{File: file, Found: true}), append(v.lines, linesOf(raw))
	return nil
}

// Note puts down where values come from that were merged without a file.
func (v *Values) Note(name string, m map[string]any) {
	lines := map[string]int{}
	note(lines, nil, m)
	v.Layers, v.lines = append(v.Layers, Layer{File: name, Found: true}), append(v.lines, lines)
}

// Origin returns the last layer that says something of a path, or of the
// nearest map or list around it, as file:line. It is "" where the chart's own
// defaults say it.
func (v *Values) Origin(path []string) string {
	for n := len(path); n > 0; n-- {
		key := pathKey(path[:n])
		for i := len(v.lines) - 1; i >= 0; i-- {
			line, ok := v.lines[i][key]
			switch {
			case ok && line > 0:
				return fmt.Sprintf("%s:%d", v.Layers[i].File, line)
			case ok:
				return v.Layers[i].File
			}
		}
	}
	return ""
}

func pathKey(path []string) string { return strings.Join(path, "\x00") }

// note puts down the paths of values that stand in no file.
func note(lines map[string]int, path []string, value any) {
	if len(path) > 0 {
		lines[pathKey(path)] = 0
	}
	switch value := value.(type) {
	case map[string]any:
		for k, item := range value {
			note(lines, append(path, k), item)
		}
	case []any:
		for i, item := range value {
			note(lines, append(path, strconv.Itoa(i)), item)
		}
	}
}

// linesOf returns the line of every path of a file. What a merge key or an
// alias brings in has the line of neither, and is found by what is around it.
func linesOf(raw []byte) map[string]int {
	lines := map[string]int{}
	var doc yamlv3.Node
	if err := yamlv3.Unmarshal(raw, &doc); err != nil || len(doc.Content) == 0 {
		return lines
	}
	var walk func(path []string, n *yamlv3.Node)
	walk = func(path []string, n *yamlv3.Node) {
		switch n.Kind {
		case yamlv3.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				sub := append(path[:len(path):len(path)], n.Content[i].Value)
				lines[pathKey(sub)] = n.Content[i].Line
				walk(sub, n.Content[i+1])
			}
		case yamlv3.SequenceNode:
			for i, item := range n.Content {
				sub := append(path[:len(path):len(path)], strconv.Itoa(i))
				lines[pathKey(sub)] = item.Line
				walk(sub, item)
			}
		}
	}
	walk(nil, doc.Content[0])
	return lines
}

// maxValues bounds a file of values: a release's record takes no more either.
const maxValues = 1 << 20

// ParseValues reads a file of values as templates see them: numbers as
// float64, lists as []any.
func ParseValues(file string, raw []byte) (map[string]any, error) {
	if len(raw) > maxValues {
		return nil, yamlfile.Problems{{File: file, Line: 1, Column: 1, Message: fmt.Sprintf("the file has %d bytes", len(raw)), Right: fmt.Sprintf("at most %d are read", maxValues)}}
	}
	if line := secondDocument(raw); line > 0 {
		return nil, yamlfile.Problems{{File: file, Line: line, Column: 1, Message: "the file holds several documents", Right: "only the first would count: one to a file"}}
	}
	v := map[string]any{}
	if err := yaml.UnmarshalStrict(raw, &v); err != nil {
		return nil, misread(file, raw, err)
	}
	if v == nil { // the file says null
		v = map[string]any{}
	}
	return v, nil
}

// secondDocument returns the line of a file's second document, 0 where there is none.
func secondDocument(raw []byte) int {
	if !bytes.Contains(raw, []byte("\n---")) {
		return 0
	}
	dec := yamlv3.NewDecoder(bytes.NewReader(raw))
	var doc yamlv3.Node
	if dec.Decode(&doc) != nil {
		return 0
	}
	doc = yamlv3.Node{}
	if dec.Decode(&doc) != nil {
		return 0
	}
	return max(doc.Line, 1)
}

var atLine = regexp.MustCompile(`line (\d+): (.*)`)

// misread finds the place of what the reader of values said, which knows the
// line at best.
func misread(file string, raw []byte, err error) yamlfile.Problems {
	var doc yamlv3.Node
	if yamlv3.Unmarshal(raw, &doc) != nil {
		if p := yamlfile.Syntax(file, raw); len(p) > 0 {
			return p
		}
	} else if len(doc.Content) > 0 {
		root := doc.Content[0]
		if root.Kind == yamlv3.SequenceNode || root.Kind == yamlv3.ScalarNode {
			return yamlfile.Problems{{File: file, Line: root.Line, Column: root.Column, Message: "here stands no map", Right: "values are a map"}}
		}
		if p := twice(file, "", root); len(p) > 0 {
			return p
		}
	}
	p := yamlfile.Problem{File: file, Line: 1, Column: 1, Message: "reading YAML: " + err.Error()}
	if m := atLine.FindStringSubmatch(err.Error()); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Message = "reading YAML: " + m[2]
	}
	return yamlfile.Problems{p}
}

// twice finds the keys that stand twice in a map.
func twice(file, path string, n *yamlv3.Node) (p yamlfile.Problems) {
	switch n.Kind {
	case yamlv3.MappingNode:
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			sub := strings.TrimPrefix(path+"."+key.Value, ".")
			if seen[key.Value] {
				p = append(p, yamlfile.Problem{File: file, Line: key.Line, Column: key.Column, Path: sub, Message: "the key stands here twice", Right: "keep one"})
			}
			seen[key.Value] = true
			p = append(p, twice(file, sub, n.Content[i+1])...)
		}
	case yamlv3.SequenceNode:
		for i, item := range n.Content {
			p = append(p, twice(file, fmt.Sprintf("%s[%d]", path, i), item)...)
		}
	}
	return p
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
	var p yamlfile.Problems
	for _, name := range s.imageNames() {
		i := s.Images[name]
		ref, at := env(i.From), "images."+name+".from"
		switch {
		case ref == "":
			p = append(p, s.Problem(at, fmt.Sprintf("variable %s is not set", i.From), "the build job hands it on by dotenv"))
		case !byDigest.MatchString(ref):
			p = append(p, s.Problem(at, fmt.Sprintf("variable %s is %q", i.From, ref), "it must be a reference by digest, <repository>@sha256:<64 hex digits>"))
		}
		out[name] = ref
	}
	return out, p.Err()
}

// SetImages puts references into the values of the chart, over every layer.
func (s *Service) SetImages(values *Values, refs map[string]string) error {
	alone := map[string]any{}
	for _, name := range s.imageNames() {
		ref, ok := refs[name]
		if !ok {
			return tool.Exit(tool.Usage, fmt.Errorf("setting image %q: the bundle has none of that name", name))
		}
		if err := Set(values.Map, s.Images[name].Value, ref); err != nil {
			return err
		}
		if err := Set(alone, s.Images[name].Value, ref); err != nil {
			return err
		}
	}
	if len(alone) > 0 {
		values.Note(ServiceFile+": images", alone)
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
