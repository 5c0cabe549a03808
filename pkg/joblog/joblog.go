// Package joblog writes a job's log: collapsible GitLab sections, heartbeats,
// and a writer that takes secrets and control characters out of every line.
package joblog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Beat is how long a section may be silent before the log says that it is
// still at work. GitLab kills a job that is silent for an hour; people lose
// patience after half a minute.
const Beat = 20 * time.Second

// Log is a job's log. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	out     io.Writer
	gitlab  bool
	secrets []string
	partial bytes.Buffer
	key     privateKey // that the lines written are in the middle of
	last    time.Time
	count   int
}

// New returns a log on out. With gitlab, sections are marked for GitLab's job
// page; without, they are a line.
func New(out io.Writer, gitlab bool) *Log {
	return &Log{out: out, gitlab: gitlab, last: time.Now()}
}

// Redact keeps a secret out of everything written from now on. Values shorter
// than 6 characters are ignored: they would blank out ordinary words.
func (l *Log) Redact(secret string) {
	if len(secret) < 6 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.secrets, secret) {
		return
	}
	l.secrets = append(l.secrets, secret)
	// In JSON it looks otherwise, in two ways: with <, > and & escaped, and without.
	var plain bytes.Buffer
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(secret); err != nil {
		return // a string can be encoded
	}
	var escaped bytes.Buffer
	json.HTMLEscape(&escaped, plain.Bytes())
	for _, form := range []string{plain.String(), escaped.String()} {
		if form = form[1 : len(form)-2]; form != secret { // quotes and line end
			l.secrets = append(l.secrets, form)
		}
	}
}

// Mask returns text, of one line or many, without the secrets of the log.
func (l *Log) Mask(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var key privateKey
	return l.mask(text, &key)
}

// mask takes the secrets out of text. key is what the lines before it were in.
func (l *Log) mask(text string, key *privateKey) string {
	for _, s := range l.secrets {
		text = strings.ReplaceAll(text, s, masked)
	}
	return key.mask(keyShaped.ReplaceAllString(text, masked))
}

const masked = "[MASKED]"

// keyShaped are the credentials that can be told by their shape: AWS access
// keys, GitLab tokens and JSON web tokens. Private keys are privateKey's.
var keyShaped = regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|wt|soat|ffct)-[A-Za-z0-9_.-]{16,}|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`)

// Printf writes a line.
func (l *Log) Printf(format string, args ...any) {
	fmt.Fprintf(l, "%s\n", fmt.Sprintf(format, args...))
}

// Write takes text in any pieces and writes it on line by line, cleaned and
// masked: a secret cannot hide across two writes of a line.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial.Write(p)
	for {
		i := bytes.IndexByte(l.partial.Bytes(), '\n')
		if i < 0 {
			break
		}
		if err := l.line(string(l.partial.Next(i + 1)[:i])); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Flush writes what was written after the last line's end, as a line. It is
// for the end of the run: a secret could hide across it.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.partial.Len() == 0 {
		return nil
	}
	return l.line(string(l.partial.Next(l.partial.Len())))
}

func (l *Log) line(text string) error {
	l.last = time.Now()
	_, err := fmt.Fprintln(l.out, l.mask(Clean(text), &l.key))
	return err
}

// Section opens a named section and returns what closes it. While it is open
// and silent, the log says every Beat that it is still at work.
func (l *Log) Section(name string) (end func()) {
	l.mu.Lock()
	l.count++
	id := fmt.Sprintf("slipway_%d", l.count)
	start := time.Now()
	var key privateKey
	shown := l.mask(Clean(name), &key)
	if l.gitlab {
		fmt.Fprintf(l.out, "\x1b[0Ksection_start:%d:%s\r\x1b[0K%s\n", start.Unix(), id, shown)
	} else {
		fmt.Fprintf(l.out, "== %s\n", shown)
	}
	l.last = start
	l.mu.Unlock()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { l.beat(name, start, stop) })
	return func() {
		close(stop)
		wg.Wait()
		if !l.gitlab {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprintf(l.out, "\x1b[0Ksection_end:%d:%s\r\x1b[0K\n", time.Now().Unix(), id)
	}
}

func (l *Log) beat(name string, start time.Time, stop <-chan struct{}) {
	t := time.NewTicker(Beat / 4)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-t.C:
			l.mu.Lock()
			if now.Sub(l.last) >= Beat {
				_ = l.line(fmt.Sprintf("still at: %s (%s)", name, now.Sub(start).Round(time.Second)))
			}
			l.mu.Unlock()
		}
	}
}

// Clean removes escape sequences and control characters, so that a stranger's
// text can neither move the cursor nor forge a section.
func Clean(text string) string {
	text = escapes.ReplaceAllString(text, "")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), r == '\u2028', r == '\u2029', r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return -1
		}
		return r
	}, text)
}

var escapes = regexp.MustCompile(`\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])`)
