// Package yamlfile reads the files people write: strictly, with every problem
// at once, each with its line, its column, its field path and what would be
// right.
package yamlfile

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxSize bounds a file: what people write is far smaller, and a hostile one
// must not cost memory.
const maxSize = 1 << 20

// Doc is one YAML document of a file.
type Doc struct {
	file  string
	root  ast.Node
	index map[string]ast.Node // by field path
}

// Parse splits a file into its documents. Anchors and aliases are refused:
// they hide what a file says, and a chain of them explodes.
func Parse(file string, raw []byte) ([]*Doc, error) {
	if len(raw) > maxSize {
		return nil, Problems{{File: file, Line: 1, Column: 1, Message: fmt.Sprintf("the file has %d bytes", len(raw)), Right: fmt.Sprintf("at most %d are read", maxSize)}}
	}
	f, err := parser.ParseBytes(raw, 0)
	if err != nil {
		return nil, Problems{syntaxProblem(file, err)}
	}
	var docs []*Doc
	for _, d := range f.Docs {
		if d.Body == nil {
			continue
		}
		doc := &Doc{file: file, root: d.Body, index: map[string]ast.Node{}}
		if p := doc.walk("", d.Body); len(p) > 0 {
			return nil, p
		}
		docs = append(docs, doc)
	}
	if len(docs) == 0 {
		return nil, Problems{{File: file, Line: 1, Column: 1, Message: "the file is empty", Right: "it starts with apiVersion: slipway/v1 and kind"}}
	}
	return docs, nil
}

// Syntax returns where a file is no YAML, for files that another reader found
// wrong: this one knows the column too.
func Syntax(file string, raw []byte) Problems {
	if _, err := parser.ParseBytes(raw, 0); err != nil {
		return Problems{syntaxProblem(file, err)}
	}
	return nil
}

var position = regexp.MustCompile(`^\[(\d+):(\d+)\] ([^\n]*)`)

func syntaxProblem(file string, err error) Problem {
	var se *yaml.SyntaxError
	text := err.Error()
	if errors.As(err, &se) {
		text = se.Error()
	}
	if m := position.FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[1])
		column, _ := strconv.Atoi(m[2])
		return Problem{File: file, Line: line, Column: column, Message: "reading YAML: " + m[3]}
	}
	first, _, _ := strings.Cut(text, "\n")
	return Problem{File: file, Line: 1, Column: 1, Message: "reading YAML: " + first}
}

// walk fills the index and finds anchors, aliases, merge keys and duplicates.
func (d *Doc) walk(path string, n ast.Node) Problems {
	d.index[path] = n
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		return Problems{d.at(n, path, "anchors and aliases are not read", "write the value out")}
	case *ast.MappingNode:
		return d.walkPairs(path, n.Values)
	case *ast.MappingValueNode:
		return d.walkPairs(path, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		var all Problems
		for i, v := range n.Values {
			all = append(all, d.walk(fmt.Sprintf("%s[%d]", path, i), v)...)
		}
		return all
	}
	return nil
}

func (d *Doc) walkPairs(path string, pairs []*ast.MappingValueNode) Problems {
	var all Problems
	seen := map[string]bool{}
	for _, p := range pairs {
		key := keyOf(p)
		sub := join(path, key)
		if seen[key] {
			all = append(all, d.at(p.Key, sub, "the key stands here twice", "keep one"))
		}
		seen[key] = true
		all = append(all, d.walk(sub, p.Value)...)
	}
	return all
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func keyOf(p *ast.MappingValueNode) string {
	if s, ok := p.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return p.Key.String()
}

func (d *Doc) at(n ast.Node, path, message, right string) Problem {
	line, column := 1, 1
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		pos := n.GetToken().Position
		line, column = pos.Line, pos.Column
		if m, ok := n.(*ast.MappingValueNode); ok { // its own token is the colon
			line, column = m.Key.GetToken().Position.Line, m.Key.GetToken().Position.Column
		}
		if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
			line, column = m.Values[0].Key.GetToken().Position.Line, m.Values[0].Key.GetToken().Position.Column
		}
	}
	return Problem{File: d.file, Line: line, Column: column, Path: path, Message: message, Right: right}
}

// Problem makes a problem at a field path, for checks that go beyond the form.
// Where the path itself is not in the file, the nearest parent's place is given.
func (d *Doc) Problem(path, message, right string) Problem {
	for p := path; ; {
		if n, ok := d.index[p]; ok {
			return d.at(n, path, message, right)
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			return d.at(d.root, path, message, right)
		}
		p = p[:i]
	}
}

// Has reports whether the file sets the field path.
func (d *Doc) Has(path string) bool { _, ok := d.index[path]; return ok }

// File returns the name of the file the document is of.
func (d *Doc) File() string { return d.file }

// APIVersion returns the document's apiVersion, or "".
func (d *Doc) APIVersion() string { return d.text("apiVersion") }

// Kind returns the document's kind, or "".
func (d *Doc) Kind() string { return d.text("kind") }

func (d *Doc) text(path string) string {
	if s, ok := d.index[path].(*ast.StringNode); ok {
		return s.Value
	}
	return ""
}

// Expect checks apiVersion and kind.
func (d *Doc) Expect(kinds ...string) Problems {
	var all Problems
	if d.APIVersion() != "slipway/v1" {
		all = append(all, d.Problem("apiVersion", fmt.Sprintf("apiVersion is %q", d.APIVersion()), `it must be "slipway/v1"`))
	}
	for _, k := range kinds {
		if d.Kind() == k {
			return all
		}
	}
	return append(all, d.Problem("kind", fmt.Sprintf("kind is %q", d.Kind()), "here it must be "+strings.Join(kinds, " or ")))
}

// Duration is a time.Duration that also reads days and weeks: 36h, 7d, 2w.
type Duration time.Duration

var durationUnits = regexp.MustCompile(`(\d+)([dw])`)

// ParseDuration reads Go's durations plus d (24 h) and w (7 d).
func ParseDuration(s string) (Duration, error) {
	expanded := durationUnits.ReplaceAllStringFunc(s, func(m string) string {
		n, err := strconv.Atoi(m[:len(m)-1])
		if err != nil {
			return m
		}
		if m[len(m)-1] == 'w' {
			n *= 7
		}
		return strconv.Itoa(n*24) + "h"
	})
	d, err := time.ParseDuration(expanded)
	if err != nil {
		return 0, fmt.Errorf("reading duration %q: it is a number with a unit, such as 90s, 10m, 36h, 7d, 2w", s)
	}
	return Duration(d), nil
}

// MarshalText writes the duration in Go's form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// Std returns the duration as the standard library's.
func (d Duration) Std() time.Duration { return time.Duration(d) }
