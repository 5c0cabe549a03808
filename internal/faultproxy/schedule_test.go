package faultproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// schedule kills one of the programs of this package; converged is that each
// thing was made once.
func schedule(t *testing.T, program string) faultproxy.Schedule {
	return faultproxy.Schedule{World: func(context.Context, int) (*faultproxy.World, error) {
		s := &store{made: map[string]int{}}
		server := httptest.NewServer(s)
		p := start(t, faultproxy.Config{Part: faultproxy.GitLab(), Upstream: server.URL})
		return &faultproxy.World{Log: p.Log, Close: func() { p.Close(); server.Close() },
			Command: func() *exec.Cmd {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "FAULTPROXY_PROGRAM="+program, "FAULTPROXY_URL="+p.URL)
				return cmd
			},
			Check: func(_ context.Context, next faultproxy.Run) error {
				if next.Code != 0 || !strings.Contains(next.Output, "done") {
					return fmt.Errorf("it exited with %d", next.Code)
				}
				if got := s.count(); !maps.Equal(got, map[string]int{"a": 1, "b": 1}) {
					return fmt.Errorf("made %v", got)
				}
				return nil
			}}, nil
	}}
}

func TestScheduleOfACarefulProgram(t *testing.T) {
	for _, workers := range []int{1, 3} {
		s := schedule(t, "careful")
		s.Workers = workers
		r, err := s.Run(t.Context())
		if err != nil || r.Tried != 4 || r.Passed != 4 || len(r.Misses) != 0 || r.Unreached != 0 {
			t.Errorf("with %d workers: %+v, %v", workers, r, err)
		}
		if len(r.Calls) != 2 || r.Calls[1].String() != "gitlab PUT (PUT /b)" {
			t.Errorf("the calls are %v", r.Calls)
		}
	}
}

func TestScheduleNamesWhatIsMissed(t *testing.T) {
	r, err := schedule(t, "careless").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, m := range r.Misses {
		points = append(points, m.Point+": "+m.Err.Error())
	}
	want := []string{
		"after call 1 of 2, gitlab POST (POST /a): made map[a:2 b:1]",
		"before call 2 of 2, gitlab POST (POST /b): made map[a:2 b:1]",
		"after call 2 of 2, gitlab POST (POST /b): made map[a:2 b:2]",
	}
	if r.Tried != 4 || r.Passed != 1 || !slices.Equal(points, want) {
		t.Errorf("%d/%d, missed %q", r.Passed, r.Tried, points)
	}
}

func TestScheduleSamplesBySeed(t *testing.T) {
	sampled := func(seed uint64) []string {
		s := schedule(t, "careless")
		s.Sample, s.Seed = 2, seed
		var said []string
		s.Progress = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
		if r, err := s.Run(t.Context()); err != nil || r.Tried != 2 {
			t.Errorf("%+v, %v", r, err)
		}
		return said
	}
	if a, b := sampled(7), sampled(7); !slices.Equal(a, b) {
		t.Errorf("the same seed chose %q and %q", a, b)
	}
}

func TestScheduleThatCannotBeMeasured(t *testing.T) {
	broken := schedule(t, "careful")
	world := broken.World
	broken.World = func(ctx context.Context, worker int) (*faultproxy.World, error) {
		w, err := world(ctx, worker)
		w.Check = func(context.Context, faultproxy.Run) error { return errors.New("nothing is ever right") }
		return w, err
	}
	if _, err := broken.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "a run that was left alone does not pass: nothing is ever right") {
		t.Errorf("a program that fails by itself: %v", err)
	}
	none := schedule(t, "careful")
	none.Is = func(faultproxy.Call) bool { return false }
	if _, err := none.Run(t.Context()); err == nil {
		t.Error("a schedule without a point was measured")
	}
}

