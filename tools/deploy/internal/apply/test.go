package apply

import (
	"context"
	"fmt"
	"slices"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Tested is how the tests of a release ended.
type Tested struct {
	Release   string     `json:"release"`
	Namespace string     `json:"namespace"`
	Revision  int        `json:"revision"`
	Tests     []TestCase `json:"tests"`
}

// TestCase is one test: passed, failed, or skipped since one before it failed.
type TestCase struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

// Test runs the tests of the chart that is deployed. Each is a step of the
// report, and so a case of its JUnit file.
func Test(ctx context.Context, d Deps, r Request, step Stepper) (Tested, error) {
	j := existing(d, r)
	out := Tested{Release: r.Name, Namespace: r.Namespace, Tests: []TestCase{}}
	err := j.hold(ctx, step, "testing", func(ctx context.Context) error {
		last := j.before.Last
		if last == nil || last.Status != Deployed {
			return tool.Exit(tool.Failed, fmt.Errorf("testing %q: it is not deployed", r.Name), "slipway-deploy status says in which state it is")
		}
		out.Revision = last.Number
		tests, err := j.client.Tests(ctx, r.Namespace, r.Name, last.Number)
		if err != nil || len(tests) == 0 {
			return err
		}
		o, err := j.client.Test(ctx, r.Namespace, r.Name, j.wait(), func(name string) func(error) {
			done := d.Run.Report.Step("test " + name)
			d.Run.Log.Printf("%s: test %s", r.Name, name)
			return func(err error) {
				done(err)
				c := TestCase{Name: name, Status: "passed"}
				if err != nil {
					c.Status, c.Message = "failed", err.Error()
				}
				out.Tests = append(out.Tests, c)
			}
		})
		j.evidence(ctx, o, err)
		for _, name := range tests {
			if !slices.ContainsFunc(out.Tests, func(c TestCase) bool { return c.Name == name }) {
				d.Run.Report.Skip("test "+name, "one before it failed")
				out.Tests = append(out.Tests, TestCase{Name: name, Status: "skipped", Message: "one before it failed"})
			}
		}
		return err
	})
	return out, err
}

// Text lists the tests.
func (t Tested) Text() string {
	if len(t.Tests) == 0 {
		return fmt.Sprintf("%s: the chart of revision %d has no tests", t.Release, t.Revision)
	}
	text := fmt.Sprintf("%s: %d tests of revision %d", t.Release, len(t.Tests), t.Revision)
	for _, c := range t.Tests {
		text += fmt.Sprintf("\n%-8s %s", c.Status, c.Name)
		if c.Message != "" {
			text += ": " + c.Message
		}
	}
	return text
}
