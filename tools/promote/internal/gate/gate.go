// Package gate decides whether a bundle may go on. It is pure: the clock, the
// records and the people are handed in, and a gate that it cannot evaluate is
// failed, never passed.
package gate

import (
	"fmt"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/tools/promote/internal/promotion"
)

// Result is what one gate said.
type Result struct {
	Gate   string `json:"gate"`
	Passed bool   `json:"passed"`
	Reason string `json:"reason"`
}

// Interval is a time in which a bundle ran in an environment and was healthy.
// A zero Until means that it still does.
type Interval struct {
	Since, Until time.Time
	Source       string // what says so
}

// Subject is what the gates are asked about.
type Subject struct {
	Now       time.Time
	Target    string
	Gate      promotion.Gate
	Before    []string              // environments the bundle must have been in
	Healthy   map[string][]Interval // by environment of Before
	Actor     Person
	Author    Person
	NeedsSafe bool // the landscape wants a backup before a deployment to the target
}

// Person is somebody as GitLab or git names them. Empty fields are not known.
type Person struct{ Login, Name, Email string }

// Evaluate asks every gate of the target, and all of them whatever the first
// ones say.
func Evaluate(s Subject) []Result {
	results := []Result{order(s)}
	if s.Gate.Healthy > 0 {
		results = append(results, healthy(s))
	}
	for _, f := range s.Gate.Freeze {
		results = append(results, freeze(f, s.Now))
	}
	if s.Gate.Actor.NotAuthor {
		results = append(results, notAuthor(s.Actor, s.Author))
	}
	for _, r := range s.Gate.Require {
		results = append(results, unknown("require "+r.Name))
	}
	for _, r := range s.Gate.Rules {
		results = append(results, unknown("rule "+r))
	}
	if s.NeedsSafe {
		results = append(results, unknown("backupBefore"))
	}
	return results
}

// Failed returns the gates that did not pass, a line each.
func Failed(results []Result) []string {
	var out []string
	for _, r := range results {
		if !r.Passed {
			out = append(out, r.Gate+": "+r.Reason)
		}
	}
	return out
}

// CannotEvaluate is the reason of a gate that this version has no means to
// evaluate.
const CannotEvaluate = "this version of slipway-promote cannot evaluate it, so it does not pass"

// unknown fails a gate that this version has no means to evaluate: a gate that
// somebody wrote down must never pass because nobody looked.
func unknown(gate string) Result {
	return Result{gate, false, CannotEvaluate}
}

func order(s Subject) Result {
	const name = "order"
	if len(s.Before) == 0 {
		return Result{name, true, fmt.Sprintf("%s is the first environment of the service", s.Target)}
	}
	var seen, missing []string
	for _, env := range s.Before {
		if list := s.Healthy[env]; len(list) > 0 {
			seen = append(seen, fmt.Sprintf("was deployed to %s at %s (%s)", env, stamp(list[0].Since), list[0].Source))
		} else {
			missing = append(missing, env)
		}
	}
	if len(missing) > 0 {
		return Result{name, false, "no successful deployment of this bundle is on record in " + strings.Join(missing, ", ")}
	}
	return Result{name, true, strings.Join(seen, "; ")}
}

// healthy wants the bundle to have run for the time in every environment
// before. A newer bundle there ends the time, but does not undo it.
func healthy(s Subject) Result {
	need := s.Gate.Healthy.Std()
	name := "healthy " + need.String()
	if len(s.Before) == 0 {
		return Result{name, false, fmt.Sprintf("%s has no environment before it", s.Target)}
	}
	var reasons []string
	passed := true
	for _, env := range s.Before {
		best, open := longest(s.Healthy[env], s.Now)
		switch {
		case best >= need:
			reasons = append(reasons, fmt.Sprintf("was healthy in %s for %s", env, best.Round(time.Second)))
		case len(s.Healthy[env]) == 0:
			passed = false
			reasons = append(reasons, fmt.Sprintf("was never healthy in %s", env))
		case open:
			passed = false
			reasons = append(reasons, fmt.Sprintf("is healthy in %s for %s so far: %s to go, at %s", env, best.Round(time.Second), (need-best).Round(time.Second), stamp(s.Now.Add(need-best))))
		default:
			passed = false
			reasons = append(reasons, fmt.Sprintf("was healthy in %s for %s only, and no longer runs there", env, best.Round(time.Second)))
		}
	}
	return Result{name, passed, strings.Join(reasons, "; ")}
}

// longest returns the longest time, preferring one that still runs where that
// can get there.
func longest(list []Interval, now time.Time) (best time.Duration, open bool) {
	for _, i := range list {
		end := i.Until
		if end.IsZero() {
			end, open = now, true
		}
		best = max(best, end.Sub(i.Since))
	}
	return best, open
}

func freeze(f promotion.Freeze, now time.Time) Result {
	name := "freeze " + f.Reason
	from, to, err := f.Window()
	switch {
	case err != nil:
		return Result{name, false, err.Error()}
	case now.Before(from) || !now.Before(to):
		return Result{name, true, fmt.Sprintf("now is outside of %s to %s (%s)", f.From, f.To, f.Zone)}
	}
	return Result{name, false, fmt.Sprintf("nothing is promoted until %s (%s)", f.To, f.Zone)}
}

// notAuthor wants somebody else than the commit's author to press the button.
// Git knows people by e-mail, GitLab's token by login and e-mail: without both
// e-mails it cannot be told.
func notAuthor(actor, author Person) Result {
	const name = "actor.notAuthor"
	switch {
	case actor.Login == "" || actor.Email == "":
		return Result{name, false, "it cannot be told who promotes: the ID token names no user and e-mail"}
	case author.Email == "":
		return Result{name, false, "it cannot be told who wrote the commit"}
	case strings.EqualFold(actor.Email, author.Email), strings.EqualFold(actor.Login, author.Name), noreply(author.Email) == strings.ToLower(actor.Login):
		return Result{name, false, fmt.Sprintf("%s wrote the commit and cannot promote it", actor.Login)}
	}
	return Result{name, true, fmt.Sprintf("%s promotes what %s wrote", actor.Login, author.Name)}
}

// noreply returns the login in GitLab's private commit address,
// 123-login@users.noreply.gitlab.example.com.
func noreply(email string) string {
	local, host, _ := strings.Cut(strings.ToLower(email), "@")
	_, login, ok := strings.Cut(local, "-")
	if !ok || !strings.HasPrefix(host, "users.noreply.") {
		return ""
	}
	return login
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
