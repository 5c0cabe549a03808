package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// parallel is how many releases of a set are worked on at once.
const parallel = 8

// Node is a release of a set and those it needs.
type Node struct {
	Request
	Needs []Need
}

// Set puts releases in place, each after those it needs. A failed one stops
// what needs it, and nothing else. The needs have no circle.
func Set(ctx context.Context, d Deps, nodes []Node) ([]Result, error) {
	s := &set{deps: d, beat: newHeartbeat(d.Run.Log.Printf), done: map[string]chan struct{}{}, slots: make(chan struct{}, parallel),
		results: make([]Result, len(nodes)), errs: make([]error, len(nodes)), failed: map[string]bool{}}
	for _, n := range nodes {
		s.done[n.Name] = make(chan struct{})
	}
	stop := make(chan struct{})
	var all, beats sync.WaitGroup
	beats.Go(func() { s.beat.run(stop) })
	for i, n := range nodes {
		all.Go(func() {
			defer close(s.done[n.Name])
			s.results[i], s.errs[i] = s.one(ctx, n)
		})
	}
	all.Wait()
	close(stop)
	beats.Wait()
	return s.results, Worst(s.errs)
}

type set struct {
	deps    Deps
	beat    *heartbeat
	done    map[string]chan struct{}
	slots   chan struct{}
	results []Result
	errs    []error

	mu     sync.Mutex
	failed map[string]bool
}

func (s *set) one(ctx context.Context, n Node) (Result, error) {
	for _, need := range n.Needs {
		<-s.done[need.Name]
		if s.hasFailed(need.Name) {
			s.fail(n.Name)
			s.deps.Run.Report.Skip("release "+n.Name, "it needs "+need.Name)
			s.deps.Run.Log.Printf("%s: not released: it needs %s (%s)", n.Name, need.Name, need.Why)
			return Result{Release: n.Name, Namespace: n.Namespace, Status: "skipped", Message: "it needs " + need.Name}, nil
		}
	}
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	s.beat.begin(n.Name)
	n.Progress = func(line string) { s.beat.progress(n.Name, line) }
	result, err := Release(ctx, s.deps, n.Request, s.step)
	how := fmt.Sprintf("revision %d is deployed, ready after %.1f s", result.Revision, result.Ready)
	if err != nil {
		s.fail(n.Name)
		if result.Status == "" {
			result.Status = Failed
		}
		how = fmt.Sprintf("%s: %v", result.Status, err)
	}
	if err == nil && result.Status == Unchanged {
		how = result.Message + ", unchanged"
	}
	result.Seconds = s.beat.end(n.Name, how).Seconds()
	return result, err
}

// step notes a step without a section of the log: several run at once.
func (s *set) step(ctx context.Context, name string, fn func(context.Context) error) error {
	done := s.deps.Run.Report.Step(name)
	err := fn(ctx)
	done(err)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (s *set) fail(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed[name] = true
}

func (s *set) hasFailed(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[name]
}

// Worst joins the errors under the code that asks most of a person.
func Worst(errs []error) error {
	order := []int{tool.Broken, tool.Undecidable, tool.Cancelled, tool.Restored, tool.Refused, tool.Denied, tool.Held, tool.Usage, tool.Failed, tool.Temporary}
	all := errors.Join(errs...)
	if all == nil {
		return nil
	}
	code := tool.Temporary
	var hints []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		if slices.Index(order, tool.CodeOf(err)) < slices.Index(order, code) {
			code = tool.CodeOf(err)
		}
		for _, h := range tool.HintsOf(err) {
			if !slices.Contains(hints, h) {
				hints = append(hints, h)
			}
		}
	}
	return tool.Exit(code, all, hints...)
}
