package rollout

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// The line of a log that counts, and what a reader is told to try.
func TestMeaning(t *testing.T) {
	for name, c := range map[string]struct{ log, line string }{
		"last line":      {"starting\nopening the database\nno licence\n\n", "no licence"},
		"panic":          {"starting\npanic: no shard\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:3 +0x1d\nexit status 2\n", "panic: no shard"},
		"last panic":     {"panic: one\n\ngoroutine 1 [running]:\npanic: two\n\ngoroutine 7 [running]:\nmain.x()\n", "panic: two"},
		"python":         {"Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    main()\nValueError: no shard\n", "ValueError: no shard"},
		"java's cause":   {"Exception in thread \"main\" java.lang.RuntimeException: pool\n\tat a.B.c(B.java:1)\nCaused by: java.net.ConnectException: refused\n\t... 2 more\n", "java.net.ConnectException: refused"},
		"rust":           {"thread 'main' panicked at src/main.rs:2:5:\nno shard\nnote: run with `RUST_BACKTRACE=1`\n", "thread 'main' panicked at src/main.rs:2:5: no shard"},
		"node":           {"  throw err;\n  ^\n\nTypeError: x is not a function\n    at a (b.js:1:2)\n\nNode.js v22.1.0\n", "TypeError: x is not a function"},
		"json":           {`{"level":"info","msg":"up"}` + "\n" + `{"level":"error","msg":"migrating","err":"locked"}` + "\n", "migrating: locked"},
		"carriage":       {"one\r\ntwo\r\n", "two"},
		"nothing":        {"\n\n", ""},
		"streams joined": {"opening the database: no licence is set: cannot start\norders is starting\n", "opening the database: no licence is set: cannot start"},
		"long ago":       {"error: retrying\n1\n2\n3\n4\n5\ndone\n", "done"},
		"only a trace":   {"\tat a.b(c)\n", "at a.b(c)"},
		"not quite json": {"{nothing\n", "{nothing"},
	} {
		if got := meaning(strings.Split(c.log, "\n")); got != c.line {
			t.Errorf("%s: %q, want %q", name, got, c.line)
		}
	}
}

func TestSaid(t *testing.T) {
	for line, next := range map[string]string{
		"opening the database: dial tcp 10.0.0.7:5432: connect: connection refused":      "look whether 10.0.0.7:5432 runs",
		"dial tcp: lookup postgres.shop.svc on 10.96.0.10:53: no such host":              "look whether postgres.shop.svc exists",
		"Error: connect ECONNREFUSED 10.0.0.7:6379":                                      "10.0.0.7:6379",
		"Error: getaddrinfo ENOTFOUND redis":                                             "redis",
		"reading the configuration: environment variable DATABASE_URL is not set":        "set DATABASE_URL",
		"required key ORDERS_DSN missing value":                                          "set ORDERS_DSN",
		"KeyError: 'DATABASE_URL'":                                                       "set DATABASE_URL",
		"missing required environment variable: QUEUE":                                   "set QUEUE",
		"exec /app/orders: exec format error":                                            "architecture",
		"open /var/cache/x: read-only file system":                                       "write to a volume",
		"listen tcp :8080: bind: address already in use":                                 "listen on that port",
		`FATAL: password authentication failed for user "orders"`:                        "credentials in the secret",
		"something that nobody has a hint for":                                           "read its last lines",
		"OK is not a variable, and a hint about nothing helps nobody: it is simply done": "read its last lines",
	} {
		s := waiting("CrashLoopBackOff", "")
		s.RestartCount, s.LastTerminationState.Terminated = 2, &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}
		p := podWith(s)
		got := Diagnose(Evidence{Pods: []*corev1.Pod{p}, Logs: []Log{{Pod: p.Name, Container: "app", Previous: true, Text: "up\n" + line + "\n"}}})
		if len(got) != 1 || !strings.Contains(got[0].Next, next) || !strings.Contains(got[0].Message, quote(line)) || !strings.HasSuffix(got[0].LogTail, line) {
			t.Errorf("%s: %+v, want %s", line, got, next)
		}
		needs := strings.Contains(next, ":5432") || strings.Contains(next, "postgres") || strings.Contains(next, "6379") || next == "redis"
		if (got[0].Grace == graceNeeds) != needs {
			t.Errorf("%s: it is given %s", line, got[0].Grace)
		}
	}
}

// A hostile log neither breaks the sentence's line nor makes it endless.
func TestSaidIsBounded(t *testing.T) {
	got := quote(strings.Repeat("x\n\x1b[31m", 1000))
	if strings.ContainsAny(got, "\n\x1b") || len([]rune(got)) > 2*longestQuote {
		t.Errorf("quoted as %q", got)
	}
}

func FuzzMeaning(f *testing.F) {
	f.Add("panic: x\n\ngoroutine 1 [running]:\n")
	f.Add(`{"msg":1}`)
	f.Fuzz(func(t *testing.T, log string) {
		lines := strings.Split(log, "\n")
		if got := meaning(lines); got != "" && !strings.Contains(log, strings.Fields(got)[0][:1]) {
			t.Errorf("%q is not of the log", got)
		}
	})
}
