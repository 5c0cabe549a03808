package rollout

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// tailLines is how much of a log a finding shows; longestQuote is how much of
// one line its sentence quotes.
const (
	tailLines    = 20
	longestQuote = 240
)

// said adds to a finding what its container said last, and what follows from it.
func said(e Evidence, f *Finding) {
	if f.Class != ClassCrash && f.Class != ClassMemory && f.Class != ClassProbe && f.Class != ClassJob {
		return
	}
	previous := f.Class != ClassProbe && !f.over
	i := slices.IndexFunc(e.Logs, func(l Log) bool {
		return l.Pod == f.Pod && l.Container == f.Container && l.Previous == previous
	})
	if i < 0 {
		return
	}
	l := e.Logs[i]
	if l.Missing != "" {
		f.LogTail = "(no log: " + l.Missing + ")"
		return
	}
	lines := strings.Split(strings.TrimRight(l.Text, "\n"), "\n")
	f.LogTail = strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
	line := meaning(lines)
	if line == "" {
		return
	}
	f.Message += fmt.Sprintf("; its log says: %s", quote(line))
	if f.Class == ClassMemory {
		return
	}
	for _, h := range hints() {
		if m := h.says.FindStringSubmatch(line); m != nil {
			f.Next = strings.ReplaceAll(h.next, "$1", m[len(m)-1])
			if h.needs && f.Class == ClassCrash && !f.over && !f.Transient {
				f.Grace = graceNeeds
			}
			return
		}
	}
}

// hints are what lines of logs mean, in the order of their trust. The last
// group is the $1 of the advice. They are compiled when one is asked for.
var hints = sync.OnceValue(func() []hint {
	return []hint{
		{regexp.MustCompile(`(?i)lookup ([\w.-]*\w).*(?:no such host|i/o timeout|server misbehaving|not known)`), "look whether $1 exists and can be reached from the pod", true},
		{regexp.MustCompile(`(?i)(?:dial tcp|connect(?:ing|ion)? to|could not connect to|connect ECONNREFUSED|getaddrinfo \w+)[: ]+(?:server at )?"?([\w.:\[\]-]*\w).*(?:refused|no such host|timed? ?out|timeout|unreachable|not known|name resolution)`), "look whether $1 runs and can be reached from the pod", true},
		{regexp.MustCompile(`(?i)ECONNREFUSED ([\w.:-]+)`), "look whether $1 runs and can be reached from the pod", true},
		{regexp.MustCompile(`(?i)(?:ENOTFOUND|EAI_AGAIN) ([\w.:-]+)`), "look whether $1 exists and can be reached from the pod", true},
		{regexp.MustCompile(`(?i)connection (?:was )?refused|no such host|name or service not known|temporary failure in name resolution|network is unreachable|the database system is starting up|could not connect|connection timed out`), "look whether what it connects to runs and can be reached from the pod", true},
		{regexp.MustCompile(`(?i)required key ([A-Z][A-Z0-9_]+) missing`), "set $1 in the values", false},
		{regexp.MustCompile(`(?i)KeyError: '([A-Z][A-Z0-9_]+)'`), "set $1 in the values", false},
		{regexp.MustCompile(`\$?\b([A-Z][A-Z0-9]*_?[A-Z0-9_]+)\b["'` + "`" + `]? (?:is |are |must be |was |has )?(?:not set|unset|required|set|missing|undefined|not defined|empty|not been set)\b`), "set $1 in the values", false},
		{regexp.MustCompile(`(?i)(?:missing|required|undefined|unset|no)\b.{0,20}\b(?:environment variable|env(?:ironment)? var|env|variable)s?[: ]+["'$]?([A-Za-z][A-Za-z0-9_]+)`), "set $1 in the values", false},
		{regexp.MustCompile(`(?i)environment variable ["'$]?([A-Za-z][A-Za-z0-9_]+)`), "set $1 in the values", false},
		{regexp.MustCompile(`(?i)exec format error`), "build the image for the node's architecture", false},
		{regexp.MustCompile(`(?i)read-only file system`), "write to a volume: the root file system is read-only", false},
		{regexp.MustCompile(`(?i)permission denied|EACCES|operation not permitted`), "check the user it runs as and the rights on what it opens", false},
		{regexp.MustCompile(`(?i)address already in use|EADDRINUSE`), "let only one program of the pod listen on that port", false},
		{regexp.MustCompile(`(?i)password authentication failed|access denied for user|authentication failed|28P01`), "correct the credentials in the secret", false},
		{regexp.MustCompile(`(?i)no space left on device|ENOSPC`), "give it a larger volume", false},
		{regexp.MustCompile(`(?i)no such file or directory|ENOENT|cannot find module|ModuleNotFoundError|ClassNotFoundException`), "check what the image holds and what is mounted", false},
	}
})

