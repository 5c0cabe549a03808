package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// parallel is how many releases of a set are worked on at once.
const parallel = 8

// Node is a release of a set and those it needs.
type Node struct {
	Request
	Needs []Need
}

// Set puts releases in place, each after those it needs. What can be found
// wrong beforehand stops the set before anything is touched; a release that
// fails later stops what needs it, and nothing else. The needs have no circle.
func Set(ctx context.Context, d Deps, nodes []Node) ([]Result, error) {
	s := &set{deps: d, nodes: nodes, beat: newHeartbeat(d.Run.Log.Printf), at: map[string]int{}, slots: make(chan struct{}, parallel), claims: claims{by: map[helmrelease.Object]string{}},
		results: make([]Result, len(nodes)), errs: make([]error, len(nodes)), failed: map[string]bool{}}
	index, made := helmrelease.NewIndex(), &namespaces{}
	for i, n := range nodes {
		n.Progress = func(line string) { s.beat.progress(n.Name, line) }
		n.Tell = func(line string) { s.beat.hook(n.Name, line) }
		j := newJob(d, n.Request)
		j.index, j.made = index, made
		s.jobs = append(s.jobs, j)
		s.at[n.Name] = i
	}
	stop := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() { s.beat.run(stop) })
	err := s.run(ctx)
	close(stop)
	beats.Wait()
	return s.results, err
}

type set struct {
	deps    Deps
	nodes   []Node
	jobs    []*job
	at      map[string]int // index by name
	beat    *heartbeat
	done    map[string]chan struct{} // of the present round
	slots   chan struct{}
	claims  claims
	results []Result
	errs    []error

	mu     sync.Mutex
	failed map[string]bool
}

func (s *set) run(ctx context.Context) error {
	s.plan(ctx)
	if err := Worst(s.errs); err != nil {
		s.untouched()
		return tool.Hint(err, untouched, "a release that cannot be without what another one of the set brings names it in its needs")
	}
	s.round(func(i int) { s.results[i], s.errs[i] = s.one(ctx, i) })
	return s.ended()
}

// round does something for every release, for all of them at once.
func (s *set) round(do func(i int)) {
	s.done = map[string]chan struct{}{}
	for _, n := range s.nodes {
		s.done[n.Name] = make(chan struct{})
	}
	var all sync.WaitGroup
	for i, n := range s.nodes {
		all.Go(func() {
			defer close(s.done[n.Name])
			do(i)
		})
	}
	all.Wait()
}

// plan makes the plans that can be made before anything is touched. They are
// kept; a release whose needs have something to do is planned in its turn.
func (s *set) plan(ctx context.Context) {
	all := fmt.Sprintf("%d releases", len(s.nodes))
	s.beat.begin(all, "planning")
	s.round(func(i int) {
		if !s.settled(s.nodes[i].Needs) {
			return
		}
		s.slots <- struct{}{}
		defer func() { <-s.slots }()
		s.errs[i] = s.jobs[i].makePlan(ctx, s.step)
		s.beat.progress(all, "planned "+s.nodes[i].Name)
	})
	planned := 0
	for i, j := range s.jobs {
		if j.plan != nil {
			planned++
			s.errs[i] = Worst([]error{s.errs[i], s.claim(j)})
		}
	}
	s.beat.end(all, fmt.Sprintf("%d are planned, %d wait for what they need", planned, len(s.nodes)-planned))
}

// claim refuses a plan that brings an object which another one of the set brings too.
func (s *set) claim(j *job) error {
	err := s.claims.take(j.request.Name, j.plan.Brings())
	if err != nil {
		j.result.Status = Failed
		s.deps.Run.Report.Find(report.Finding{Level: "error", Class: helmrelease.ClassOwner, Object: j.request.Namespace + "/" + j.request.Name,
			Message: err.Error(), Next: strings.Join(tool.HintsOf(err), "; ")})
	}
	return err
}

// settled waits for the plans of needs, and reports whether they change nothing.
func (s *set) settled(needs []Need) bool {
	for _, n := range needs {
		<-s.done[n.Name]
		if p := s.jobs[s.at[n.Name]].plan; p == nil || !p.Unchanged() {
			return false
		}
	}
	return true
}

// untouched gives the results of a set that ended before anything was changed.
func (s *set) untouched() {
	const why = "other releases of the set are refused"
	for i, n := range s.nodes {
		s.results[i] = s.jobs[i].result
		s.results[i].Status = Failed
		if s.errs[i] == nil {
			s.results[i].Status, s.results[i].Message = "skipped", why
			s.deps.Run.Report.Skip("release "+n.Name, why)
		}
	}
}

func (s *set) one(ctx context.Context, i int) (Result, error) {
	n := s.nodes[i]
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
	s.beat.begin(n.Name, "releasing")
	result, err := s.inTurn(ctx, s.jobs[i])
	s.jobs[i] = nil // a plan holds all that is rendered, and is not needed any more
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

// inTurn releases what was planned before, or could not be until now.
func (s *set) inTurn(ctx context.Context, j *job) (Result, error) {
	if j.plan == nil {
		j.index = nil // it is of before anything was touched
		if err := j.makePlan(ctx, s.step); err != nil {
			return j.result, err
		}
		if err := s.claim(j); err != nil {
			return j.result, err
		}
	}
	return j.release(ctx, s.step)
}

// ended returns how the set ended. Where releases are at a new revision, no
// code may say that nothing was changed or that all is as before.
func (s *set) ended() error {
	err := Worst(s.errs)
	var deployed []string
	for i, r := range s.results {
		if r.Status == Deployed && s.errs[i] == nil {
			deployed = append(deployed, r.Release)
		}
	}
	if len(deployed) == 0 {
		return err
	}
	return changed(err, fmt.Sprintf("%d of %d releases were deployed: %s; run it again when the others are mended", len(deployed), len(s.results), strings.Join(deployed, ", ")))
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
