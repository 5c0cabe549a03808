package faultproxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"sync"
)

// Match chooses calls. Empty fields choose all; patterns are regular
// expressions that the whole value must match.
type Match struct {
	Method   string
	Path     string
	Host     string
	Header   map[string]string // name to pattern
	Action   string            // as Call.Action
	Mutating bool              // mutating calls alone

	// Of the calls that all this matches:
	Nth         int     // the n-th alone, from 1; 0 is every one
	Times       int     // the first so many; 0 is every one
	Probability float64 // by chance, drawn from the seed; 0 is always
}

// Rule is what happens to the calls that match. Of several rules the first one
// decides; each counts its own matches, whatever the others did.
type Rule struct {
	Match Match
	Fault Fault
}

// rules decide by (rules, seed) and the order of the calls alone.
type rules struct {
	seed uint64
	mu   sync.Mutex
	all  []*rule
}

type rule struct {
	Rule
	method, path, host, action *regexp.Regexp
	header                     map[string]*regexp.Regexp
	seen                       int
}

// compile reads the patterns, and names every one that is wrong.
func compile(list []Rule, seed uint64) (*rules, error) {
	out := &rules{seed: seed}
	var problems []error
	for i, one := range list {
		pattern := func(field, text string) *regexp.Regexp {
			re, err := regexp.Compile(`^(?:` + text + `)$`)
			if err != nil {
				problems = append(problems, fmt.Errorf("rule %d: %s: %w", i+1, field, err))
			}
			return re
		}
		m := one.Match
		r := &rule{Rule: one, header: map[string]*regexp.Regexp{}}
		for _, p := range []struct {
			field, text string
			to          **regexp.Regexp
		}{{"method", m.Method, &r.method}, {"path", m.Path, &r.path}, {"host", m.Host, &r.host}, {"action", m.Action, &r.action}} {
			if p.text != "" {
				*p.to = pattern(p.field, p.text)
			}
		}
		for name, text := range m.Header {
			r.header[name] = pattern("header "+name, text)
		}
		if m.Nth < 0 || m.Times < 0 || m.Probability < 0 || m.Probability > 1 {
			problems = append(problems, fmt.Errorf("rule %d: nth %d and times %d must not be negative, and probability %g is from 0 to 1", i+1, m.Nth, m.Times, m.Probability))
		}
		if f := one.Fault; f.kind == status && (f.code < http.StatusInternalServerError || f.code > http.StatusGatewayTimeout) {
			problems = append(problems, fmt.Errorf("rule %d: status %d is not from 500 to 504", i+1, f.code))
		}
		if one.Fault.kind == none {
			problems = append(problems, fmt.Errorf("rule %d: it has no fault", i+1))
		}
		out.all = append(out.all, r)
	}
	return out, errors.Join(problems...)
}

// pick returns the fault of the first rule that takes the call, or none.
func (rs *rules) pick(c Call, r *http.Request) Fault {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var picked Fault
	for i, one := range rs.all {
		if one.matches(c, r) && one.takes(rs.seed, i) && picked.kind == none {
			picked = one.Fault
		}
	}
	return picked
}

func (r *rule) matches(c Call, req *http.Request) bool {
	if r.Match.Mutating && !c.Mutates {
		return false
	}
	for _, p := range []struct {
		re   *regexp.Regexp
		text string
	}{{r.method, c.Method}, {r.path, c.Path}, {r.host, c.Host}, {r.action, c.Action}} {
		if p.re != nil && !p.re.MatchString(p.text) {
			return false
		}
	}
	for name, re := range r.header {
		if !re.MatchString(req.Header.Get(name)) {
			return false
		}
	}
	return true
}

// takes counts a match and says whether it is one of those the rule is for.
func (r *rule) takes(seed uint64, index int) bool {
	r.seen++
	m := r.Match
	if m.Nth > 0 && r.seen != m.Nth || m.Times > 0 && r.seen > m.Times {
		return false
	}
	if m.Probability == 0 {
		return true
	}
	// A number of its own for each (seed, rule, match): what the other rules
	// draw changes nothing here.
	draw := rand.New(rand.NewPCG(seed, uint64(index)<<32|uint64(r.seen))) //nolint:gosec // repeatable is what it must be
	return draw.Float64() < m.Probability
}
