// Package mask shows secrets as fingerprints: whether two values are the same
// can be seen, and nothing else of them. The key of the fingerprints lives for
// one run, so that nobody can try guesses against a kept log.
package mask

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Masker masks the texts and objects of one run. It is safe for concurrent use.
type Masker struct {
	key []byte

	mu      sync.RWMutex
	secrets []string // the longest first
}

// shortest is the length from which a secret is looked for inside of other
// texts: a shorter one would be found in half of all words.
const shortest = 4

// New returns a masker for what was fetched by references.
func New(secrets []string) (*Masker, error) {
	m := &Masker{key: make([]byte, 32)}
	if _, err := rand.Read(m.key); err != nil {
		return nil, fmt.Errorf("making the key of the fingerprints: %w", err)
	}
	m.Learn(secrets...)
	return m, nil
}

// Learn adds secrets. Each is known as its base64 as well.
func (m *Masker) Learn(secrets ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range secrets {
		for _, form := range []string{s, strings.TrimSpace(s), base64.StdEncoding.EncodeToString([]byte(s))} {
			if form != "" && !slices.Contains(m.secrets, form) {
				m.secrets = append(m.secrets, form)
			}
		}
	}
	slices.SortFunc(m.secrets, func(a, b string) int { return len(b) - len(a) })
}

// LearnObject adds what a Secret holds, for the error texts of a server that
// repeats what it was sent.
func (m *Masker) LearnObject(o map[string]any) {
	if o["kind"] != "Secret" {
		return
	}
	for _, field := range []string{"data", "stringData"} {
		values, _ := o[field].(map[string]any)
		for _, v := range values {
			text := fmt.Sprint(v)
			if raw, err := base64.StdEncoding.DecodeString(text); field == "data" && err == nil {
				text = string(raw)
			}
			if len(text) >= shortest {
				m.Learn(text)
			}
		}
	}
}

// Fingerprint returns what stands for a secret.
func (m *Masker) Fingerprint(secret string) string {
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte(secret))
	return "fingerprint " + hex.EncodeToString(h.Sum(nil))[:12]
}

// Text returns a text with every known secret in it replaced.
func (m *Masker) Text(text string) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, s := range m.secrets {
		if text == s {
			return m.Fingerprint(s)
		}
		if len(s) >= shortest && strings.Contains(text, s) {
			text = strings.ReplaceAll(text, s, m.Fingerprint(s))
		}
	}
	return text
}

// named are the names of fields whose value is a secret wherever it stands;
// pointing are those of them that only point at one.
var (
	named    = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|token|secret|credential|(api|access|private|signing|encryption|auth|master|client)[-_.]?key|[-_.]key$)`)
	pointing = regexp.MustCompile(`(?i)(name|names|ref|file|path|class|type|namespace|provider|seconds|version|arn)$`)
	line     = regexp.MustCompile(`(?im)^([ \t]*["']?[\w.-]*(?:passw(?:or)?d|passphrase|token|secret|credential|api[-_.]?key|access[-_.]?key|private[-_.]?key|[-_.]key)["']?[ \t]*[:=][ \t]*)(\S.*)$`)
)

func secretName(name string) bool { return named.MatchString(name) && !pointing.MatchString(name) }

// Object returns a copy of an object without its secrets: the data of Secrets,
// what is known to be secret, and what a name says to be secret.
func (m *Masker) Object(o map[string]any) map[string]any {
	out, _ := m.value("", o).(map[string]any)
	if o["kind"] == "Secret" {
		for _, field := range []string{"data", "stringData"} {
			values, _ := o[field].(map[string]any)
			masked, _ := out[field].(map[string]any)
			for k, v := range values {
				masked[k] = m.Fingerprint(field + fmt.Sprint(v))
			}
		}
	}
	return out
}

func (m *Masker) value(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, one := range v {
			out[k] = m.value(k, one)
		}
		// An entry of env, and whatever else is a pair of name and value.
		if n, ok := v["name"].(string); ok && secretName(n) {
			if text, ok := v["value"].(string); ok && text != "" {
				out["value"] = m.Fingerprint(text)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = m.value(name, one)
		}
		return out
	case string:
		return m.leaf(name, v)
	}
	return v
}

func (m *Masker) leaf(name, text string) string {
	if text == "" {
		return text
	}
	if secretName(name) {
		return m.Fingerprint(text)
	}
	if strings.ContainsAny(text, "=:") {
		text = line.ReplaceAllStringFunc(text, func(l string) string {
			parts := line.FindStringSubmatch(l)
			return parts[1] + m.Fingerprint(parts[2])
		})
	}
	return m.Text(text)
}

var assigned = regexp.MustCompile(`(?:^|,)\s*([^=,{}]+)=`)

// Assignments returns what --set was given, without the values where a name
// says that one of them is a secret.
func Assignments(text string) string {
	var names []string
	for _, m := range assigned.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	if !slices.ContainsFunc(names, secretName) {
		return text
	}
	return strings.Join(names, "=[MASKED],") + "=[MASKED]"
}
