package awsfront

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Call is how often one action was called in one account.
type Call struct {
	Service  string `json:"service"`
	Action   string `json:"action"`
	Account  string `json:"account"`
	Count    int    `json:"count"`
	Mutating bool   `json:"mutating"`
}

// Calls is the answer of /_slipway/calls.
type Calls struct {
	Calls    []Call `json:"calls"`
	Mutating int    `json:"mutating"`
}

// Event is one call as it was kept.
type Event struct {
	Sequence  int64     `json:"sequence"` // from 1, without gaps
	Time      time.Time `json:"time"`
	Service   string    `json:"service"`
	Action    string    `json:"action"`
	Account   string    `json:"account"`             // the caller's; "" where nobody was known
	Principal string    `json:"principal,omitempty"` // ARN
	Resources []string  `json:"resources,omitempty"` // ARNs that rights were asked for
	Mutating  bool      `json:"mutating"`
	Known     bool      `json:"known"`             // false: not in the list, and counted as mutating
	Status    int       `json:"status,omitempty"`  // of the answer; 0 while the call is under way, or without an answer
	Code      string    `json:"code,omitempty"`    // of an error
	Fault     string    `json:"fault,omitempty"`   // kind of the fault that was brought about
	Outcome   string    `json:"outcome,omitempty"` // see the constants; "" while the call is under way
}

// What became of a call.
const (
	outcomeDone     = "done"
	outcomeRefused  = "refused"   // by credentials, rights, a check, or the service
	outcomeThrottle = "throttled" // too many
	outcomeFailed   = "failed"    // an error of the service's
	outcomeNoReply  = "lost-reply"
	outcomeNoCall   = "lost-request"
)

// Events is the answer of /_slipway/calls/log.
type Events struct {
	Events []Event `json:"events"`
	First  int64   `json:"first"` // sequence of the oldest that is kept; 0: none is
	Last   int64   `json:"last"`  // sequence of the newest
}

const (
	maxEvents = 10_000 // kept
	maxRows   = 5_000  // counted apart; what comes after counts as one
)

type counterKey struct{ service, action, account string }

// counter counts attempts, refused ones too: a program that tries to change
// something has tried. It keeps the newest calls, and no more of them than it
// has room for.
type counter struct {
	mu         sync.Mutex
	operations map[string]operation
	rows       map[counterKey]int
	events     []Event // a ring once it is full
	last       int64
}

// add counts a call and returns its sequence number.
func (c *counter) add(e Event) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := counterKey{e.Service, e.Action, e.Account}
	if c.rows == nil {
		c.rows = map[counterKey]int{}
	}
	if _, ok := c.rows[key]; !ok && len(c.rows) >= maxRows {
		key = counterKey{"other", "other", ""}
	}
	c.rows[key]++
	c.last++
	e.Sequence = c.last
	e.Mutating, e.Known = c.mutating(e.Service, e.Action)
	if len(c.events) < maxEvents {
		c.events = append(c.events, e)
	} else {
		c.events[(c.last-1)%maxEvents] = e
	}
	return e.Sequence
}

// update changes a call that is still kept.
func (c *counter) update(sequence int64, change func(*Event)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := &c.events[(sequence-1)%maxEvents]; e.Sequence == sequence {
		change(e)
	}
}

// reset forgets the counts. The calls that are kept stay, and so does their
// numbering: two readers do not disturb each other.
func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows = nil
}

func (c *counter) report() Calls {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Calls{Calls: []Call{}}
	for k, n := range c.rows {
		m, _ := c.mutating(k.service, k.action)
		if m {
			out.Mutating += n
		}
		out.Calls = append(out.Calls, Call{k.service, k.action, k.account, n, m})
	}
	slices.SortFunc(out.Calls, func(a, b Call) int {
		return strings.Compare(a.Service+" "+a.Action+" "+a.Account, b.Service+" "+b.Action+" "+b.Account)
	})
	return out
}

// log returns the calls after a sequence number, oldest first.
func (c *counter) log(after int64) Events {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Events{Events: []Event{}, Last: c.last}
	if c.last > 0 {
		out.First = max(1, c.last-maxEvents+1)
	}
	for s := max(after+1, out.First, 1); s <= c.last; s++ {
		out.Events = append(out.Events, c.events[(s-1)%maxEvents])
	}
	return out
}

// mutating reports whether an action changes something that stays, from the
// list of operations. One that is not in the list counts as if it did.
func (c *counter) mutating(service, action string) (mutates, known bool) {
	op, known := c.operations[service+":"+action]
	return op.mutates || !known, known
}

// watched notes what is answered.
type watched struct {
	http.ResponseWriter
	status int
	head   []byte // the beginning of an error's body
}

const headSize = 2 << 10

// Unwrap lets the proxies flush.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the status.
func (w *watched) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write notes the beginning of an error.
func (w *watched) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if room := headSize - len(w.head); w.status >= 400 && room > 0 {
		w.head = append(w.head, p[:min(room, len(p))]...)
	}
	return w.ResponseWriter.Write(p)
}

// code finds the code of an error in the answer's header or body.
func (w *watched) code() string {
	if w.status < 400 {
		return ""
	}
	if code := w.Header().Get("X-Amzn-Errortype"); code != "" {
		return code
	}
	if m := regexp.MustCompile(`<Code>([\w.]+)</Code>|"__type"\s*:\s*"(?:[\w.]+#)?([\w.]+)"`).FindSubmatch(w.head); m != nil {
		return string(m[1]) + string(m[2])
	}
	return ""
}

func (w *watched) outcome() string {
	switch {
	case w.status == 0:
		return outcomeNoReply
	case w.status >= 500 && w.status != http.StatusServiceUnavailable:
		return outcomeFailed
	case throttleCodes[w.code()]:
		return outcomeThrottle
	case w.status >= 400 && w.status != http.StatusNotModified:
		return outcomeRefused
	}
	return outcomeDone
}
