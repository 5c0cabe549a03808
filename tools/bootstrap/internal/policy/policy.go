// Package policy makes the policies that bootstrap gives to roles, keys and
// buckets, and compares them with those that AWS gives back.
package policy

import (
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// Document is an IAM policy.
type Document struct {
	Version   string      `json:"Version"`
	Statement []Statement `json:"Statement"`
}

// Statement is a statement of a policy.
type Statement struct {
	Sid       string                         `json:"Sid"`
	Effect    string                         `json:"Effect"`
	Principal map[string][]string            `json:"Principal,omitempty"`
	Action    []string                       `json:"Action"`
	Resource  []string                       `json:"Resource,omitempty"`
	Condition map[string]map[string][]string `json:"Condition,omitempty"`
}

// conditions are the conditions of a statement: operator, key, values.
type conditions = map[string]map[string][]string

func document(statements ...Statement) Document {
	return Document{Version: "2012-10-17", Statement: statements}
}

// String returns the document as JSON.
func (d Document) String() string {
	raw, err := json.Marshal(d)
	if err != nil {
		return "" // strings, maps and lists of strings always encode
	}
	return string(raw)
}

// Equal reports whether two policies, as they are written or as AWS gives them
// back (URL-encoded, lists of one as a string, in any order, an account's root
// as its number), say the same.
func Equal(a, b string) bool {
	x, okX := canonical(a)
	y, okY := canonical(b)
	return okX && okY && reflect.DeepEqual(x, y)
}

func canonical(text string) (any, bool) {
	if strings.HasPrefix(text, "%7B") || strings.HasPrefix(text, "%7b") {
		decoded, err := url.QueryUnescape(text)
		if err != nil {
			return nil, false
		}
		text = decoded
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return nil, false
	}
	return fold(v, ""), true
}

// fold brings a policy into one form. Statements keep their order, values do
// not.
func fold(v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		if key == "Principal" || key == "Condition" || key == "" {
			out := map[string]any{}
			for k, item := range v {
				sub := k
				if key == "Principal" {
					sub = "AWS"
				}
				out[k] = fold(item, sub)
			}
			return out
		}
		out := map[string]any{} // an operator's keys
		for k, item := range v {
			out[strings.ToLower(k)] = fold(item, "value")
		}
		return out
	case []any:
		if key == "Statement" {
			out := make([]any, len(v))
			for i, item := range v {
				out[i] = fold(item, "")
			}
			return out
		}
		return texts(v, key)
	case nil:
		return nil
	}
	switch key {
	case "Version", "Sid", "Effect", "Id":
		return v
	case "Principal": // "*" is {"AWS": "*"}
		return map[string]any{"AWS": texts([]any{v}, "AWS")}
	}
	return texts([]any{v}, key)
}

func texts(list []any, key string) []string {
	out := make([]string, 0, len(list))
	for _, item := range list {
		raw, err := json.Marshal(item)
		text := string(raw)
		if s, ok := item.(string); ok || err != nil {
			text = s
		}
		if id, ok := strings.CutPrefix(text, "arn:aws:iam::"); ok && key == "AWS" {
			text = strings.TrimSuffix("arn:aws:iam::"+id, ":root")
			text = strings.TrimPrefix(text, "arn:aws:iam::")
		}
		if key == "Action" {
			text = strings.ToLower(text)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
