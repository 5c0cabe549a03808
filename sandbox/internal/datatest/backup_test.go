package datatest

import (
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

// written is what two databases held when a backup of them began and ended.
type written struct {
	postgres, rabbitmq Database
	before, after      int // orders committed
	queues             map[string]*Publisher
}

// Two databases that are written to all the time are backed up with their
// files, lost, and restored: into another namespace, into their own, and into
// another cluster. All that was committed before the backup is there, nothing
// is there by half.
func TestDatabasesComeBack(t *testing.T) {
	node, prod := nodetest.Open(t, "nonprod"), nodetest.Open(t, "prod")
	w := &written{postgres: Start(t, node, "postgres"), rabbitmq: Start(t, node, "rabbitmq"), queues: map[string]*Publisher{}}
	backup := w.backUp(t, node)

	t.Run("in a mapped namespace", func(t *testing.T) {
		to := node.Namespace + "-copy"
		t.Cleanup(func() { Lose(t, node, to) })
		Restore(t, node, backup, node.Namespace, to)
		w.check(t, node, to)
	})
	t.Run("lost and restored", func(t *testing.T) {
		Lose(t, node, node.Namespace)
		Restore(t, node, backup, node.Namespace, node.Namespace)
		w.check(t, node, node.Namespace)
	})
	t.Run("in another cluster", func(t *testing.T) {
		t.Cleanup(func() { Lose(t, prod, node.Namespace) })
		Arrived(t, prod, backup)
		Restore(t, prod, backup, node.Namespace, node.Namespace)
		w.check(t, prod, node.Namespace)
	})
}

// backUp backs both databases up while they are written to.
func (w *written) backUp(t *testing.T, node *nodetest.Node) string {
	t.Helper()
	ledger := NewLedger(t, w.postgres, 20000)
	conn := w.rabbitmq.Dial(t)
	for queue := range Queues() {
		w.queues[queue] = NewPublisher(t, conn, queue, 200)
	}
	stop, ledgerEnded, published := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() { ledgerEnded <- ledger.Write(t.Context(), stop) }()
	go func() { published <- w.queues["orders"].Write(t.Context()) }()

	w.before = ledger.Committed()
	backup, phase := Backup(t, node, node.Namespace, "full")
	w.after = ledger.Committed()
	close(stop)
	if err := <-ledgerEnded; err != nil {
		t.Fatal(err)
	}
	// The hook stops the broker, which ends the connection; it does not lose
	// what it has confirmed.
	if phase != "Completed" {
		t.Fatalf("the backup is %q", phase)
	}
	select {
	case err := <-published:
		if !errors.As(err, new(*amqp.Error)) {
			t.Fatalf("the publisher has ended by %v, and not by the broker", err)
		}
	case <-time.After(time.Minute): // the backup has ended: it was stopped long ago, or will not be
		t.Fatal("the hook has not stopped the broker")
	}
	volumes := Volumes(t, node, backup)
	if len(volumes) != 2 || volumes["postgres-0/dump"] == 0 || volumes["rabbitmq-0/data"] == 0 {
		t.Fatalf("the bytes of the copied volumes are %v, want those of the dump and of the broker", volumes)
	}
	if w.after <= w.before {
		t.Fatalf("no order was committed during the backup")
	}
	// The broker was started again.
	NewPublisher(t, w.rabbitmq.Dial(t), "orders", 1)
	t.Logf("MEASURED orders committed during the backup: %d, messages: %d; bytes of the volumes: %v", w.after-w.before, w.queues["orders"].Acked, volumes)
	return backup
}

// check compares what is restored with what was written.
func (w *written) check(t *testing.T, node *nodetest.Node, namespace string) {
	t.Helper()
	postgres, rabbitmq := w.postgres.In(node, namespace), w.rabbitmq.In(node, namespace)
	n, err := Count(t.Context(), postgres.Connect(t))
	if err != nil {
		t.Error(err)
	}
	if n < w.before || n >= w.after {
		t.Errorf("%d orders are restored: %d were committed before the backup, %d at its end", n, w.before, w.after)
	}
	conn := rabbitmq.Dial(t)
	for queue, p := range w.queues {
		CheckDrained(t, queue, Drain(t, conn, queue), p.Acked, p.Sent)
	}
	// Both go on working.
	ledger := postgres.Connect(t)
	if _, err := ledger.Exec(t.Context(), `INSERT INTO orders (id, payload) VALUES ($1, 'new')`, n+1); err != nil {
		t.Error(err)
	}
	NewPublisher(t, conn, "orders", 1)
}

// A backup whose dump has failed is none, and says so.
func TestDumpThatFailsFailsTheBackup(t *testing.T) {
	node := nodetest.Open(t, "nonprod")
	d := Start(t, node, "postgres")
	NewLedger(t, d, 10)
	if _, err := node.Exec(t.Context(), d.Namespace, d.Pod(), "psql", "--command", "DROP DATABASE orders WITH (FORCE)"); err != nil {
		t.Fatal(err)
	}
	backup, phase := Backup(t, node, d.Namespace, "bad")
	if phase != "PartiallyFailed" {
		t.Errorf("the backup is %q", phase)
	}
	if volumes := Volumes(t, node, backup); len(volumes) != 0 {
		t.Errorf("the volumes %v were copied without a new dump", volumes)
	}
}
