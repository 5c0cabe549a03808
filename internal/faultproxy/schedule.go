package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// World is what a program runs in during one trial. Nothing in it is left from
// an earlier trial.
type World struct {
	// Log is that of the proxies which the program talks through.
	Log *Log
	// Command returns the program's command, anew for each run. Its output is
	// the schedule's to collect.
	Command func() *exec.Cmd
	// Between is what passes between the kill and the next run (a lease that
	// nobody renews grows old); nil is nothing.
	Between func(ctx context.Context) error
	// Check judges the world after the next run: has it converged, does one
	// more run change nothing, is nothing there twice?
	Check func(ctx context.Context, next Run) error
	// Close ends the world.
	Close func()
}

// Run is how a run of the program ended.
type Run struct {
	Code   int    // exit code; -1 after a signal
	Output string // stdout and stderr
}

// Schedule kills a program before and after each of the calls that it makes.
type Schedule struct {
	// World makes a fresh world. Trials of one worker follow each other, so that
	// what is slow to start may be kept by worker and emptied. With one worker
	// all is called in the goroutine of Run.
	World   func(ctx context.Context, worker int) (*World, error)
	Workers int // how many trials at once; 0 is one
	// Is says which calls are points; nil takes the mutating ones.
	Is func(Call) bool
	// Sample is how many of the trials are made, chosen by the seed; 0 is all.
	Sample int
	Seed   uint64
	// Progress is told of each trial; nil is nobody.
	Progress func(format string, args ...any)
}

// Result is what came of a schedule.
type Result struct {
	Calls  []Call // of the run that was left alone, those that are points
	Passed int
	Tried  int
	Misses []Miss
	// Unreached are trials whose run ended well before its call came: such a
	// run made fewer calls than the one that was left alone.
	Unreached int
}

// Miss is a trial after which the world was not as it should be.
type Miss struct {
	Point  string // where the program was killed
	Err    error
	Killed string // output of the killed run
	Next   string // output of the one after it
}

// String returns the miss with the end of what both runs said.
func (m Miss) String() string {
	return fmt.Sprintf("killed %s: %v\n--- the killed run ended with\n%s\n--- the next run ended with\n%s", m.Point, m.Err, tail(m.Killed), tail(m.Next))
}

