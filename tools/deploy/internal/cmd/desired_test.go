package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/envstate"
	"gitlab.com/slipway/slipway/pkg/tool"
)

func TestCompare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "orders.values.yaml")
	if err := os.WriteFile(file, []byte("replicas: 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const one = "registry.example.com/orders/bundle@sha256:1111111111111111111111111111111111111111111111111111111111111111"
	ref, err := bundle.Parse(one)
	if err != nil {
		t.Fatal(err)
	}
	stage := target{Service: "orders", Environment: "stage"}
	with := envstate.Desired{Service: "orders", Environment: "stage", Bundle: one, Configuration: envstate.Revision([]byte("replicas: 2\n"))}
	without := with
	without.Configuration = envstate.Revision(nil)
	older := with
	older.Bundle, older.Configuration = strings.ReplaceAll(one, "1", "2"), "none"
	for name, c := range map[string]struct {
		desired envstate.Desired
		values  string
		code    int
		text    []string
	}{
		"what is desired":         {with, file, 0, nil},
		"no configuration":        {without, filepath.Join(t.TempDir(), "none.yaml"), 0, nil},
		"no flag":                 {without, "", 0, nil},
		"a configuration too few": {with, "", tool.Refused, []string{`has "none"`}},
		"all that differs":        {older, file, tool.Refused, []string{"bundle desired is", "configuration desired is", "press"}},
		"an unreadable file":      {with, t.TempDir(), tool.Usage, []string{"--values"}},
	} {
		err := compare(c.desired, options{bundle: ref, values: c.values}, stage, "press the button")
		if tool.CodeOf(err) != c.code {
			t.Errorf("%s: error %v, want code %d", name, err, c.code)
		}
		for _, text := range c.text {
			if !strings.Contains(fmt.Sprint(err, tool.HintsOf(err)), text) {
				t.Errorf("%s: error %v, want %q in it", name, err, text)
			}
		}
	}
}
