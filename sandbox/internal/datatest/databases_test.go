package datatest

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

// Both databases start from images that are pulled by digest, and what was
// written to them is there again in the next pod on the same claims.
func TestDatabasesSurviveARestart(t *testing.T) {
	node := nodetest.Open(t, "nonprod")
	t.Run("postgres", func(t *testing.T) {
		d := Start(t, node, "postgres")
		if id := d.Ready(t).Status.ContainerStatuses[0].ImageID; !strings.Contains(node.Sandbox.Images["postgres"], id[strings.LastIndex(id, "@")+1:]) {
			t.Errorf("it runs %q, not %q", id, node.Sandbox.Images["postgres"])
		}
		NewLedger(t, d, 1000)
		d.Restart(t)
		if n, err := Count(t.Context(), d.Connect(t)); err != nil || n != 1000 {
			t.Errorf("after the restart there are %d orders, %v", n, err)
		}
	})
	t.Run("rabbitmq", func(t *testing.T) {
		d := Start(t, node, "rabbitmq")
		conn := d.Dial(t)
		for queue := range Queues() {
			NewPublisher(t, conn, queue, 100)
		}
		d.Restart(t)
		conn = d.Dial(t)
		for queue := range Queues() {
			CheckDrained(t, queue, Drain(t, conn, queue), 100, 100)
		}
	})
}

// A dump that is not what the hook has written makes no database: the pod says
// so and does not serve half of the data.
func TestTamperedDumpIsRefused(t *testing.T) {
	node := nodetest.Open(t, "nonprod")
	d := Start(t, node, "postgres")
	NewLedger(t, d, 1000)
	shell := func(script string) {
		t.Helper()
		if out, err := node.Exec(t.Context(), d.Namespace, d.Pod(), "sh", "-ec", script); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	shell(`dump && truncate --size=-1 /dump/dump.pgc && rm -rf "$PGDATA"`)
	shell(`kill -INT 1`)
	node.Until(t, d.Namespace, d.Pod(), "its start is refused with status 7", func(p *corev1.Pod) bool {
		for _, c := range p.Status.ContainerStatuses {
			for _, s := range []corev1.ContainerState{c.State, c.LastTerminationState} {
				if s.Terminated != nil && s.Terminated.ExitCode == 7 {
					return true
				}
			}
		}
		return false
	})
}

// A start that was killed while it made the database begins anew.
func TestHalfMadeDatabaseIsMadeAgain(t *testing.T) {
	node := nodetest.Open(t, "nonprod")
	d := Start(t, node, "postgres")
	if out, err := node.Exec(t.Context(), d.Namespace, d.Pod(), "sh", "-ec", `mv "$PGDATA" "$PGDATA.new" && rm "$PGDATA.new/global/pg_control"`); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.Restart(t)
	NewLedger(t, d, 10)
	if n, err := Count(t.Context(), d.Connect(t)); err != nil || n != 10 {
		t.Errorf("there are %d orders, %v", n, err)
	}
}
