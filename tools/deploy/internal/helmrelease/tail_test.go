package helmrelease

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestCopyTakesUpWhereItWas: after a connection broke off, no line comes twice
// and none is lost; a line that is too long is left out whole.
func TestCopyTakesUpWhereItWas(t *testing.T) {
	var got []string
	l := &hookLog{hook: "migrate", line: func(s string) { got = append(got, s) }}
	var at time.Time
	first := "2026-11-27T10:00:00.000000001Z one\n2026-11-27T10:00:00.000000001Z two\n"
	if err := l.copy(io.MultiReader(strings.NewReader(first), iotest.ErrReader(errors.New("reset"))), "", &at); err == nil {
		t.Fatal("the connection broke, and nothing was said")
	}
	second := first + "2026-11-27T10:00:01Z " + strings.Repeat("x", 3*longestLine) + "\n2026-11-27T10:00:02Z three\n2026-11-27T10:00:03Z"
	if err := l.copy(strings.NewReader(second), "/app", &at); err != nil {
		t.Fatal(err)
	}
	want := []string{"hook migrate | one", "hook migrate | two", "hook migrate/app | (a line that is too long is left out)", "hook migrate/app | three", "hook migrate/app | "}
	if !slices.Equal(got, want) {
		t.Errorf("the lines are\n%s", strings.Join(got, "\n"))
	}
}

func TestLogIsBounded(t *testing.T) {
	var got []string
	l := &hookLog{hook: "migrate", line: func(s string) { got = append(got, s) }}
	for range mostLines + 10 {
		l.print("", "again")
	}
	if len(got) != mostLines+1 || !strings.Contains(got[mostLines], "the rest is left out") {
		t.Errorf("%d lines, the last is %q", len(got), got[len(got)-1])
	}
}
