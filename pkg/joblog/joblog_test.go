package joblog_test

import (
	"bytes"
	"encoding/json"
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

// TestMasksEncodedSecrets: a secret is one in JSON too, where it looks otherwise.
func TestMasksEncodedSecrets(t *testing.T) {
	l := joblog.New(&bytes.Buffer{}, false)
	const secret = `p&ss<w>"rd\-long`
	l.Redact(secret)
	withHTML, err := json.Marshal(map[string]string{"k": secret})
	if err != nil {
		t.Fatal(err)
	}
	var without bytes.Buffer
	encoder := json.NewEncoder(&without)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]string{"k": secret}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(withHTML), strings.TrimSpace(without.String())} {
		if got := l.Mask(text); got != `{"k":"[MASKED]"}` {
			t.Errorf("Mask(%s) = %s", text, got)
		}
	}
}

// TestMasksTokens: GitLab's tokens are told by their prefix; names are not.
func TestMasksTokens(t *testing.T) {
	l := joblog.New(&bytes.Buffer{}, false)
	for _, prefix := range []string{"glpat", "glcbt", "glrt", "glptt", "gldt", "glft", "glimt", "glagent", "glsoat", "glffct", "gloas", "glwt", "glrtr"} {
		if got := l.Mask("with " + prefix + "-abcdefghij0123456789."); got != "with [MASKED]" {
			t.Errorf("Mask = %q", got)
		}
	}
	if name := "global-rate-limit-of-the-gateway"; l.Mask(name) != name {
		t.Errorf("%q was masked", name)
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

// TestMasksPrivateKeys: no line of a key gets through, however the key is
// written and in whatever pieces it comes, and what people wrote does.
func TestMasksPrivateKeys(t *testing.T) {
	const (
		one  = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
		two  = "dGhlIHNlY29uZCBsaW5lIG9mIHRoZSBrZXkgaXMgc2VjcmV0IHRvbywgb2YgY291"
		last = "Qw=="
	)
	begin, end := "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
	for name, c := range map[string]struct{ in, want string }{
		"plain":             {begin + "\n" + one + "\n" + last + "\n" + end + "\nafter\n", "[MASKED]\n[MASKED]\n[MASKED]\n[MASKED]\nafter\n"},
		"a diff":            {"+ key: |\n+   " + begin + "\n+   " + one + "\n+   " + last + "\n+   " + end + "\n+ name: x\n", "+ key: |\n+   [MASKED]\n+   [MASKED]\n+   [MASKED]\n[MASKED]\n+ name: x\n"},
		"escaped":           {`{"key": "` + begin + `\n` + one + `\n` + last + `\n` + end + `\n", "name": "x"}` + "\n", `{"key": "[MASKED]\n", "name": "x"}` + "\n"},
		"escaped, cut off":  {`"` + begin + `\n` + one + "...\n\"steps\": [\n", "\"[MASKED]\\[MASKED]...\n\"steps\": [\n"},
		"two on a line":     {begin + `\n` + last + `\n` + end + " and " + begin + `\n` + last + `\n` + end + "\n", "[MASKED] and [MASKED]\n"},
		"a line in between": {begin + "\n" + one + "\nstill at: reading (20s)\n" + two + "\n" + end + "\n", "[MASKED]\n[MASKED]\nstill at: reading (20s)\n[MASKED]\n[MASKED]\n"},
		"with a time":       {begin + "\n12:00:01 " + one + "\n" + end + "\n", "[MASKED]\n12:00:01 [MASKED]\n[MASKED]\n"},
		"of OpenPGP":        {"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + one + "\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----\n", "[MASKED]\n\n[MASKED]\n=[MASKED]\n[MASKED]\n"},
		"mentioned":         {"a key starts with " + begin + " and this one does not\nsha256:" + strings.Repeat("a", 64) + "\n", "a key starts with [MASKED] and this one does not\nsha256:" + strings.Repeat("a", 64) + "\n"},
		"public":            {"-----BEGIN PUBLIC KEY-----\n" + one + "\n-----END PUBLIC KEY-----\n", "-----BEGIN PUBLIC KEY-----\n" + one + "\n-----END PUBLIC KEY-----\n"},
	} {
		var b bytes.Buffer
		l := joblog.New(&b, false)
		for i := range len(c.in) { // every piece a single byte
			fmt.Fprint(l, c.in[i:i+1])
		}
		if b.String() != c.want {
			t.Errorf("%s, written: got %q, want %q", name, b.String(), c.want)
		}
		if got := l.Mask(c.in); got != c.want {
			t.Errorf("%s, masked: got %q, want %q", name, got, c.want)
		}
	}
}

// TestKeyWithoutEndIsLetGo: a first line that no key follows does not blank out
// the rest of a log.
func TestKeyWithoutEndIsLetGo(t *testing.T) {
	var b bytes.Buffer
	l := joblog.New(&b, false)
	fmt.Fprintln(l, "-----BEGIN PRIVATE KEY-----")
	for range 200 {
		fmt.Fprintln(l, strings.Repeat("a", 64))
	}
	b.Reset()
	fmt.Fprintln(l, strings.Repeat("a", 64))
	if got := b.String(); got != strings.Repeat("a", 64)+"\n" {
		t.Errorf("the line after is %q", got)
	}
}

// TestFlush: what has no line end is not lost at the end, and is masked.
func TestFlush(t *testing.T) {
	var b bytes.Buffer
	l := joblog.New(&b, false)
	l.Redact("hunter2-long")
	fmt.Fprint(l, "done\nthe last words, hunter2")
	fmt.Fprint(l, "-long")
	for range 2 { // the second finds nothing
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.String(), "done\nthe last words, [MASKED]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
