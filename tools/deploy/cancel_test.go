package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// TestTerminatedAtAnyMoment: a run that is told to end ends with 130 wherever
// it is, says in which state the release is, leaves nothing pending, and from
// then on writes nothing but that.
func TestTerminatedAtAnyMoment(t *testing.T) {
	for _, c := range []struct {
		name   string
		values string
		held   faultproxy.Match // the call that the signal comes in
		says   string
		want   []string // histories, of which one must be
	}{
		{"before the first write", "greeting: two", faultproxy.Match{Action: "create leases.*"}, "", []string{"deployed"}},
		{"at the record", "greeting: two", faultproxy.Match{Action: "create secrets"}, "cancelled; revision", []string{"deployed", "deployed failed"}},
		{"in the middle", "greeting: two", faultproxy.Match{Action: "patch deployments.apps", Mutating: true}, "revision 2 was under way and is failed; revision 1 was ready before", []string{"deployed failed"}},
		{"while it restores", "greeting: broken\nscheduler: none", faultproxy.Match{Action: "patch deployments.apps", Mutating: true, Nth: 2}, "revision 3 was under way and is failed", []string{"deployed failed failed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.run(0, "apply", "--environment", "dev")
			w.failPulls()
			w.values(c.values)
			calls := w.proxied(faultproxy.Rule{Match: c.held, Fault: faultproxy.Delay(20 * time.Second)})
			cmd, log, held := w.caught(calls, "apply", "--environment", "dev")
			w.must(cmd.Process.Signal(syscall.SIGTERM))
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != 130 {
				t.Errorf("exit code %d, want 130\n%s", got, log)
			}
			if got := w.statuses(); !slices.Contains(c.want, got) {
				t.Errorf("history: %s, want one of %q\n%s", got, c.want, log)
			}
			if !strings.Contains(log.String(), c.says) {
				t.Errorf("the log does not say %q:\n%s", c.says, log)
			}
			for _, call := range calls.Mutating() {
				if call.Seq > held.Seq && !slices.Contains([]string{"update secrets", "update leases.coordination.k8s.io", "delete leases.coordination.k8s.io"}, call.Action) {
					t.Errorf("after the signal it still made the call %s", call)
				}
			}
		})
	}
}