func tail(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// trial is one kill.
type trial struct {
	n     int // of the points, from 0
	after bool
}

// when says where in its call the program was killed. An upgraded connection
// (exec) is answered before its command has run, and its end is known to the
// program first: what is killed once it is answered, is killed during the call,
// and after it in the trial before the next one.
func (t trial) when(c Call) string {
	switch {
	case !t.after:
		return "before"
	case c.Status == http.StatusSwitchingProtocols:
		return "during"
	}
	return "after"
}

// Run runs the program once to learn its calls, which must end well and pass
// the check, and then makes the trials. An error means that it could not be
// measured.
func (s Schedule) Run(ctx context.Context) (Result, error) {
	if s.Is == nil {
		s.Is = func(c Call) bool { return c.Mutates }
	}
	if s.Progress == nil {
		s.Progress = func(string, ...any) {}
	}
	calls, err := s.learn(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("learning the calls of the program: %w", err)
	}
	result := Result{Calls: calls}
	trials := s.choose(len(calls))
	s.Progress("%d calls are points; %d of %d trials", len(calls), len(trials), 2*len(calls))
	outcomes, err := s.all(ctx, trials, len(calls))
	if err != nil {
		return result, err
	}
	for _, o := range outcomes {
		switch {
		case !o.reached:
			result.Unreached++
			continue
		case o.miss == nil:
			result.Passed++
		default:
			result.Misses = append(result.Misses, *o.miss)
		}
		result.Tried++
	}
	return result, nil
}

// all makes the trials; those of a single worker in the caller's goroutine, as
// the functions of a test need it.
func (s Schedule) all(ctx context.Context, trials []trial, calls int) ([]outcome, error) {
	outcomes := make([]outcome, len(trials))
	next := make(chan int, len(trials))
	for i := range trials {
		next <- i
	}
	close(next)
	work := func(ctx context.Context, worker int) error {
		for i := range next {
			o, err := s.try(ctx, worker, trials[i], calls)
			if err != nil {
				return err
			}
			outcomes[i] = o
		}
		return nil
	}
	if s.Workers <= 1 {
		return outcomes, work(ctx, 0)
	}
	group, ctx := errgroup.WithContext(ctx)
	for worker := range s.Workers {
		group.Go(func() error { return work(ctx, worker) })
	}
	return outcomes, group.Wait()
}

func (s Schedule) learn(ctx context.Context) ([]Call, error) {
	w, err := s.World(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	run, err := whole(ctx, w.Command())
	if err != nil {
		return nil, err
	}
	calls := slices.DeleteFunc(w.Log.Calls(), func(c Call) bool { return !s.Is(c) })
	if err := w.Check(ctx, run); err != nil {
		return nil, fmt.Errorf("a run that was left alone does not pass: %w\n%s", err, run.Output)
	}
	if len(calls) == 0 {
		return nil, errors.New("it makes none")
	}
	return calls, nil
}

// choose returns the trials in the order of the calls.
func (s Schedule) choose(calls int) []trial {
	var all []trial
	for n := range calls {
		all = append(all, trial{n, false}, trial{n, true})
	}
	if s.Sample == 0 || s.Sample >= len(all) {
		return all
	}
	picked := rand.New(rand.NewPCG(s.Seed, 0)).Perm(len(all))[:s.Sample] //nolint:gosec // repeatable is what it must be
	slices.Sort(picked)
	out := make([]trial, 0, s.Sample)
	for _, i := range picked {
		out = append(out, all[i])
	}
	return out
}

type outcome struct {
	reached bool
	miss    *Miss
}

func (s Schedule) try(ctx context.Context, worker int, t trial, calls int) (outcome, error) {
	w, err := s.World(ctx, worker)
	if err != nil {
		return outcome{}, fmt.Errorf("making a world: %w", err)
	}
	defer w.Close()
	call, killed, err := killAt(ctx, w, s.Is, t)
	if err != nil {
		return outcome{}, err
	}
	if err := w.Log.settle(ctx); err != nil {
		return outcome{}, err
	}
	if call == nil {
		s.Progress("trial at call %d of %d: the program ended before it came", t.n+1, calls)
		// It was left alone, and so is to end as the first run did.
		if err := w.Check(ctx, killed); err != nil {
			return outcome{}, fmt.Errorf("a run that ended before call %d of %d came, with %d, does not pass: %w\n%s", t.n+1, calls, killed.Code, err, tail(killed.Output))
		}
		return outcome{}, nil
	}
	miss := &Miss{Point: fmt.Sprintf("%s call %d of %d, %s", t.when(*call), t.n+1, calls, call), Killed: killed.Output}
	if w.Between != nil {
		if err := w.Between(ctx); err != nil {
			return outcome{}, fmt.Errorf("after a kill %s: %w", miss.Point, err)
		}
	}
	next, err := whole(ctx, w.Command())
	if err != nil {
		return outcome{}, err
	}
	if miss.Err = w.Check(ctx, next); miss.Err == nil {
		s.Progress("killed %s: passed", miss.Point)
		return outcome{reached: true}, nil
	}
	if ctx.Err() != nil {
		return outcome{}, context.Cause(ctx)
	}
	miss.Next = next.Output
	s.Progress("killed %s: MISSED: %v", miss.Point, miss.Err)
	return outcome{reached: true, miss: miss}, nil
}

// killAt runs the program until its call comes, and kills it there with all
// that it has started. The call is nil where the program ended before.
func killAt(ctx context.Context, w *World, is func(Call) bool, t trial) (*Call, Run, error) {
	trap := w.Log.set(is, t.n, t.after)
	defer w.Log.release()
	cmd := w.Command()
	var output bytes.Buffer
	if err := start(cmd, &output); err != nil {
		return nil, Run{}, err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); <-ended }
	run := func() Run { return Run{Code: cmd.ProcessState.ExitCode(), Output: output.String()} }
	select {
	case <-trap.at:
		kill()
		call := w.Log.now(trap.call)
		return &call, run(), nil
	case <-ended:
		return nil, run(), nil
	case <-ctx.Done():
		kill()
		return nil, Run{}, context.Cause(ctx)
	}
}

// whole runs a command to its end.
func whole(ctx context.Context, cmd *exec.Cmd) (Run, error) {
	var output bytes.Buffer
	if err := start(cmd, &output); err != nil {
		return Run{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		return Run{}, fmt.Errorf("running %q: %w", cmd.Path, errors.Join(err, context.Cause(ctx)))
	}
	return Run{Code: cmd.ProcessState.ExitCode(), Output: output.String()}, nil
}

// start starts a command as the head of a process group.
func start(cmd *exec.Cmd, output *bytes.Buffer) error {
	cmd.Stdout, cmd.Stderr = output, output
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %q: %w", cmd.Path, err)
	}
	return nil
}
