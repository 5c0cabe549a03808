// Package resource is the engine under plan, apply and verify: small resources
// that are observed, changed where they differ, and observed again.
package resource

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gitlab.com/slipway/slipway/pkg/report"
)

// Action says what a change does.
type Action string

// The actions. Nothing is ever deleted.
const (
	Create Action = "create"
	Update Action = "update"
)

// Change is one thing that has to be done to a resource.
type Change struct {
	Account  string `json:"account"`
	Resource string `json:"resource"`
	Action   Action `json:"action"`
	Detail   string `json:"detail,omitempty"`
}

// String returns the change as a line.
func (c Change) String() string {
	s := fmt.Sprintf("%-6s %s: %s", c.Action, c.Account, c.Resource)
	if c.Detail != "" {
		s += " (" + c.Detail + ")"
	}
	return s
}

// Observation is what a look at the live state found.
type Observation struct {
	Action   Action   // "" where the resource is as it should be
	Details  []string // what differs
	Waiting  string   // why the resource cannot exist yet; neither a change nor an error
	Unseen   bool     // our rights did not reach to look; a finding says what follows
	Findings []report.Finding
}

// Differ notes a difference of a resource that exists.
func (o *Observation) Differ(differs bool, detail string) {
	if differs {
		o.Action = Update
		o.Details = append(o.Details, detail)
	}
}

// Absent is the observation of a resource that has to be made.
func Absent(detail ...string) Observation { return Observation{Action: Create, Details: detail} }

// Resource is one thing that bootstrap makes and keeps. Apply follows an
// Observe of the same goroutine that found a difference, and may use what that
// has seen.
type Resource interface {
	Account() string // resources of one account follow one another
	Name() string
	Observe(ctx context.Context) (Observation, error)
	Apply(ctx context.Context) error
}

// Phase is a set of resources that need nothing of each other across accounts.
type Phase struct {
	Name      string
	Resources []Resource
}

// Outcome is what a run found or did.
type Outcome struct {
	Changes   []Change         `json:"changes"` // in the order of the resources; found by plan, made by apply
	Unchanged int              `json:"unchanged"`
	Unseen    int              `json:"unseen,omitempty"` // not looked at, for want of rights
	Waiting   []string         `json:"waiting,omitempty"`
	Findings  []report.Finding `json:"-"`
}

// Count returns how many changes have an action.
func (o Outcome) Count(a Action) int {
	n := 0
	for _, c := range o.Changes {
		if c.Action == a {
			n++
		}
	}
	return n
}

// Summary returns the outcome as a line, in the words of what was done.
func (o Outcome) Summary(created, updated string) string {
	s := fmt.Sprintf("%d %s, %d %s, %d unchanged", o.Count(Create), created, o.Count(Update), updated, o.Unchanged)
	if o.Unseen > 0 {
		s += fmt.Sprintf(", %d not looked at", o.Unseen)
	}
	if len(o.Waiting) > 0 {
		s += fmt.Sprintf(", %d waiting", len(o.Waiting))
	}
	return s
}

// Engine runs phases. Accounts run side by side within a phase, since AWS's
// limits are per account; within an account one resource follows another.
type Engine struct {
	Act      bool                     // apply what differs; without, nothing is changed
	Parallel int                      // accounts at a time
	Patience time.Duration            // how long a read may lag behind a write
	Again    func(error) bool         // whether an error may mean that it was done all the same; nil: never
	Say      func(f string, a ...any) // a line for each change, safe for concurrent use
}

