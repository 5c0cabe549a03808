package main

import (
	"slices"
	"testing"
)

func TestLines(t *testing.T) {
	rows, err := parse("killed 203/204\nlost-reply 1/1\n")
	if want := []row{{"killed", 203, 204}, {"lost-reply", 1, 1}}; err != nil || !slices.Equal(rows, want) {
		t.Fatalf("read %v, %v", rows, err)
	}
	if got := line("bootstrap", rows[0]); got != "CHAOS bootstrap/killed 203/204" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"", "killed\n", "killed 3\n", "killed x/y\n"} {
		if rows, err := parse(bad); err == nil {
			t.Errorf("%q was read as %v", bad, rows)
		}
	}
}

func TestUnknownArea(t *testing.T) {
	if err := run(t.Context(), "nothing"); err == nil {
		t.Error("an area that does not exist was measured")
	}
}
