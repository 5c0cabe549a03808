package apply

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"gitlab.com/slipway/slipway/pkg/joblog"
)

// heartbeat tells what the releases of a set are at: a line for each that runs,
// and no more than one in a beat, however much changes. What hooks write is told
// as it comes.
type heartbeat struct {
	tell func(format string, args ...any)

	mu   sync.Mutex
	runs map[string]*running
}

type running struct {
	start, told time.Time
	line        string
}

func newHeartbeat(tell func(string, ...any)) *heartbeat {
	return &heartbeat{tell: tell, runs: map[string]*running{}}
}

// begin notes that a release is worked on, or all of them, and says so.
func (h *heartbeat) begin(name, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.runs[name] = &running{start: now, told: now, line: "starting"}
	h.tell("%s: %s", name, what)
}

// progress takes what a release is at; it is told with the next beat.
func (h *heartbeat) progress(name, line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.runs[name]; r != nil {
		r.line = line
	}
}

// hook tells a line of a hook at once: the next one would replace it.
func (h *heartbeat) hook(name, line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.runs[name]; r != nil {
		r.told = time.Now()
		h.tell("%s: %s", name, line)
	}
}

// end notes that a release has ended, says how, and returns how long it took.
func (h *heartbeat) end(name, how string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	took := time.Since(h.runs[name].start)
	delete(h.runs, name)
	h.tell("%s: %s", name, how)
	return took
}

// run beats until stop is closed.
func (h *heartbeat) run(stop <-chan struct{}) {
	t := time.NewTicker(joblog.Beat / 4)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-t.C:
			h.beat(now)
		}
	}
}

func (h *heartbeat) beat(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for name, r := range h.runs {
		if now.Sub(r.told) >= joblog.Beat {
			names = append(names, name)
			r.told = now
		}
	}
	slices.Sort(names)
	for _, name := range names {
		r := h.runs[name]
		h.tell("%s: %s", name, fmt.Sprintf("%s (%s)", r.line, now.Sub(r.start).Round(time.Second)))
	}
}
