package failures

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gitlab.com/slipway/slipway/pkg/rollout"
)

// Each failure leads through the states and events that testdata tells, and
// through no others. SLIPWAY_GENERATE=1 writes them anew, to be read by a
// person and held against the recordings of the real kubelet.
func TestFakeNodesFail(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			c.apply(t, s.deployment(true))
			path := filepath.Join("testdata", s.name+".txt")
			if os.Getenv("SLIPWAY_GENERATE") != "" {
				generate(t, c, path)
				return
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, seen := string(raw), &recording{}
			err = c.observe(patience(t), func(p *corev1.Pod, e *corev1.Event) bool {
				seen.see(p, e)
				got := seen.shape()
				return got.String() == want || stray(got, want) != ""
			})
			if got := seen.shape(); err != nil || got.String() != want {
				t.Errorf("%v; not as told: %q\ngot\n%s\nwant\n%s", err, stray(got, want), got, want)
			}
		})
	}
}

// stray is a state or an event that the text does not have.
func stray(s shape, text string) string {
	for m := range s.moments {
		if !strings.Contains(text, m+"\n") {
			return m
		}
	}
	for e := range s.events {
		if !strings.Contains(text, "  "+e+"\n") && !strings.Contains(text, "  "+e+" (again)\n") {
			return e
		}
	}
	return ""
}

func generate(t *testing.T, c cluster, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	seen := &recording{}
	err := c.observe(ctx, func(p *corev1.Pod, e *corev1.Event) bool { seen.see(p, e); return false })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(seen.shape().String()), 0o644); err != nil { //nolint:gosec // a file of the repository
		t.Fatal(err)
	}
}

// The product's watcher says of each failure what it is, and does not wait for
// the deadline where no waiting helps.
func TestRolloutSeesFailures(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			ctx, deadline := patience(t), errors.New("the deadline is over")
			objects := c.apply(t, s.deployment(true))
			if s.class != "" && !s.early {
				// The deadline is short, so it counts from when all of the failure
				// is there to be seen, however slow the machine is.
				if err := c.observe(ctx, s.complete(t)); err != nil {
					t.Fatal(err)
				}
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, short, deadline)
				defer cancel()
			}
			err := c.wait(ctx, objects, stable)
			checkFailure(t, s, err, deadline)
		})
	}
}

// complete says when a pod has been through all that testdata tells of it.
func (s scenario) complete(t *testing.T) func(*corev1.Pod, *corev1.Event) bool {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", s.name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	seen := &recording{}
	return func(p *corev1.Pod, e *corev1.Event) bool {
		seen.see(p, e)
		return seen.shape().String() == string(raw)
	}
}

const (
	// stable is longer than any pod of a scenario runs before it fails.
	stable = 4 * time.Second
	// short is a rollout's deadline where waiting for it is all that tells the failure.
	short = 10 * time.Second
)

func checkFailure(t *testing.T, s scenario, err, deadline error) {
	t.Helper()
	var failure *rollout.Failure
	switch {
	case s.class == "":
		if err != nil {
			t.Errorf("it failed: %v", err)
		}
	case !errors.As(err, &failure):
		t.Errorf("error %v, want a failure of class %s", err, s.class)
	case failure.Finding.Class != s.class || !strings.Contains(failure.Error(), s.says):
		t.Errorf("class %s: %v\nwant %s: %s", failure.Finding.Class, failure, s.class, s.says)
	case s.early == errors.Is(err, deadline):
		t.Errorf("early %t, but %v", s.early, err)
	}
}
