package datatest

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Queues are durable queues of each kind that keeps its messages on disk.
func Queues() map[string]amqp.Table {
	return map[string]amqp.Table{
		"orders":          {amqp.QueueTypeArg: amqp.QueueTypeClassic},
		"orders-replicas": {amqp.QueueTypeArg: amqp.QueueTypeQuorum},
	}
}

// Dial connects to RabbitMQ until the test ends.
func (d Database) Dial(t *testing.T) *amqp.Connection {
	t.Helper()
	u := url.URL{Scheme: "amqp", User: url.UserPassword("orders", d.Password), Host: d.address(t, "5672"), Path: "/"}
	conn, err := amqp.DialConfig(u.String(), amqp.Config{Dial: amqp.DefaultDial(30 * time.Second)})
	if err != nil {
		t.Fatalf("connecting to %s in %q: %v", d.Name, d.Namespace, err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the broker may be gone
	return conn
}

// Publisher publishes persistent messages 1, 2, 3, ... to one queue and waits
// for the broker's word on each.
type Publisher struct {
	channel *amqp.Channel
	queue   string
	Sent    int // messages up to this one were sent
	Acked   int // messages up to this one were confirmed
}

// NewPublisher declares a queue of Queues and publishes n messages to it.
func NewPublisher(t *testing.T, conn *amqp.Connection, queue string, n int) *Publisher {
	t.Helper()
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := channel.Confirm(false); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.QueueDeclare(queue, true, false, false, false, Queues()[queue]); err != nil {
		t.Fatal(err)
	}
	p := &Publisher{channel: channel, queue: queue}
	for range n {
		if err := p.publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *Publisher) publish(ctx context.Context) error {
	p.Sent++
	confirm, err := p.channel.PublishWithDeferredConfirmWithContext(ctx, "", p.queue, true, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(payload(p.Sent))})
	if err != nil {
		return err
	}
	ok, err := confirm.WaitContext(ctx)
	if err != nil {
		return err
	}
	if !ok {
		if p.channel.IsClosed() { // it ended with the confirmation still to come
			return amqp.ErrClosed
		}
		return fmt.Errorf("the broker refuses message %d", p.Sent)
	}
	p.Acked = p.Sent
	return nil
}

// Write publishes until the broker closes the connection, as a quiesce does,
// and returns how.
func (p *Publisher) Write(ctx context.Context) error {
	closed := p.channel.NotifyClose(make(chan *amqp.Error, 1))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if err := <-closed; err != nil {
			cancel(err)
		}
	}()
	for {
		if err := p.publish(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("publishing message %d: %w", p.Sent, err)
		}
	}
}

// Drain takes every message from a queue and returns their numbers, in their
// order.
func Drain(t *testing.T, conn *amqp.Connection, queue string) []int {
	t.Helper()
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	state, err := channel.QueueDeclarePassive(queue, true, false, false, false, Queues()[queue])
	if err != nil {
		t.Fatalf("looking for the queue %q: %v", queue, err)
	}
	var numbers []int
	for range state.Messages {
		m, ok, err := channel.Get(queue, true)
		if err != nil || !ok {
			t.Fatalf("taking message %d of %d from %q: there is one: %t, %v", len(numbers)+1, state.Messages, queue, ok, err)
		}
		first, _, _ := strings.Cut(string(m.Body), "/")
		n, err := strconv.Atoi(first)
		if err != nil || string(m.Body) != payload(n) {
			t.Fatalf("message %d of %q is not what was sent: %.40q", len(numbers)+1, queue, m.Body)
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// CheckDrained fails the test unless the numbers are 1, 2, 3, ... up to one of
// least to most.
func CheckDrained(t *testing.T, queue string, numbers []int, least, most int) {
	t.Helper()
	for i, n := range numbers {
		if n != i+1 {
			t.Fatalf("%q: message %d is the one that was sent as number %d", queue, i+1, n)
		}
	}
	if n := len(numbers); n < least || n > most {
		t.Errorf("%q has %d messages, want %d to %d", queue, n, least, most)
	}
}
