package gate_test

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
	"gitlab.com/slipway/slipway/tools/promote/internal/gate"
	"gitlab.com/slipway/slipway/tools/promote/internal/promotion"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

func TestEvaluate(t *testing.T) {
	hour := yamlfile.Duration(time.Hour)
	running := func(d time.Duration) map[string][]gate.Interval {
		return map[string][]gate.Interval{"dev": {{Since: ago(d), Source: "deployment 7"}}}
	}
	ended := func(d time.Duration) map[string][]gate.Interval {
		return map[string][]gate.Interval{"dev": {{Since: ago(48 * time.Hour), Until: ago(48 * time.Hour).Add(d), Source: "deployment 7"}}}
	}
	christmas := promotion.Freeze{From: "2026-11-23 12:30", To: "2026-11-24 06:00", Zone: "Europe/Warsaw", Reason: "holidays"} // 11:30 UTC on
	anna := gate.Person{Login: "anna", Email: "anna@example.com"}
	for name, c := range map[string]struct {
		s    gate.Subject
		want []string // "+gate" passed, "-gate" failed, and a part of the reason
	}{
		"first of the order": {gate.Subject{Target: "dev"}, []string{"+order|first"}},
		"in order":           {gate.Subject{Before: []string{"dev"}, Healthy: running(time.Minute)}, []string{"+order|deployment 7"}},
		"never there":        {gate.Subject{Before: []string{"dev"}}, []string{"-order|on record in dev"}},
		"one of two missing": {gate.Subject{Before: []string{"dev", "test"}, Healthy: running(time.Hour)}, []string{"-order|in test"}},
		"soaked":             {gate.Subject{Before: []string{"dev"}, Healthy: running(time.Hour), Gate: promotion.Gate{Healthy: hour}}, []string{"+order|", "+healthy|1h0m0s"}},
		"soaking":            {gate.Subject{Before: []string{"dev"}, Healthy: running(59 * time.Minute), Gate: promotion.Gate{Healthy: hour}}, []string{"+order|", "-healthy|1m0s to go, at 2026-11-23T12:01:00Z"}},
		"soaked, then newer": {gate.Subject{Before: []string{"dev"}, Healthy: ended(2 * time.Hour), Gate: promotion.Gate{Healthy: hour}}, []string{"+order|", "+healthy|2h0m0s"}},
		"newer came first":   {gate.Subject{Before: []string{"dev"}, Healthy: ended(5 * time.Minute), Gate: promotion.Gate{Healthy: hour}}, []string{"+order|", "-healthy|5m0s only"}},
		"no soak to be had":  {gate.Subject{Gate: promotion.Gate{Healthy: hour}}, []string{"+order|", "-healthy|no environment before"}},
		"frozen":             {gate.Subject{Gate: promotion.Gate{Freeze: []promotion.Freeze{christmas}}}, []string{"+order|", "-freeze|until 2026-11-24 06:00"}},
		"before the freeze":  {gate.Subject{Now: ago(time.Hour), Gate: promotion.Gate{Freeze: []promotion.Freeze{christmas}}}, []string{"+order|", "+freeze|"}},
		"freeze in no zone":  {gate.Subject{Gate: promotion.Gate{Freeze: []promotion.Freeze{{From: "x"}}}}, []string{"+order|", "-freeze|reading"}},
		"another's commit":   {gate.Subject{Actor: anna, Author: gate.Person{Name: "Bob", Email: "bob@example.com"}, Gate: notAuthor()}, []string{"+order|", "+actor|anna promotes what Bob wrote"}},
		"own commit":         {gate.Subject{Actor: anna, Author: gate.Person{Name: "A", Email: "Anna@example.com"}, Gate: notAuthor()}, []string{"+order|", "-actor|anna wrote"}},
		"own, private mail":  {gate.Subject{Actor: anna, Author: gate.Person{Name: "A", Email: "12-anna@users.noreply.gitlab.com"}, Gate: notAuthor()}, []string{"+order|", "-actor|anna wrote"}},
		"author unknown":     {gate.Subject{Actor: anna, Gate: notAuthor()}, []string{"+order|", "-actor|cannot be told"}},
		"actor unknown":      {gate.Subject{Actor: gate.Person{Login: "anna"}, Author: gate.Person{Email: "b@c"}, Gate: notAuthor()}, []string{"+order|", "-actor|cannot be told"}},
		"not evaluable": {gate.Subject{NeedsSafe: true, Gate: promotion.Gate{Rules: []string{"true"}, Require: []promotion.Requirement{{Name: "tests"}, {Name: "backup"}}}},
			[]string{"+order|", "-require tests|cannot evaluate", "-require backup|cannot evaluate", "-rule true|cannot evaluate", "-backupBefore|cannot evaluate"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.s.Now.IsZero() {
				c.s.Now = now
			}
			got := gate.Evaluate(c.s)
			if len(got) != len(c.want) {
				t.Fatalf("%d gates: %+v, want %d", len(got), got, len(c.want))
			}
			failed := 0
			for i, w := range c.want {
				head, reason, _ := strings.Cut(w, "|")
				if passed := head[0] == '+'; got[i].Passed != passed || !strings.HasPrefix(got[i].Gate, head[1:]) || !strings.Contains(got[i].Reason, reason) {
					t.Errorf("gate %d = %+v, want %s", i, got[i], w)
				}
				if head[0] == '-' {
					failed++
				}
			}
			if n := len(gate.Failed(got)); n != failed {
				t.Errorf("Failed names %d, want %d", n, failed)
			}
		})
	}
}

func notAuthor() promotion.Gate {
	return promotion.Gate{Actor: promotion.Actor{NotAuthor: true}}
}
