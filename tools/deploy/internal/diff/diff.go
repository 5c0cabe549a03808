// Package diff shows what a release would change, as text for people, as data,
// and as Markdown for a note on a merge request.
package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"sigs.k8s.io/yaml"

	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Release is what one release would change.
type Release struct {
	Release   string                `json:"release"`
	Namespace string                `json:"namespace"`
	Changed   bool                  `json:"changed"` // there would be a new revision
	Objects   []Change              `json:"objects,omitempty"`
	Hooks     []Change              `json:"hooks,omitempty"` // whose templates change
	Problems  []helmrelease.Problem `json:"problems,omitempty"`
}

// Change is what would become of one object.
type Change struct {
	Object  string `json:"object"`
	Source  string `json:"source,omitempty"` // the template
	Action  string `json:"action"`           // create | update | delete | keep
	Checked bool   `json:"checked"`          // the server has tried it
	Diff    string `json:"diff,omitempty"`
}

// Of compares what is live with what a plan would make of it.
func Of(p *helmrelease.Plan) (Release, error) {
	r := Release{Release: p.Spec.Name, Namespace: p.Spec.Namespace, Changed: !p.Unchanged(), Problems: p.Problems}
	for _, ch := range p.Changes() {
		if ch.Action == helmrelease.None {
			continue
		}
		text, err := unified(ch)
		if err != nil {
			return r, fmt.Errorf("comparing %s: %w", ch.Object, err)
		}
		one := Change{Object: ch.Object, Source: ch.Source, Action: ch.Action, Checked: ch.Checked, Diff: joblog.Clean(text)}
		if ch.Hook {
			r.Hooks = append(r.Hooks, one)
		} else {
			r.Objects = append(r.Objects, one)
		}
	}
	return r, nil
}

func unified(ch helmrelease.Change) (string, error) {
	before, err := document(ch.Before)
	if err != nil {
		return "", err
	}
	after, err := document(ch.After)
	if err != nil {
		return "", err
	}
	from, to := "live", "released"
	if ch.Hook {
		from, to = "stored", "rendered"
	}
	return difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: before, B: after, FromFile: from, ToFile: to, Context: 3})
}

// document returns the lines of an object, none where there is no object.
func document(o map[string]any) ([]string, error) {
	if o == nil {
		return nil, nil
	}
	raw, err := yaml.Marshal(o)
	return slices.Collect(strings.Lines(string(raw))), err
}

// Pending counts the releases that would change.
func Pending(releases []Release) int {
	n := 0
	for _, r := range releases {
		if r.Changed {
			n++
		}
	}
	return n
}

// Text returns the releases as people read them.
func Text(releases []Release, colour bool) string {
	paint := func(code, text string) string {
		if !colour || text == "" {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	var b strings.Builder
	for _, r := range releases {
		if !r.Changed && len(r.Problems) == 0 {
			fmt.Fprintf(&b, "%s: no changes\n", r.Release)
			continue
		}
		fmt.Fprintln(&b, paint("1", r.Release+": "+summary(r)))
		for _, p := range r.Problems {
			level, code := "problem", "31"
			if p.Warning {
				level, code = "warning", "33"
			}
			fmt.Fprintln(&b, paint(code, level+": "+joblog.Clean(p.String())))
		}
		for _, ch := range r.Objects {
			fmt.Fprintf(&b, "\n%s\n%s", paint("1", title(ch)), lines(ch.Diff, paint))
		}
		for _, ch := range r.Hooks {
			fmt.Fprintf(&b, "\n%s\n%s", paint("1", "hook: "+title(ch)), lines(ch.Diff, paint))
		}
	}
	return b.String()
}

func lines(text string, paint func(code, text string) string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "+"):
			line = paint("32", line)
		case strings.HasPrefix(line, "-"):
			line = paint("31", line)
		case strings.HasPrefix(line, "@@"):
			line = paint("36", line)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

func title(ch Change) string {
	t := ch.Action + " " + ch.Object
	if ch.Action == helmrelease.Keep {
		t = ch.Object + " leaves the release and stays in the cluster"
	}
	if ch.Source != "" {
		t += " (" + ch.Source + ")"
	}
	return t
}

func summary(r Release) string {
	count := map[string]int{}
	for _, ch := range r.Objects {
		count[ch.Action]++
	}
	var parts []string
	for _, one := range []struct{ action, words string }{{helmrelease.Create, "%d to create"}, {helmrelease.Update, "%d to update"},
		{helmrelease.Delete, "%d to delete"}, {helmrelease.Keep, "%d to let go of"}} {
		if n := count[one.action]; n > 0 {
			parts = append(parts, fmt.Sprintf(one.words, n))
		}
	}
	if n := len(r.Hooks); n > 0 {
		parts = append(parts, fmt.Sprintf("%d hooks differ", n))
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, ", ")
	case r.Changed:
		return "a new revision, with no change to an object"
	}
	return "no changes"
}
