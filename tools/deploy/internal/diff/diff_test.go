package diff

import (
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

func changed() []Release {
	return []Release{{Release: "orders", Namespace: "orders-dev", Changed: true,
		Problems: []helmrelease.Problem{{Class: "ownership", Object: "Service orders-dev/orders", Message: "it belongs to release @all/<b>x</b>"}},
		Objects: []Change{
			{Object: "Deployment orders-dev/orders", Action: "update", Diff: "--- live\n+++ released\n@@ -1 +1 @@\n-a: 1\n+a: ```\n"},
			{Object: "Thing orders-dev/kept", Action: "keep"}},
		Hooks: []Change{{Object: "Job migrate", Action: "create", Diff: "+kind: Job\n"}}}, {Release: "catalog"}}
}

func TestText(t *testing.T) {
	plain := Text(changed(), false)
	for _, want := range []string{"orders: 1 to update, 1 to let go of, 1 hooks differ", "problem: Service orders-dev/orders: it belongs",
		"update Deployment orders-dev/orders\n", "\n-a: 1\n", "hook: create Job migrate", "leaves the release and stays", "catalog: no changes"} {
		if !strings.Contains(plain, want) {
			t.Errorf("the text lacks %q:\n%s", want, plain)
		}
	}
	if strings.Contains(plain, "\x1b") {
		t.Error("colour where none was asked for")
	}
	if coloured := Text(changed(), true); !strings.Contains(coloured, "\x1b[31m-a: 1\x1b[0m\n") || !strings.Contains(coloured, "\x1b[32m+a: ```\x1b[0m") {
		t.Errorf("%q", coloured)
	}
}

// TestMarkdownIsHarmlessAndBounded: what comes from a cluster neither ends the
// fence that it stands in, nor mentions anybody, nor makes the note too long.
func TestMarkdownIsHarmlessAndBounded(t *testing.T) {
	note := Markdown(changed(), 10_000)
	for _, want := range []string{"1 of 2 releases would change", "````diff\n", "&#64;all", "Deployment orders-dev"} {
		if !strings.Contains(note, want) {
			t.Errorf("the note lacks %q:\n%s", want, note)
		}
	}
	if strings.Contains(note, "@all") || strings.Contains(note, "<b>") {
		t.Errorf("markup got through:\n%s", note)
	}
	many := changed()
	for range 1000 {
		many[0].Objects = append(many[0].Objects, many[0].Objects[0])
	}
	note = Markdown(many, 4000)
	if len(note) > 4000 || !strings.Contains(note, "left out here") || !strings.Contains(note, "1001 to update") {
		t.Errorf("%d bytes:\n%s", len(note), note)
	}
}