// Run runs one phase. With an error, the outcome holds what was done before it.
func (e Engine) Run(ctx context.Context, p Phase) (Outcome, error) {
	results := make([]result, len(p.Resources))
	var order []string
	of := map[string][]int{}
	for i, r := range p.Resources {
		if _, ok := of[r.Account()]; !ok {
			order = append(order, r.Account())
		}
		of[r.Account()] = append(of[r.Account()], i)
	}
	var group errgroup.Group
	group.SetLimit(max(e.Parallel, 1))
	var mu sync.Mutex
	var failed []error
	for _, account := range order {
		group.Go(func() error {
			for _, i := range of[account] {
				err := e.one(ctx, p.Resources[i], &results[i])
				if err != nil { // the account's further resources may need this one
					mu.Lock()
					failed = append(failed, fmt.Errorf("%s: %s: %w", account, p.Resources[i].Name(), err))
					mu.Unlock()
					return nil
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Outcome{}, err
	}
	var out Outcome
	for i, r := range results {
		out.Findings = append(out.Findings, r.seen.Findings...)
		switch {
		case r.changed:
			out.Changes = append(out.Changes, change(p.Resources[i], r.seen))
		case r.seen.Waiting != "":
			out.Waiting = append(out.Waiting, fmt.Sprintf("%s: %s: %s", p.Resources[i].Account(), p.Resources[i].Name(), r.seen.Waiting))
		case r.done && r.seen.Unseen:
			out.Unseen++
		case r.done:
			out.Unchanged++
		}
	}
	return out, errors.Join(failed...)
}

type result struct {
	seen          Observation
	changed, done bool
}

func change(r Resource, o Observation) Change {
	return Change{Account: r.Account(), Resource: r.Name(), Action: o.Action, Detail: strings.Join(o.Details, ", ")}
}

func (e Engine) one(ctx context.Context, r Resource, res *result) error {
	seen, err := r.Observe(ctx)
	if err != nil {
		return fmt.Errorf("observing: %w", err)
	}
	res.seen = seen
	if seen.Action == "" {
		res.done = true
		return nil
	}
	if e.Act {
		// From here on something may have been changed, whatever the reply says.
		res.changed = true
		if err := e.apply(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", seen.Action, err)
		}
		if err := e.readBack(ctx, r); err != nil {
			return err
		}
		e.Say("%s", doneLine(change(r, seen)))
	}
	res.changed, res.done = true, true
	return nil
}

// maxApplies bounds how often a resource is applied when replies get lost.
const maxApplies = 4

// apply applies the resource. A call whose reply was lost may have been done,
// and says so when it is made again ("exists already"): then the resource is
// looked at, and what still differs is applied.
func (e Engine) apply(ctx context.Context, r Resource) error {
	for tries := 1; ; tries++ {
		err := r.Apply(ctx)
		if err == nil || ctx.Err() != nil || tries == maxApplies || e.Again == nil || !e.Again(err) {
			return err
		}
		e.Say("%s: %s: %v; looking whether it was done", r.Account(), r.Name(), err)
		seen, look := r.Observe(ctx)
		if look != nil {
			return errors.Join(err, fmt.Errorf("looking whether it was done: %w", look))
		}
		if seen.Action == "" {
			return nil
		}
	}
}

func doneLine(c Change) string {
	words := map[Action]string{Create: "created", Update: "updated"}
	s := fmt.Sprintf("%s %s: %s", words[c.Action], c.Account, c.Resource)
	if c.Detail != "" {
		s += " (" + c.Detail + ")"
	}
	return s
}

// readBack observes the resource until it is as it should be: AWS's reads may
// lag behind its writes.
func (e Engine) readBack(ctx context.Context, r Resource) error {
	var last Observation
	err := Retry(ctx, e.Patience, func(err error) bool { return errors.Is(err, errDiffers) }, func() error {
		var err error
		if last, err = r.Observe(ctx); err != nil {
			return fmt.Errorf("reading back: %w", err)
		}
		if last.Action != "" {
			return errDiffers
		}
		return nil
	})
	if errors.Is(err, errDiffers) {
		return fmt.Errorf("reading back: after the change it still differs: %s", strings.Join(last.Details, ", "))
	}
	return err
}

var errDiffers = errors.New("still different")
