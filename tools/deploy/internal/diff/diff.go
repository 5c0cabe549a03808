// Package diff compares a rendered release with the one that is stored.
package diff

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"sigs.k8s.io/yaml"
)

// Change is what would become of one object.
type Change struct {
	Object string `json:"object"`
	Action string `json:"action"` // create | update | delete
	Diff   string `json:"diff"`
}

// Manifests compares two manifests object by object. Values of secrets are
// shown as a fingerprint that is good for this comparison only: it tells
// whether a value changes, and nothing else of it.
func Manifests(before, after string) ([]Change, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making the key of the fingerprints: %w", err)
	}
	was, err := objects(before, key)
	if err != nil {
		return nil, err
	}
	will, err := objects(after, key)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for n := range was {
		names[n] = true
	}
	for n := range will {
		names[n] = true
	}
	var out []Change
	for n := range names {
		a, had := was[n]
		b, has := will[n]
		if a == b {
			continue
		}
		action := "update"
		if !had {
			action = "create"
		} else if !has {
			action = "delete"
		}
		text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: difflib.SplitLines(a), B: difflib.SplitLines(b), FromFile: "stored", ToFile: "rendered", Context: 3})
		if err != nil {
			return nil, fmt.Errorf("comparing %s: %w", n, err)
		}
		out = append(out, Change{Object: n, Action: action, Diff: text})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Object < out[j].Object })
	return out, nil
}

func objects(manifest string, key []byte) (map[string]string, error) {
	out := map[string]string{}
	for _, doc := range strings.Split("\n"+manifest, "\n---") {
		var m map[string]any
		if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
			return nil, fmt.Errorf("reading a rendered object: %w", err)
		}
		if len(m) == 0 {
			continue
		}
		if m["kind"] == "Secret" {
			mask(m, key)
		}
		meta, _ := m["metadata"].(map[string]any)
		raw, err := yaml.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("writing a rendered object: %w", err)
		}
		name := fmt.Sprintf("%v %v", m["kind"], meta["name"])
		if ns, ok := meta["namespace"]; ok {
			name = fmt.Sprintf("%v %v/%v", m["kind"], ns, meta["name"])
		}
		out[name] = string(raw)
	}
	return out, nil
}

func mask(m map[string]any, key []byte) {
	for _, field := range []string{"data", "stringData"} {
		values, _ := m[field].(map[string]any)
		for k, v := range values {
			h := hmac.New(sha256.New, key)
			fmt.Fprint(h, v)
			values[k] = "fingerprint " + hex.EncodeToString(h.Sum(nil))[:12]
		}
	}
}

// Text returns the changes as people read them.
func Text(changes []Change) string {
	if len(changes) == 0 {
		return "no changes"
	}
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s\n%s\n", c.Action, c.Object, c.Diff)
	}
	return b.String()
}
