package diff

import (
	"fmt"
	"html"
	"strings"
)

// Markdown returns the releases as a note for a merge request, of at most so
// many bytes: a table of everything that changes first, then the differences,
// as many as there is room for. What comes from the cluster is fenced or
// escaped, so that it can neither close the fence nor mention anybody.
func Markdown(releases []Release, limit int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d releases would change.\n\n", Pending(releases), len(releases))
	left := 0
	for _, part := range parts(releases) {
		if b.Len()+len(part)+len(rest(1e6)) > limit {
			left++
			continue
		}
		b.WriteString(part)
	}
	if left > 0 {
		b.WriteString(rest(left))
	}
	return b.String()
}

func rest(n int) string {
	return fmt.Sprintf("\n%d more parts are left out here for their size; the job's log and its report have them.\n", n)
}

// parts are the pieces of a note, the most telling first.
func parts(releases []Release) []string {
	var out, details []string
	for _, r := range releases {
		head := fmt.Sprintf("**%s** in `%s`: %s\n\n", escape(r.Release), code(r.Namespace), escape(summary(r)))
		for _, p := range r.Problems {
			level := "Problem"
			if p.Warning {
				level = "Warning"
			}
			head += fmt.Sprintf("- %s: %s\n", level, escape(p.String()))
		}
		out = append(out, head+"\n")
		for _, ch := range r.Objects {
			details = append(details, detail(title(ch), ch.Diff))
		}
		for _, ch := range r.Hooks {
			details = append(details, detail("hook: "+title(ch), ch.Diff))
		}
	}
	return append(out, details...)
}

func detail(title, diff string) string {
	fence := "```"
	for strings.Contains(diff, fence) {
		fence += "`"
	}
	return fmt.Sprintf("<details><summary>%s</summary>\n\n%sdiff\n%s\n%s\n\n</details>\n\n", escape(title), fence, strings.TrimRight(diff, "\n"), fence)
}

// escape makes a text plain in Markdown: no markup, no mention, no reference.
func escape(text string) string {
	var b strings.Builder
	for _, r := range html.EscapeString(strings.ReplaceAll(text, "\n", " ")) {
		if strings.ContainsRune("\\`*_{}[]()#+!|~$%@:/", r) {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func code(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '`' || r == '\n' {
			return -1
		}
		return r
	}, text)
}
