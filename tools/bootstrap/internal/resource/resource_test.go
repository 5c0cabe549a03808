package resource

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/report"
)

// thing is a resource that shows what it is told to.
type thing struct {
	account, name string
	shows         []Observation // one a look; the last stays
	observeErr    error
	applyErr      error
	journal       *journal
	looks         int
}

type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (t *thing) Account() string { return t.account }
func (t *thing) Name() string    { return t.name }
func (t *thing) Observe(context.Context) (Observation, error) {
	o := t.shows[min(t.looks, len(t.shows)-1)]
	t.looks++
	return o, t.observeErr
}
func (t *thing) Apply(context.Context) error {
	t.journal.add("apply %s/%s", t.account, t.name)
	return t.applyErr
}

func TestEngine(t *testing.T) {
	var clean Observation
	absent := Absent("new")
	for name, c := range map[string]struct {
		act     bool
		things  []*thing
		want    string // summary
		applied string
		err     string
	}{
		"plan changes nothing": {false, []*thing{{account: "a", name: "1", shows: []Observation{absent}}, {account: "a", name: "2", shows: []Observation{clean}}},
			"1 c, 0 u, 1 unchanged", "", ""},
		"apply reads back": {true, []*thing{{account: "a", name: "1", shows: []Observation{absent, clean}}}, "1 c, 0 u, 0 unchanged", "apply a/1", ""},
		"reads may lag":    {true, []*thing{{account: "a", name: "1", shows: []Observation{absent, absent, clean}}}, "1 c, 0 u, 0 unchanged", "apply a/1", ""},
		"what does not hold is an error": {true, []*thing{{account: "a", name: "1", shows: []Observation{absent}}}, "1 c, 0 u, 0 unchanged", "apply a/1",
			"a: 1: reading back: after the change it still differs: new"},
		"an error ends its account alone": {true, []*thing{{account: "a", name: "1", shows: []Observation{absent}, applyErr: errors.New("no")},
			{account: "a", name: "2", shows: []Observation{absent, clean}}, {account: "b", name: "1", shows: []Observation{clean}}}, "1 c, 0 u, 1 unchanged", "apply a/1", "a: 1: create: no"},
		"unreadable": {true, []*thing{{account: "a", name: "1", shows: []Observation{clean}, observeErr: errors.New("no")}}, "0 c, 0 u, 0 unchanged", "", "a: 1: observing: no"},
		"waiting":    {true, []*thing{{account: "a", name: "1", shows: []Observation{{Waiting: "no cluster"}}}}, "0 c, 0 u, 0 unchanged, 1 waiting", "", ""},
		"unseen": {true, []*thing{{account: "a", name: "1", shows: []Observation{{Unseen: true, Findings: []report.Finding{{Class: "x"}}}}}},
			"0 c, 0 u, 0 unchanged, 1 not looked at", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			j := &journal{}
			p := Phase{Name: "p"}
			for _, x := range c.things {
				x.journal = j
				p.Resources = append(p.Resources, x)
			}
			e := Engine{Act: c.act, Parallel: 2, Patience: 500 * time.Millisecond, Say: func(string, ...any) {}}
			out, err := e.Run(t.Context(), p)
			if got := out.Summary("c", "u"); got != c.want {
				t.Errorf("outcome %q, want %q", got, c.want)
			}
			if got := strings.Join(j.lines, ";"); got != c.applied {
				t.Errorf("applied %q, want %q", got, c.applied)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestRetry(t *testing.T) {
	lag := errors.New("lag")
	worth := func(err error) bool { return errors.Is(err, lag) }
	calls := 0
	err := Retry(t.Context(), time.Minute, worth, func() error {
		if calls++; calls < 3 {
			return lag
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	calls = 0
	if err := Retry(t.Context(), time.Minute, worth, func() error { calls++; return errors.New("final") }); err == nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := Retry(t.Context(), 0, worth, func() error { return lag }); !errors.Is(err, lag) {
		t.Errorf("patience used up: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Retry(ctx, time.Minute, worth, func() error { return lag }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// late is a resource whose first calls fail, though they may have been done.
type late struct {
	errs    []error       // of Apply, one a call; then none
	shows   []Observation // one a look; the last stays
	applied int
	looks   int
}

func (*late) Account() string { return "a" }
func (*late) Name() string    { return "late" }
func (l *late) Observe(context.Context) (Observation, error) {
	o := l.shows[min(l.looks, len(l.shows)-1)]
	l.looks++
	return o, nil
}
func (l *late) Apply(context.Context) error {
	l.applied++
	if l.applied <= len(l.errs) {
		return l.errs[l.applied-1]
	}
	return nil
}

// TestAgain: what may have been done is looked at, and applied again only
// where it still differs; what was refused is not.
func TestAgain(t *testing.T) {
	var clean Observation
	absent := Absent("new")
	lost, refused := errors.New("the reply was lost"), errors.New("refused")
	for name, tt := range map[string]struct {
		thing   late
		applied int
		err     string
	}{
		"it was done":               {late{errs: []error{lost}, shows: []Observation{absent, clean}}, 1, ""},
		"it was done in part":       {late{errs: []error{lost}, shows: []Observation{absent, {Action: Update}, clean}}, 2, ""},
		"it was not done":           {late{errs: []error{lost, lost}, shows: []Observation{absent, absent, absent, clean}}, 3, ""},
		"it is lost time and again": {late{errs: []error{lost, lost, lost, lost, lost}, shows: []Observation{absent}}, maxApplies, "the reply was lost"},
		"it was refused":            {late{errs: []error{refused}, shows: []Observation{absent, clean}}, 1, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			e := Engine{Act: true, Parallel: 1, Say: t.Logf, Again: func(err error) bool { return errors.Is(err, lost) }}
			_, err := e.Run(t.Context(), Phase{Name: "p", Resources: []Resource{&tt.thing}})
			if tt.thing.applied != tt.applied || tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("applied %d times, %v", tt.thing.applied, err)
			}
		})
	}
}
