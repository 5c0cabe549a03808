package yamlfile_test

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

type sample struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Name       string            `json:"name" required:"true"`
	Tier       string            `json:"tier" enum:"testing|production"`
	Nodes      int               `json:"nodes"`
	Gated      bool              `json:"gated"`
	Every      yamlfile.Duration `json:"every"`
	Values     []string          `json:"values"`
	Free       map[string]any    `json:"free"`
	Parts      map[string]struct {
		Size string `json:"size"`
	} `json:"parts"`
}

func parse(t *testing.T, text string) *yamlfile.Doc {
	t.Helper()
	docs, err := yamlfile.Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return docs[0]
}

func TestDecode(t *testing.T) {
	var s sample
	d := parse(t, "apiVersion: slipway/v1\nkind: Sample\nname: a\ntier: testing\nnodes: 3\ngated: true\nevery: 1w2d\nvalues: [x, 'y']\nfree: {a: {b: [1, two]}}\nparts: {p: {size: 20Gi}}\n")
	if p := d.Decode(&s); len(p) > 0 {
		t.Fatal(p)
	}
	if s.Name != "a" || s.Nodes != 3 || !s.Gated || s.Every.Std() != 9*24*time.Hour || len(s.Values) != 2 || s.Parts["p"].Size != "20Gi" {
		t.Errorf("decoded %+v", s)
	}
	if s.Free["a"].(map[string]any)["b"].([]any)[1] != "two" {
		t.Errorf("free values are %v", s.Free)
	}
}

// TestProblemsAllAtOnce holds the promise that one run names every problem.
func TestProblemsAllAtOnce(t *testing.T) {
	var s sample
	d := parse(t, `apiVersion: slipway/v2
kind: Sample
tear: testing
tier: prod
nodes: many
gated: "yes"
every: 3 days
values: x
parts:
  p: {sice: 1}
`)
	problems := append(d.Expect("Sample"), d.Decode(&s)...)
	want := []string{
		`f.yaml:1:13: apiVersion: apiVersion is "slipway/v2"; it must be "slipway/v1"`,
		`f.yaml:1:1: name: the field is missing; it must be set`,
		`f.yaml:3:1: tear: unknown field; did you mean "tier"?`,
		`f.yaml:4:7: tier: "prod" is not known here; it is one of testing, production`,
		`f.yaml:5:8: nodes: here stands "many"; a whole number is wanted`,
		`f.yaml:6:8: gated: here stands "yes"; true or false is wanted`,
		`f.yaml:7:8: every: reading duration "3 days"`,
		`f.yaml:8:9: values: here stands "x"; a list is wanted`,
		`f.yaml:10:7: parts.p.sice: unknown field; did you mean "size"?`,
	}
	text := problems.Error()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("missing %q in\n%s", w, text)
		}
	}
	if len(problems) != len(want) {
		t.Errorf("%d problems, want %d:\n%s", len(problems), len(want), text)
	}
	if problems.SlipwayExit() != 64 {
		t.Errorf("exit code %d", problems.SlipwayExit())
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"alias":     "a: &x 1\n",
		"duplicate": "a: 1\na: 2\n",
		"syntax":    "a: [1\nb: 2\n",
		"empty":     "# nothing\n",
		"large":     "a: " + strings.Repeat("x", 2<<20),
	} {
		if _, err := yamlfile.Parse("f.yaml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "f.yaml:") {
			t.Errorf("%s: got %v, want a problem with its place", name, err)
		}
	}
}

func TestProblemOfMissingPathNamesTheParent(t *testing.T) {
	d := parse(t, "a:\n  b: {c: 1}\n")
	if got := d.Problem("a.b.d.e", "m", "").String(); got != "f.yaml:2:6: a.b.d.e: m" {
		t.Errorf("got %s", got)
	}
}
