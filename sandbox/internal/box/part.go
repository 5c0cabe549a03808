package box

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// Part is one process of the sandbox, or a step that makes something in it.
type Part struct {
	Name  string
	Needs []string // parts that are ready before this one starts
	Ports []string // names of the ports it listens on
	// Command says what to run; nil for a step.
	Command func(b *Box) (Spec, error)
	// Ready returns when the part can be used, having made what belongs to
	// it. It may be called again and then changes nothing.
	Ready func(ctx context.Context, b *Box) error
}

// Spec is the command of a part.
type Spec struct {
	Argv []string
	Env  []string
	// Inputs are files that the process reads when it starts: where their
	// content differs from when it was started, it is started anew.
	Inputs []string
}

// digest tells one command from another.
func (s Spec) digest() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q\n", s.Argv, s.Env)
	for _, path := range s.Inputs {
		raw, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("reading what a part starts with: %w", err)
		}
		fmt.Fprintf(h, "%s %x\n", path, sha256.Sum256(raw))
	}
	return hex.EncodeToString(h.Sum(nil))[:20], nil
}

// patience is how long a part may take to become ready on a busy machine.
const patience = 2 * time.Minute

// run brings all parts up, each as soon as what it needs is ready.
func (b *Box) run(ctx context.Context, parts []Part) error {
	ready := map[string]chan struct{}{}
	for _, p := range parts {
		ready[p.Name] = make(chan struct{})
	}
	stop := b.heartbeat(ctx, ready)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		group.Go(func() error {
			for _, need := range p.Needs {
				select {
				case <-ready[need]:
				case <-ctx.Done():
					return nil // another part's error is the one to show
				}
			}
			if err := b.bring(ctx, p); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("starting %q: %w", p.Name, err)
			}
			close(ready[p.Name])
			return nil
		})
	}
	return group.Wait()
}

// heartbeat names what is not ready yet, so that the log is never silent.
func (b *Box) heartbeat(ctx context.Context, ready map[string]chan struct{}) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() {
		t := time.NewTicker(15 * time.Second)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			var left []string
			for name, ch := range ready {
				select {
				case <-ch:
				default:
					left = append(left, name)
				}
			}
			b.say("not ready yet: %s", strings.Join(left, ", "))
		}
	})
	return func() { cancel(); ended.Wait() }
}

// bring starts the part where it does not run as wanted, and waits for it. A
// process of an earlier run that ends meanwhile is started anew.
func (b *Box) bring(ctx context.Context, p Part) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it was not ready after %s", patience))
	defer cancel()
	for {
		ended, started, err := b.start(ctx, p)
		if err != nil {
			return err
		}
		if p.Ready != nil {
			err = b.wait(ctx, p, ended)
		}
		// With ctx at its end the cause may be the end of another part.
		if !started && ctx.Err() == nil && errors.Is(err, errEnded) {
			continue
		}
		if err != nil {
			return b.explain(p, err)
		}
		if started {
			b.say("%-31s ready after %.1f s", p.Name, time.Since(start).Seconds())
		}
		return nil
	}
}

var errEnded = errors.New("its process ended")

func (b *Box) wait(ctx context.Context, p Part, ended <-chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Ready(ctx, b) }()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return err
	case err := <-ended:
		cancel()
		<-done //nolint:errcheck // the end of the process is the error to show
		return fmt.Errorf("%w: %w", errEnded, err)
	}
}

// explain adds the end of the part's log to an error.
func (b *Box) explain(p Part, err error) error {
	if p.Command == nil || errors.Is(err, context.Canceled) {
		return err
	}
	log := b.logPath(p.Name)
	if tail := process.Tail(log, 8); tail != "" {
		err = fmt.Errorf("%w\n%s", err, tail)
	}
	return fmt.Errorf("%w\nthe whole log is %s", err, log)
}

// start makes sure that the part's process runs with the wanted command.
func (b *Box) start(ctx context.Context, p Part) (ended <-chan error, started bool, err error) {
	if p.Command == nil {
		return nil, false, nil
	}
	spec, err := p.Command(b)
	if err != nil {
		return nil, false, err
	}
	digest, err := spec.digest()
	if err != nil {
		return nil, false, err
	}
	if have, ok := b.journal.Entry(p.Name); ok && have.Digest == digest && have.Alive() {
		return process.Ended(ctx, have.ID), false, nil
	}
	if err := b.clear(ctx, p.Name); err != nil {
		return nil, false, err
	}
	b.at("before " + p.Name)
	if err := b.journal.Starting(p.Name); err != nil {
		return nil, false, err
	}
	b.at("announced " + p.Name)
	proc, err := process.Start(process.Command{Argv: spec.Argv, Env: spec.Env, Dir: b.Dir, Log: b.logPath(p.Name), Mark: b.Dir, Part: p.Name})
	if err != nil {
		return nil, false, fmt.Errorf("running %q: %w", spec.Argv[0], err)
	}
	b.at("running " + p.Name)
	b.change("")
	if err := b.journal.Started(p.Name, process.Entry{ID: proc.ID, Digest: digest}); err != nil {
		return nil, false, err
	}
	b.at("recorded " + p.Name)
	return proc.Ended, true, nil
}

// clear ends whatever is left of an earlier run of the part.
func (b *Box) clear(ctx context.Context, part string) error {
	left, err := process.Members(b.Dir, part)
	if err != nil {
		return err
	}
	if e, ok := b.journal.Entry(part); ok {
		left = append(left, e.ID)
	}
	return process.Stop(ctx, left, grace)
}

func (b *Box) logPath(part string) string { return filepath.Join(b.Dir, "logs", part+".log") }
