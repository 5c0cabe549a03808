package faultproxy

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Call is one request that a program made.
type Call struct {
	Seq     int    // place among all calls of the log, from 1
	Part    string // name of the part
	Method  string
	Host    string // as the program named it
	Path    string // without the query, which may hold signatures
	Action  string // as the part calls it: CreateKey, "create secrets", "POST"
	Mutates bool
	Fault   string // what was done to it; "" for nothing
	Status  int    // of the reply; 0 where there was none
	Error   string // why the part could not be reached, or broke off
}

// String returns the call as a message names it.
func (c Call) String() string {
	return fmt.Sprintf("%s %s (%s %s)", c.Part, c.Action, c.Method, c.Path)
}

// Log keeps every call that the proxies of one world saw, in the order of
// their arrival.
type Log struct {
	mu     sync.Mutex
	calls  []*Call // an answer that comes after a Reset finds its own call, which is in no list any more
	trap   *trap
	flying int           // mutating calls that are on their way
	landed chan struct{} // closed when none is any more; nil while nobody waits
	came   chan struct{} // closed when a call comes; nil while nobody waits
}

// trap stops the n-th call that is a point: before the part sees it, or once
// the part has answered.
type trap struct {
	is    func(Call) bool
	n     int // how many more points pass first
	after bool
	call  *Call         // once it has come
	at    chan struct{} // closed when the call is held
	free  chan struct{} // closed when its connection may be closed
}

// Calls returns the calls so far.
func (l *Log) Calls() []Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Call
	for _, c := range l.calls {
		out = append(out, *c)
	}
	return out
}

// Mutating returns those of the calls that change something.
func (l *Log) Mutating() []Call {
	return slices.DeleteFunc(l.Calls(), func(c Call) bool { return !c.Mutates })
}

// Await waits until a call comes, or has come, that is asked for.
func (l *Log) Await(ctx context.Context, is func(Call) bool) (Call, error) {
	for {
		l.mu.Lock()
		if i := slices.IndexFunc(l.calls, func(c *Call) bool { return is(*c) }); i >= 0 {
			defer l.mu.Unlock()
			return *l.calls[i], nil
		}
		if l.came == nil {
			l.came = make(chan struct{})
		}
		came := l.came
		l.mu.Unlock()
		select {
		case <-came:
		case <-ctx.Done():
			return Call{}, context.Cause(ctx)
		}
	}
}

// Reset forgets the calls.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = nil
}

func (l *Log) arrive(c Call) *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Seq = len(l.calls) + 1
	kept := &c
	l.calls = append(l.calls, kept)
	if c.Mutates {
		l.flying++
	}
	if l.came != nil {
		close(l.came)
		l.came = nil
	}
	if t := l.trap; t != nil && t.call == nil && t.is(c) {
		if t.n--; t.n < 0 {
			t.call = kept
		}
	}
	return kept
}

// land notes that a mutating call has come to its end.
func (l *Log) land() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flying--; l.flying == 0 && l.landed != nil {
		close(l.landed)
		l.landed = nil
	}
}

// settle waits until no mutating call is on its way any more: those of a killed
// program too are done by the part that has them.
func (l *Log) settle(ctx context.Context) error {
	l.mu.Lock()
	if l.flying == 0 {
		l.mu.Unlock()
		return nil
	}
	if l.landed == nil {
		l.landed = make(chan struct{})
	}
	landed := l.landed
	l.mu.Unlock()
	select {
	case <-landed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// set arms a trap for the n-th point from now on, n from 0.
func (l *Log) set(is func(Call) bool, n int, after bool) *trap {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trap = &trap{is: is, n: n, after: after, at: make(chan struct{}), free: make(chan struct{})}
	return l.trap
}

// release disarms the trap and lets go of the call that it holds.
func (l *Log) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trap != nil {
		close(l.trap.free)
		l.trap = nil
	}
}

func (l *Log) caught(c *Call) *trap {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trap == nil || l.trap.call != c {
		return nil
	}
	return l.trap
}

func (l *Log) trapped(c *Call) bool { return l.caught(c) != nil }

// hold keeps a trapped call until it is let go. It reports whether the call is
// to be dropped.
func (l *Log) hold(ctx context.Context, c *Call, after bool) bool {
	t := l.caught(c)
	if t == nil || t.after != after {
		return false
	}
	close(t.at)
	select {
	case <-t.free:
	case <-ctx.Done():
	}
	return true
}

// now is what is known of a call by now.
func (l *Log) now(c *Call) Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *c
}

func (l *Log) answered(c *Call, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Status = status
}

// refused notes a reply of the proxy's own.
func (l *Log) refused(c *Call, status int) { l.answered(c, status) }

func (l *Log) broken(c *Call, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Error = err.Error()
}
