package refs

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// store is a store whose answers say what they were asked for.
type store struct {
	calls   atomic.Int32
	secrets map[string]string
}

func (s *store) Parameter(_ context.Context, region, name, version string) (string, error) {
	s.calls.Add(1)
	if strings.Contains(name, "denied") {
		return "", tool.Exit(tool.Denied, errors.New("no right"), "ask for it")
	}
	if strings.Contains(name, "missing") {
		return "", errors.New("it does not exist")
	}
	if v, ok := s.secrets[name]; ok {
		return v, nil
	}
	return fmt.Sprintf("parameter %s in %q version %q", name, region, version), nil
}

func (s *store) Secret(_ context.Context, region, name, version, stage string) (string, error) {
	s.calls.Add(1)
	if v, ok := s.secrets[name]; ok {
		return v, nil
	}
	return fmt.Sprintf("secret %s in %q version %q stage %q", name, region, version, stage), nil
}

func nowhere([]string) string { return "values.yaml:1" }

func resolve(t *testing.T, s *store, text string) (string, []string, error) {
	t.Helper()
	values := map[string]any{"a": []any{map[string]any{"b": text}}}
	found, err := Find(values, nowhere)
	if err != nil {
		return "", nil, err
	}
	fetched, err := NewResolver(s).Resolve(t.Context(), found)
	secrets := slices.Concat(fetched...)
	return values["a"].([]any)[0].(map[string]any)["b"].(string), secrets, err
}

func TestForms(t *testing.T) {
	s := &store{secrets: map[string]string{
		"orders/db": `{"user": "app", "port": 5432, "big": 12345678901234567890, "tls": true, "deep": {"key": "found"}, "none": null}`,
		"/orders/y": "user: yaml\n"}}
	for text, want := range map[string]string{
		"plain":                       "plain",
		"href+x://y":                  "href+x://y",
		"ref+, or ref+ ://":           "ref+, or ref+ ://",
		"ref+awsssm://orders/a":       `parameter /orders/a in "" version ""`,
		"ref+awsssm:///orders/a":      `parameter /orders/a in "" version ""`,
		"secretref+awsssm://orders/a": `parameter /orders/a in "" version ""`,
		"ref+awsssm://orders/a#/b/c":  `parameter /orders/a/b/c in "" version ""`,
		"ref+awsssm://orders/a?version=3&region=eu-west-1":                                                `parameter /orders/a in "eu-west-1" version "3"`,
		"ref+awsssm://orders/y?mode=singleparam#/user":                                                    "yaml",
		"ref+awssecretsmanager://orders/x":                                                                `secret orders/x in "" version "" stage ""`,
		"ref+awssecretsmanager:///orders/x":                                                               `secret /orders/x in "" version "" stage ""`,
		"ref+awssecretsmanager://orders/x?version_stage=OLD":                                              `secret orders/x in "" version "" stage "OLD"`,
		"ref+awssecretsmanager://orders/x?version_id=7":                                                   `secret orders/x in "" version "7" stage ""`,
		"ref+awssecretsmanager://orders/db#/user":                                                         "app",
		"ref+awssecretsmanager://orders/db#/port":                                                         "5432",
		"ref+awssecretsmanager://orders/db#/big":                                                          "12345678901234567890",
		"ref+awssecretsmanager://orders/db#/tls":                                                          "true",
		"ref+awssecretsmanager://orders/db#/deep/key":                                                     "found",
		"ref+awssecretsmanager://arn:aws:secretsmanager:eu-central-1:1:secret:x":                          `secret arn:aws:secretsmanager:eu-central-1:1:secret:x in "" version "" stage ""`,
		"postgres://ref+awssecretsmanager://orders/db#/user+:ref+awssecretsmanager://orders/db#/port+@db": "postgres://app:5432@db",
	} {
		got, secrets, err := resolve(t, s, text)
		if err != nil || got != want {
			t.Errorf("%s became %q, error %v; want %q", text, got, err, want)
		}
		for _, x := range secrets {
			if !strings.Contains(got, x) {
				t.Errorf("%s: %q is said to be fetched, and is not in %q", text, x, got)
			}
		}
	}
}