type hint struct {
	says  *regexp.Regexp
	next  string
	needs bool // it needs something that may only be starting
}

// starts of the line that says what happened, where a trace of calls follows it.
var traceStart = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:panic: |fatal error: |Exception in thread |Unhandled [Ee]xception|Uncaught |thread '[^']*' (?:\(\d+\) )?panicked at |[\w.$]*(?:Error|Exception)(?: \[[\w]+\])?: )`)
})

// trace are lines of a stack trace, or what else follows the line that counts.
var trace = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:\s+\S.*|goroutine \d+ .*|\[signal .*|exit status \d+|created by .*|\S+\(.*\)|note: run with .*|stack backtrace:|Node\.js v.*|\d+: .*|\.\.\. \d+ more|at .*|[{}\]\[()]*|runtime: .*|r[0-9a-z]+ +0x.*|\s*\^+)$`)
})

// meaning is the line of a log that says best why its program ended: the first
// line of the last panic or exception, else the last line.
func meaning(lines []string) string {
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, "\r\t ")
	}
	if line := python(lines); line != "" {
		return line
	}
	// A trace's own first line counts where only its trace follows it.
	for i := len(lines) - 1; i >= 0; i-- {
		if !traceStart().MatchString(lines[i]) {
			continue
		}
		return began(lines, i)
	}
	if line := complaint(lines); line != "" {
		return structured(line)
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if l := strings.TrimSpace(lines[i]); l != "" {
			return structured(l)
		}
	}
	return ""
}

// complains finds lines that tell of trouble.
var complains = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(?:fatal|errors?|fail(?:ed|ure|s)?|cannot|can't|could not|unable|invalid|missing|not set|refused|denied|no such|not found|exception|panic)\b`)
})

// lastWords is how near its end a log is looked through for a line that
// complains: stdout and stderr are joined in no certain order.
const lastWords = 5

// complaint is the last line that is no part of a trace, or that which
// complains among the last few where the last one does not.
func complaint(lines []string) (last string) {
	seen := 0
	for _, line := range slices.Backward(lines) {
		l := strings.TrimSpace(line)
		if l == "" || trace().MatchString(line) {
			continue
		}
		if complains().MatchString(l) {
			return l
		}
		if last == "" {
			last = l
		}
		if seen++; seen == lastWords {
			break
		}
	}
	return last
}

// began is what a trace that begins at a line says. Java's cause comes last
// in its trace, and Rust's message on the line after.
func began(lines []string, i int) string {
	line := lines[i]
	if strings.Contains(line, "panicked at ") && i+1 < len(lines) && !strings.Contains(line, "panicked at '") {
		return line + " " + strings.TrimSpace(lines[i+1])
	}
	for _, l := range lines[i+1:] {
		if cause, ok := strings.CutPrefix(strings.TrimSpace(l), "Caused by: "); ok {
			line = cause
		}
	}
	return line
}

// python is the last line of Python's last traceback, which says what was raised.
func python(lines []string) string {
	const start = "Traceback (most recent call last):"
	at := -1
	for i, l := range lines {
		if strings.HasPrefix(l, start) {
			at = i
		}
	}
	if at < 0 {
		return ""
	}
	for _, l := range lines[at+1:] {
		if l != "" && !strings.HasPrefix(l, " ") {
			return l
		}
	}
	return ""
}

// structured is what a line of JSON says, or the line itself.
func structured(line string) string {
	if !strings.HasPrefix(line, "{") {
		return line
	}
	var m map[string]any
	if json.Unmarshal([]byte(line), &m) != nil {
		return line
	}
	var parts []string
	for _, names := range [][]string{{"msg", "message", "event"}, {"error", "err", "exception"}} {
		for _, n := range names {
			if s, ok := m[n].(string); ok && s != "" {
				parts = append(parts, s)
				break
			}
		}
	}
	if len(parts) == 0 {
		return line
	}
	return strings.Join(parts, ": ")
}

// quote is a line as a sentence may have it: of bounded length, and without
// what would end the sentence's own line.
func quote(line string) string {
	r := []rune(oneLine(line))
	if len(r) > longestQuote {
		r = append(r[:longestQuote], '…')
	}
	return fmt.Sprintf("%q", string(r))
}
