package joblog_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gitlab.com/slipway/slipway/pkg/joblog"
)

func TestMasksAcrossWrites(t *testing.T) {
	var b bytes.Buffer
	l := joblog.New(&b, false)
	l.Redact("hunter2-long")
	l.Redact("short")
	for _, part := range []string{"the password is hunt", "er2-long and short\nkey AKIAABCDEFGHIJKLMNOP\n"} {
		fmt.Fprint(l, part)
	}
	if got, want := b.String(), "the password is [MASKED] and short\nkey [MASKED]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCleanTakesOutWhatCouldForge(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[31mred\x1b[0m":                               "red",
		"a\x1b[0Ksection_start:1:x\r\x1b[0Kb":              "asection_start:1:xb",
		"\x1b]0;title\x07text":                             "text",
		"tab\tand\nline":                                   "tab\tand\nline",
		"bell\a back\b del\x7f c1\u009b31m bidi\u202etxet": "bell back del c131m biditxet",
	} {
		if got := joblog.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSectionMarks(t *testing.T) {
	var b bytes.Buffer
	l := joblog.New(&b, true)
	end := l.Section("planning")
	l.Printf("one")
	end()
	want := regexp.MustCompile(`^\x1b\[0Ksection_start:\d+:slipway_1\r\x1b\[0Kplanning\none\n\x1b\[0Ksection_end:\d+:slipway_1\r\x1b\[0K\n$`)
	if !want.Match(b.Bytes()) {
		t.Errorf("got %q", b.String())
	}
}

// TestHeartbeat holds that a silent section speaks before half a minute is over.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := joblog.New(&b, false)
		end := l.Section("waiting")
		time.Sleep(29 * time.Second)
		end()
		if !strings.Contains(b.String(), "still at: waiting (20s)") {
			t.Errorf("got %q", b.String())
		}
	})
}