// TestScheduleOfAShorterRun: a trial whose call never comes is counted apart.
func TestScheduleOfAShorterRun(t *testing.T) {
	s := schedule(t, "careful")
	world, runs := s.World, 0
	s.World = func(ctx context.Context, worker int) (*faultproxy.World, error) {
		w, err := world(ctx, worker)
		if runs++; runs > 1 { // the trials find it all made
			cmd := w.Command()
			if out, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%w: %s", err, out)
			}
		}
		return w, err
	}
	r, err := s.Run(t.Context())
	if err != nil || r.Tried != 0 || r.Unreached != 4 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestScheduleOfARunThatFails: a run that was not killed and fails is no trial
// whose call merely did not come.
func TestScheduleOfARunThatFails(t *testing.T) {
	s := schedule(t, "careful")
	world, runs := s.World, 0
	s.World = func(ctx context.Context, worker int) (*faultproxy.World, error) {
		w, err := world(ctx, worker)
		if runs++; runs > 1 {
			w.Command = func() *exec.Cmd { return exec.Command("sh", "-c", "echo no such flag; exit 3") }
		}
		return w, err
	}
	_, err := s.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "before call 1 of 2 came, with 3, does not pass: it exited with 3\nno such flag") {
		t.Errorf("a trial that failed by itself: %v", err)
	}
}

// reported is a test that Report may fail.
type reported struct {
	testing.TB
	failures []string
}

func (r *reported) Helper()             {}
func (r *reported) Logf(string, ...any) {}
func (r *reported) Errorf(format string, a ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, a...))
}

// TestReportCountsWhatWasNotReached: in the figure, and as a failure.
func TestReportCountsWhatWasNotReached(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures")
	t.Setenv("SLIPWAY_CHAOS", file)
	for _, c := range []struct {
		result   faultproxy.Result
		failures int
		figure   string
	}{
		{faultproxy.Result{Passed: 4, Tried: 4}, 0, "killed 4/4\n"},
		{faultproxy.Result{Passed: 4, Tried: 4, Unreached: 2}, 1, "killed 4/6\n"},
		{faultproxy.Result{Passed: 3, Tried: 4, Misses: []faultproxy.Miss{{Point: "before", Err: errors.New("twice")}}}, 1, "killed 3/4\n"},
	} {
		r := &reported{TB: t}
		faultproxy.Report(r, "killed", c.result, nil)
		raw, err := os.ReadFile(file)
		if err != nil || string(raw) != c.figure || len(r.failures) != c.failures {
			t.Errorf("%+v: the figure %q, the failures %q, %v", c.result, raw, r.failures, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScheduleNamesUpgradedCalls: an exec is answered before its command has
// run, so that a kill there is none after it.
func TestScheduleNamesUpgradedCalls(t *testing.T) {
	s := faultproxy.Schedule{World: func(context.Context, int) (*faultproxy.World, error) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			talk(t, w, func(rw *bufio.ReadWriter) {
				_, _ = rw.ReadString('\n') // the command, or the end of a killed client
			})
		}))
		p := start(t, faultproxy.Config{Part: faultproxy.Kubernetes(), Upstream: server.URL})
		killed := false
		return &faultproxy.World{Log: p.Log, Close: func() { p.Close(); server.Close() },
			Command: func() *exec.Cmd {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "FAULTPROXY_PROGRAM=exec", "FAULTPROXY_URL="+p.URL)
				return cmd
			},
			Between: func(context.Context) error { killed = true; return nil },
			Check: func(_ context.Context, next faultproxy.Run) error {
				if killed || next.Code != 0 {
					return fmt.Errorf("it exited with %d", next.Code)
				}
				return nil
			}}, nil
	}}
	r, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, m := range r.Misses {
		points = append(points, m.Point)
	}
	const call = " call 1 of 1, kubernetes create pods/exec (POST /api/v1/namespaces/a/pods/b/exec)"
	if want := []string{"before" + call, "during" + call}; !slices.Equal(points, want) {
		t.Errorf("killed %q", points)
	}
}
