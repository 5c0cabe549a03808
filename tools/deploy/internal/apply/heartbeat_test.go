package apply

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestHeartbeat: every release that runs is heard of before half a minute is
// over, and however much changes, it fills no log.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		start := time.Now()
		h := newHeartbeat(func(f string, args ...any) {
			lines = append(lines, fmt.Sprintf("%ds ", int(time.Since(start).Seconds()))+fmt.Sprintf(f, args...))
		})
		stop := make(chan struct{})
		go h.run(stop)
		h.begin("a", "releasing")
		time.Sleep(3 * time.Second)
		h.begin("b", "releasing")
		for i := range 60 {
			h.progress("b", fmt.Sprintf("waiting for Deployment b: %d of 60 pods", i))
			time.Sleep(time.Second)
		}
		h.progress("nobody", "ignored")
		h.hook("nobody", "hook of | nobody")
		if took := h.end("b", "revision 1 is deployed"); took != time.Minute {
			t.Errorf("b took %s", took)
		}
		h.hook("a", "hook migrate | one")
		h.hook("a", "hook migrate | two")
		h.progress("a", "0 of 1 ready")
		h.end("a", "failed: why")
		close(stop)
		synctest.Wait()
		var a, b int
		for _, l := range lines {
			a += strings.Count(l, "s a: ")
			b += strings.Count(l, "s b: ")
		}
		if a != 7 || b != 4 {
			t.Errorf("%d and %d lines:\n%s", a, b, strings.Join(lines, "\n"))
		}
		for _, want := range []string{"0s a: releasing", "20s a: starting (20s)", "63s b: revision 1 is deployed", "63s a: hook migrate | one", "63s a: hook migrate | two"} {
			if !slices.Contains(lines, want) {
				t.Errorf("%q is missing:\n%s", want, strings.Join(lines, "\n"))
			}
		}
		if !strings.Contains(strings.Join(lines, "\n"), "25s b: waiting for Deployment b: 2") {
			t.Errorf("what b is at is not told:\n%s", strings.Join(lines, "\n"))
		}
	})
}
