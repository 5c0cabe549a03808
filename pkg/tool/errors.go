package tool

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The exit codes of every program. They are public interface: GitLab's
// allow_failure:exit_codes and retry:exit_codes read them. 2 stays free,
// because a Go panic exits with it.
const (
	OK          = 0   // done, and seen to be done
	Failed      = 1   // failed; nothing was changed
	Pending     = 3   // changes are pending
	Refused     = 4   // refused by a gate, a budget or a guard
	Restored    = 5   // failed, and the previous state was restored and verified
	Broken      = 6   // failed, and left broken or unknown: a person is needed
	Unproven    = 7   // the evidence is not good enough
	Held        = 8   // held by an owner that is alive
	Undecidable = 9   // it cannot be told who holds it
	Usage       = 64  // wrong usage or configuration
	Temporary   = 75  // temporary failure, worth a retry
	Denied      = 77  // not authorised
	Cancelled   = 130 // cancelled
)

// Error is an error with the exit code it ends the program with and hints of
// what to do next, a line each.
type Error struct {
	Code  int
	Err   error
	Hints []string
}

// Error returns the text of the cause, without the hints.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Exit gives err the exit code and hints. A nil err stays nil.
func Exit(code int, err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Err: err, Hints: hints}
}

// Exitf is Exit over fmt.Errorf, for an error without a hint.
func Exitf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// Hint adds hints to err and keeps its exit code. A nil err stays nil.
func Hint(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &Error{Code: CodeOf(err), Err: err, Hints: hints}
}

// coded is an error of another package that knows its own exit code. The
// method is not called ExitCode, since *exec.ExitError has one of that name,
// and a child's code must never become ours by accident.
type coded interface{ SlipwayExit() int }

// CodeOf returns the exit code err ends a program with.
func CodeOf(err error) int {
	var own *Error
	var other coded
	switch {
	case err == nil:
		return OK
	case errors.As(err, &own):
		return own.Code
	case errors.As(err, &other):
		return other.SlipwayExit()
	case errors.Is(err, context.Canceled):
		return Cancelled
	default:
		return Failed
	}
}

// HintsOf returns every hint along the chain of err, the outermost first.
func HintsOf(err error) []string {
	var hints []string
	for err != nil {
		var own *Error
		if !errors.As(err, &own) {
			break
		}
		hints = append(hints, own.Hints...)
		err = own.Err
	}
	return hints
}

// Problems collects every problem of an input, so that one run names them all.
type Problems struct{ list []string }

// Add notes a problem.
func (p *Problems) Add(format string, args ...any) {
	p.list = append(p.list, fmt.Sprintf(format, args...))
}

// Need notes a problem where the value of a flag is empty.
func (p *Problems) Need(value, flag string) {
	if value == "" {
		p.Add("missing --%s", flag)
	}
}

// Check notes a problem where ok is false.
func (p *Problems) Check(ok bool, format string, args ...any) {
	if !ok {
		p.Add(format, args...)
	}
}

// Err returns nil, or a usage error that lists all problems, a line each.
func (p *Problems) Err() error {
	switch len(p.list) {
	case 0:
		return nil
	case 1:
		return Exit(Usage, errors.New(p.list[0]))
	default:
		return Exit(Usage, fmt.Errorf("%d problems:\n  %s", len(p.list), strings.Join(p.list, "\n  ")))
	}
}

// Names are what the codes are called in reports and in the last line of a run.
var names = map[int]string{
	OK: "done", Failed: "failed, nothing changed", Pending: "changes pending", Refused: "refused",
	Restored: "failed, previous state restored", Broken: "failed, left broken or unknown",
	Unproven: "evidence not good enough", Held: "held by a live owner", Undecidable: "owner unknown",
	Usage: "wrong usage or configuration", Temporary: "temporary failure", Denied: "not authorised", Cancelled: "cancelled",
}

// Outcome returns the words for an exit code.
func Outcome(code int) string {
	if n, ok := names[code]; ok {
		return n
	}
	return "unknown"
}
