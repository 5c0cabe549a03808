package datatest

import (
	"context"
	"crypto/md5" //nolint:gosec // it is what PostgreSQL computes
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// payload is what the row or the message with a number holds.
func payload(id int) string {
	return strings.Repeat(fmt.Sprintf("%d/", id), 40)
}

// digest is the checksum over the payloads of the rows 1 to n.
func digest(n int) string {
	h := md5.New() //nolint:gosec // see above
	for id := 1; id <= n; id++ {
		h.Write([]byte(payload(id)))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Connect connects to PostgreSQL until the test ends.
func (d Database) Connect(t *testing.T) *pgx.Conn {
	t.Helper()
	return d.connect(t, "5432")
}

func (d Database) connect(t *testing.T, port string) *pgx.Conn {
	t.Helper()
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", d.Password), Host: d.address(t, port), Path: "orders"}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		t.Fatalf("connecting to %s in %q: %v", d.Name, d.Namespace, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the database may be gone
	return conn
}

// Ledger writes orders with one line each, in one transaction per order, with
// ids 1, 2, 3, ...: whatever is read of it at one moment has the orders up to
// some id without a gap, and as many lines.
type Ledger struct {
	conn *pgx.Conn
	sent int
	done atomic.Int64
}

// Committed is the id of the last order that the database has committed for
// all that the client knows.
func (l *Ledger) Committed() int { return int(l.done.Load()) }

// NewLedger makes the tables and n rows.
func NewLedger(t *testing.T, d Database, n int) *Ledger {
	t.Helper()
	l := &Ledger{conn: d.Connect(t)}
	for _, sql := range []string{
		`CREATE TABLE orders (id int PRIMARY KEY, payload text NOT NULL, sum text NOT NULL GENERATED ALWAYS AS (md5(payload)) STORED)`,
		`CREATE TABLE lines (order_id int PRIMARY KEY REFERENCES orders, sum text NOT NULL)`,
	} {
		if _, err := l.conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	l.Add(t, n)
	return l
}

// Add commits n orders at once.
func (l *Ledger) Add(t *testing.T, n int) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), l.conn, func(tx pgx.Tx) error {
		for range n {
			if err := l.insert(t.Context(), tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("writing orders: %v", err)
	}
	l.done.Store(int64(l.sent))
}

func (l *Ledger) insert(ctx context.Context, tx pgx.Tx) error {
	l.sent++
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO orders (id, payload) VALUES ($1, $2)`, l.sent, payload(l.sent))
	batch.Queue(`INSERT INTO lines (order_id, sum) SELECT id, sum FROM orders WHERE id = $1`, l.sent)
	return tx.SendBatch(ctx, batch).Close()
}

// Write commits one order after the other until stop is closed.
func (l *Ledger) Write(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error { return l.insert(ctx, tx) }); err != nil {
			return fmt.Errorf("writing the order %d: %w", l.sent, err)
		}
		l.done.Store(int64(l.sent))
	}
}

// Count reads the ledger in a database and returns how many orders it has. It
// is an error where what is there is not all of what was committed up to some
// moment.
func Count(ctx context.Context, conn *pgx.Conn) (int, error) {
	var n, last, broken, lines int
	var sum *string
	err := conn.QueryRow(ctx, `
		SELECT count(o.id), coalesce(max(o.id), 0), count(*) FILTER (WHERE o.sum IS DISTINCT FROM l.sum OR o.sum <> md5(o.payload)),
		       count(l.order_id), md5(string_agg(o.payload, '' ORDER BY o.id))
		FROM orders o FULL JOIN lines l ON l.order_id = o.id`).Scan(&n, &last, &broken, &lines, &sum)
	if err != nil {
		return 0, fmt.Errorf("reading the ledger: %w", err)
	}
	if n == 0 {
		return 0, errors.New("reading the ledger: it is empty")
	}
	if n != last || broken != 0 || lines != n {
		return n, fmt.Errorf("reading the ledger: %d orders up to id %d, %d lines, %d pairs that do not match", n, last, lines, broken)
	}
	if want := digest(n); *sum != want {
		return n, fmt.Errorf("reading the ledger: the checksum over %d orders is %s, what was written has %s", n, *sum, want)
	}
	return n, nil
}
