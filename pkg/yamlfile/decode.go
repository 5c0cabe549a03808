package yamlfile

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Node is a place in a document, handed to types that read themselves.
type Node struct {
	doc  *Doc
	path string
	node ast.Node
}

// Unmarshaler is a type that may be written in several forms, such as a list
// that may be one word. It reads itself with the Node's methods.
type Unmarshaler interface {
	DecodeYAML(n *Node) Problems
}

// IsMap, IsList and IsScalar tell the form of the node.
func (n *Node) IsMap() bool {
	switch n.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

// IsList reports whether the node is a sequence.
func (n *Node) IsList() bool { _, ok := n.node.(*ast.SequenceNode); return ok }

// IsScalar reports whether the node is a single value.
func (n *Node) IsScalar() bool { return !n.IsMap() && !n.IsList() }

// Decode reads the node into v, a pointer, by the ordinary rules.
func (n *Node) Decode(v any) Problems {
	return n.doc.value(n.path, n.node, reflect.ValueOf(v).Elem(), "", true)
}

// Problem makes a problem at the node.
func (n *Node) Problem(message, right string) Problem {
	return n.doc.at(n.node, n.path, message, right)
}

// Path returns the field path of the node.
func (n *Node) Path() string { return n.path }

// Keys returns the keys of a map node in their order.
func (n *Node) Keys() []string {
	var out []string
	for _, p := range pairsOf(n.node) {
		out = append(out, keyOf(p))
	}
	return out
}

// Decode reads the document into v, a pointer to a struct, and returns every
// problem of form there is. Field names are json tags; `required:"true"` and
// `enum:"a|b"` tags are checked.
func (d *Doc) Decode(v any) Problems {
	return d.value("", d.root, reflect.ValueOf(v).Elem(), "", false)
}

func pairsOf(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// value reads node into v. raw skips v's own Unmarshaler, so that one can use
// the ordinary rules for itself.
func (d *Doc) value(path string, node ast.Node, v reflect.Value, enum string, raw bool) Problems {
	if tag, ok := node.(*ast.TagNode); ok {
		return Problems{d.at(node, path, fmt.Sprintf("the tag %s is not read", tag.Start.Value), "write a plain value")}
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(path, node, v.Elem(), enum, raw)
	}
	if !raw && v.CanAddr() {
		if u, ok := v.Addr().Interface().(Unmarshaler); ok {
			return u.DecodeYAML(&Node{doc: d, path: path, node: node})
		}
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			text, ok := scalarText(node)
			if !ok {
				return Problems{d.at(node, path, "here stands "+form(node), "one value is wanted")}
			}
			if err := u.UnmarshalText([]byte(text)); err != nil {
				return Problems{d.at(node, path, err.Error(), "")}
			}
			return nil
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.structure(path, node, v)
	case reflect.Map:
		return d.mapping(path, node, v)
	case reflect.Slice:
		return d.list(path, node, v)
	case reflect.Interface:
		return d.anything(path, node, v)
	default:
		return d.scalar(path, node, v, enum)
	}
}

type field struct {
	index    []int
	required bool
	enum     string
}

func fieldsOf(t reflect.Type) (map[string]field, []string) {
	fields := map[string]field{}
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" || !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields[name] = field{f.Index, f.Tag.Get("required") == "true", f.Tag.Get("enum")}
		names = append(names, name)
	}
	return fields, names
}

func (d *Doc) structure(path string, node ast.Node, v reflect.Value) Problems {
	n := Node{node: node}
	if !n.IsMap() {
		return Problems{d.at(node, path, "here stands "+form(node), "a map of fields is wanted")}
	}
	fields, names := fieldsOf(v.Type())
	var all Problems
	seen := map[string]bool{}
	for _, p := range pairsOf(node) {
		key := keyOf(p)
		f, ok := fields[key]
		if !ok {
			all = append(all, d.at(p.Key, join(path, key), "unknown field", suggest(key, append([]string{}, names...))))
			continue
		}
		seen[key] = true
		all = append(all, d.value(join(path, key), p.Value, v.FieldByIndex(f.index), f.enum, false)...)
	}
	for _, name := range names {
		if fields[name].required && !seen[name] {
			all = append(all, d.at(node, join(path, name), "the field is missing", "it must be set"))
		}
	}
	return all
}

func (d *Doc) mapping(path string, node ast.Node, v reflect.Value) Problems {
	if _, null := node.(*ast.NullNode); null {
		return nil
	}
	n := Node{node: node}
	if !n.IsMap() {
		return Problems{d.at(node, path, "here stands "+form(node), "a map is wanted")}
	}
	out := reflect.MakeMap(v.Type())
	var all Problems
	for _, p := range pairsOf(node) {
		item := reflect.New(v.Type().Elem()).Elem()
		if _, null := p.Value.(*ast.NullNode); !null {
			all = append(all, d.value(join(path, keyOf(p)), p.Value, item, "", false)...)
		}
		out.SetMapIndex(reflect.ValueOf(keyOf(p)).Convert(v.Type().Key()), item)
	}
	v.Set(out)
	return all
}

func (d *Doc) list(path string, node ast.Node, v reflect.Value) Problems {
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		return Problems{d.at(node, path, "here stands "+form(node), "a list is wanted")}
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	var all Problems
	for i, item := range seq.Values {
		all = append(all, d.value(fmt.Sprintf("%s[%d]", path, i), item, out.Index(i), "", false)...)
	}
	v.Set(out)
	return all
}

// anything reads a free value (chart values): maps, lists and scalars.
func (d *Doc) anything(path string, node ast.Node, v reflect.Value) Problems {
	n := Node{node: node}
	switch {
	case n.IsMap():
		m := map[string]any{}
		p := d.mapping(path, node, reflect.ValueOf(&m).Elem())
		v.Set(reflect.ValueOf(m))
		return p
	case n.IsList():
		var l []any
		p := d.list(path, node, reflect.ValueOf(&l).Elem())
		v.Set(reflect.ValueOf(l))
		return p
	}
	if s, ok := node.(ast.ScalarNode); ok && s.GetValue() != nil {
		v.Set(reflect.ValueOf(s.GetValue()))
	}
	return nil
}

func (d *Doc) scalar(path string, node ast.Node, v reflect.Value, enum string) Problems {
	wrong := func(want string) Problems {
		return Problems{d.at(node, path, "here stands "+form(node), want+" is wanted")}
	}
	text, ok := scalarText(node)
	if !ok {
		return wrong("one value")
	}
	switch v.Kind() {
	case reflect.String:
		switch node.(type) {
		case *ast.StringNode, *ast.LiteralNode:
		default:
			return wrong(fmt.Sprintf("a string, %q in quotes,", text))
		}
		if enum != "" && !strings.Contains("|"+enum+"|", "|"+text+"|") {
			return Problems{d.at(node, path, fmt.Sprintf("%q is not known here", text), "it is one of "+strings.ReplaceAll(enum, "|", ", "))}
		}
		v.SetString(text)
	case reflect.Bool:
		b, ok := node.(*ast.BoolNode)
		if !ok {
			return wrong("true or false")
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int64, reflect.Int32:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if _, isInt := node.(*ast.IntegerNode); err != nil || !isInt {
			return wrong("a whole number")
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return wrong("a number")
		}
		v.SetFloat(f)
	default:
		return wrong("a value of kind " + v.Kind().String())
	}
	return nil
}

func scalarText(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func form(node ast.Node) string {
	switch n := node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a map"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return fmt.Sprintf("the truth value %v", n.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		return "the number " + n.GetToken().Value
	default:
		return fmt.Sprintf("%q", node.GetToken().Value)
	}
}
