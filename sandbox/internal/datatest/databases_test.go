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
	for _, tamper := range []string{"truncate --size=-1 /dump/dump.pgc", "rm /dump/dump.sha256"} {
		t.Run(strings.Fields(tamper)[0], func(t *testing.T) { refusesDump(t, tamper) })
	}
}

func refusesDump(t *testing.T, tamper string) {
	t.Helper()
	node := nodetest.Open(t, "nonprod")
	d := Start(t, node, "postgres")
	NewLedger(t, d, 1000)
	d.shell(t, `dump && `+tamper+` && mv "$PGDATA" /data/old`)
	d.shell(t, `kill -INT 1`)
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
	d.shell(t, `mv "$PGDATA" "$PGDATA.new" && rm "$PGDATA.new/global/pg_control"`)
	d.Restart(t)
	NewLedger(t, d, 10)
	if n, err := Count(t.Context(), d.Connect(t)); err != nil || n != 10 {
		t.Errorf("there are %d orders, %v", n, err)
	}
}

// Files that are copied one after the other while the database is written to
// make a database that starts, and has lost what was committed. Hence the dump;
// and the check by which the other tests tell that nothing is lost says no.
func TestTornCopyIsSeen(t *testing.T) {
	node := nodetest.Open(t, "nonprod")
	d := Start(t, node, "postgres")
	ledger := NewLedger(t, d, 1000)
	early := d.shell(t, `cd "$PGDATA"; file=$(psql -d orders -Atc "SELECT pg_relation_filepath('orders')"); psql --quiet --command CHECKPOINT; cp "$file" /tmp/early; echo "$file"`)
	ledger.Add(t, 1000)
	d.shell(t, `psql --quiet --command CHECKPOINT; cp -a "$PGDATA" /data/copy; rm /data/copy/postmaster.pid; cp /tmp/early "/data/copy/`+strings.TrimSpace(early)+`"`)
	if n, err := Count(t.Context(), d.Connect(t)); err != nil || n != 2000 {
		t.Fatalf("in the source there are %d orders, %v", n, err)
	}
	d.shell(t, `pg_ctl --pgdata /data/copy --log /tmp/copy.log --wait --options "-c port=5433 -c listen_addresses='*' -c unix_socket_directories=/tmp" start`)
	if n, err := Count(t.Context(), d.connect(t, "5433")); err == nil {
		t.Errorf("the copy is taken for whole, with %d orders", n)
	} else {
		t.Logf("as it should be: %v", err)
	}
}

// shell runs a script in the database's container and returns what it prints.
func (d Database) shell(t *testing.T, script string) string {
	t.Helper()
	out, err := d.Node.Exec(t.Context(), d.Namespace, d.Pod(), "sh", "-ec", script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}