func TestWrongForms(t *testing.T) {
	for text, want := range map[string]string{
		"ref+vault://a":                                    `"vault" is not known`,
		"ref+awsssm://":                                    "names nothing",
		"ref+awsssm:///":                                   "names nothing",
		"ref+awsssm://a b":                                 "names nothing",
		"ref+awsssm://a?version=latest":                    "is not a number",
		"ref+awsssm://a?mode=tree#/b":                      `mode "tree" is not known`,
		"ref+awsssm://a?role_arn=x":                        `parameter "role_arn" is not known`,
		"ref+awsssm://a?region=evil.example.com":           "is not a region",
		"ref+awssecretsmanager://a?version=1":              `parameter "version" is not known`,
		"ref+awssecretsmanager://a#/":                      "the key after # is empty",
		"ref+awssecretsmanager://a#/b//c":                  "the key after # is empty",
		"ref+awssecretsmanager://a?%zz":                    "cannot be read",
		"x ref+echo://a+ y ref+awssecretsmanager://orders": `"echo" is not known`,
	} {
		_, _, err := resolve(t, &store{}, text)
		if err == nil || !strings.Contains(err.Error(), want) || tool.CodeOf(err) != tool.Usage || !strings.Contains(err.Error(), "values.yaml:1: a.0.b: ") {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// TestAllThatFailed: each source is asked once, every failure is told, and
// nothing is put in place of one.
func TestAllThatFailed(t *testing.T) {
	s := &store{secrets: map[string]string{"db": `{"a": "1", "m": {}}`}}
	values := map[string]any{
		"ok": "ref+awsssm://fine", "again": "ref+awsssm://fine", "no": "ref+awsssm://denied", "gone": "ref+awsssm://missing",
		"a": "ref+awssecretsmanager://db#/a", "b": "ref+awssecretsmanager://db#/b", "m": "ref+awssecretsmanager://db#/m", "text": "ref+awsssm://fine?mode=singleparam#/x",
	}
	found, err := Find(values, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(found.Sources()); got != 4 {
		t.Errorf("%d sources, want 4: %v", got, found.Sources())
	}
	_, err = NewResolver(s).Resolve(t.Context(), found)
	for _, want := range []string{"/denied", "no right", "/missing", "it does not exist", `no key "b"`, `key "m" does not hold one value`, "there is no map"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("error %v, lacks %q", err, want)
		}
	}
	if tool.CodeOf(err) != tool.Denied || s.calls.Load() != 4 {
		t.Errorf("code %d after %d calls", tool.CodeOf(err), s.calls.Load())
	}
	if values["ok"] != "ref+awsssm://fine" {
		t.Errorf("a value was put in place: %v", values["ok"])
	}
}

func TestUnresolved(t *testing.T) {
	err := Unresolved(map[string]any{"a": map[string]any{"b": "x ref+awsssm://y"}, "c": 1.0}, "upstream")
	if tool.CodeOf(err) != tool.Usage || !strings.Contains(err.Error(), `value a.b of chart "upstream"`) {
		t.Error(err)
	}
	if err := Unresolved(map[string]any{"a": "plain"}, "x"); err != nil {
		t.Error(err)
	}
}

// FuzzFind: whatever a value says, it is read or refused, and reading it
// changes nothing.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"", "ref+", "ref+awsssm://a", "ref+awsssm://a?region=eu-west-1&version=1#/b+c", "secretref+awssecretsmanager://x?version_stage=A#/k",
		"ref+awssecretsmanager://a#", "ref+x://+ref+y://", "ref+awsssm://\x00", "ref+awsssm://%2f..%2f#/%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values := map[string]any{"a": text, "l": []any{text}}
		before := map[string]any{"a": text, "l": []any{text}}
		found, err := Find(values, nowhere)
		if !reflect.DeepEqual(values, before) {
			t.Fatalf("%q was changed to %v", text, values)
		}
		if err != nil {
			return
		}
		secrets, err := NewResolver(&store{}).Resolve(t.Context(), found)
		if err == nil && len(secrets[0]) == 0 && values["a"] != text {
			t.Fatalf("%q became %v", text, values)
		}
	})
}
