package awsfront

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Duration is a duration that JSON writes like Go: 1m30s.
type Duration time.Duration

// MarshalText returns the duration's text.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration that is not negative.
func (d *Duration) UnmarshalText(raw []byte) error {
	v, err := time.ParseDuration(string(raw))
	if err == nil && v < 0 {
		err = fmt.Errorf("the duration %q is negative", raw)
	}
	*d = Duration(v)
	return err
}

// Settings are how this AWS behaves beside granting and refusing. The zero
// value is an AWS that is quick, knows at once, and never has too much.
type Settings struct {
	// Throttle refuses calls beyond AWS's rates.
	Throttle bool `json:"throttle"`
	// Propagation is how long IAM needs until a write to a role or a user
	// counts: the entity cannot be used, or has the rights it had before.
	Propagation Duration `json:"propagation"`
	// AccountCreation is how long an account stays IN_PROGRESS.
	AccountCreation Duration `json:"accountCreation"`
	// AccountEntry is how long a new account refuses its first visitor.
	AccountEntry Duration `json:"accountEntry"`
	// AccountFailures are the reasons for which the creations of accounts fail,
	// by e-mail address in lower case, in this order; then they succeed.
	AccountFailures map[string][]string `json:"accountFailures,omitempty"`
}

// settings guards the Settings.
type settings struct {
	mu    sync.Mutex
	value Settings
}

func (s *settings) get() Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.value
	out.AccountFailures = maps.Clone(out.AccountFailures)
	return out
}

func (s *settings) put(v Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = v
	s.value.AccountFailures = maps.Clone(v.AccountFailures) // the caller's may be read while reasons are taken
}

// nextFailure takes the next reason for which the creation of an account with
// this address fails, "" for none.
func (s *settings) nextFailure(email string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	email = strings.ToLower(email)
	reasons := s.value.AccountFailures[email]
	if len(reasons) == 0 {
		return ""
	}
	s.value.AccountFailures[email] = reasons[1:]
	return reasons[0]
}

// Kinds of faults.
const (
	faultError       = "error"        // the service answers an error; nothing is done
	faultDelay       = "delay"        // the answer takes its time
	faultLostReply   = "lost-reply"   // the call is done, the connection ends without an answer
	faultLostRequest = "lost-request" // the connection ends, nothing is done
)

// Fault is something that goes wrong with calls of an action.
type Fault struct {
	ID      int      `json:"id"`
	Service string   `json:"service"`           // * matches anything, in each of the three
	Action  string   `json:"action"`            //
	Account string   `json:"account,omitempty"` // the caller's; "": any
	Kind    string   `json:"kind"`
	Code    string   `json:"code,omitempty"`    // of an error; "": as if the rate were exceeded
	Status  int      `json:"status,omitempty"`  // of an error; 0: 400
	Message string   `json:"message,omitempty"` //
	Delay   Duration `json:"delay,omitempty"`
	Skip    int      `json:"skip,omitempty"`  // calls that go well first
	Times   int      `json:"times,omitempty"` // calls that go wrong then; 0: all
	Seen    int      `json:"seen"`            // calls that matched
	Hits    int      `json:"hits"`            // calls that went wrong
}

func (x Fault) check() error {
	switch {
	case x.Service == "" || x.Action == "":
		return errors.New("reading the fault: service and action are needed; * is any")
	case !slices.Contains([]string{faultError, faultDelay, faultLostReply, faultLostRequest}, x.Kind):
		return fmt.Errorf("reading the fault: the kind %q is none of error, delay, lost-reply, lost-request", x.Kind)
	case x.Kind == faultDelay && x.Delay <= 0:
		return errors.New("reading the fault: a delay is needed")
	case x.Skip < 0 || x.Times < 0 || x.Status != 0 && (x.Status < 400 || x.Status > 599):
		return errors.New("reading the fault: skip and times are not negative, and the status is an error's")
	}
	return nil
}

// faults are those that were asked for.
type faults struct {
	mu   sync.Mutex
	next int
	list []*Fault
}

const maxFaults = 1000

func (x *faults) add(fault Fault) (Fault, error) {
	if err := fault.check(); err != nil {
		return fault, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.list) >= maxFaults {
		return fault, fmt.Errorf("adding the fault: there are %d already", maxFaults)
	}
	x.next++
	fault.ID, fault.Seen, fault.Hits = x.next, 0, 0
	x.list = append(x.list, &fault)
	return fault, nil
}

func (x *faults) all() []Fault {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := []Fault{}
	for _, fault := range x.list {
		out = append(out, *fault)
	}
	return out
}

func (x *faults) clear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = nil
}

// strike returns the first fault whose turn it is with this call.
func (x *faults) strike(c *call) (Fault, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var struck *Fault
	for _, fault := range x.list {
		if !wildcard(fault.Service, c.service) || !wildcard(fault.Action, c.action) || fault.Account != "" && !wildcard(fault.Account, c.caller.Account) {
			continue
		}
		fault.Seen++
		turn := fault.Seen - fault.Skip
		if struck == nil && turn > 0 && (fault.Times == 0 || turn <= fault.Times) {
			fault.Hits++
			struck = fault
		}
	}
	if struck == nil {
		return Fault{}, false
	}
	return *struck, true
}

// answer is the error of a fault.
func (x Fault) answer(service string) *apiError {
	if x.Code == "" {
		return throttled(service)
	}
	status := x.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	return refuse(status, x.Code, "%s", x.Message)
}

// nowhere takes the answer of a call whose reply is lost.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) WriteHeader(int)             {}
func (n nowhere) Flush()                      {}
