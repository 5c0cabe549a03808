package yamlfile

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is one thing wrong with a file: where it is, and what would be right.
type Problem struct {
	File         string `json:"file"`
	Line, Column int
	Path         string `json:"path"` // field path, such as releases[1].needs[0]
	Message      string `json:"message"`
	Right        string `json:"right,omitempty"` // what would be right
}

// String returns the problem as a line: file:line:column: path: message (right).
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		fmt.Fprintf(&b, "%s: ", p.Path)
	}
	b.WriteString(p.Message)
	if p.Right != "" {
		fmt.Fprintf(&b, "; %s", p.Right)
	}
	return b.String()
}

// Problems is all that is wrong with an input. It ends a program with 64.
type Problems []Problem

// Error returns the problems, a line each, in the order of the file.
func (p Problems) Error() string {
	sorted := append(Problems{}, p...)
	sort.SliceStable(sorted, func(i, j int) bool {
		a, b := sorted[i], sorted[j]
		if a.File != b.File {
			return a.File < b.File
		}
		return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
	})
	lines := make([]string, len(sorted))
	for i, x := range sorted {
		lines[i] = x.String()
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return fmt.Sprintf("%d problems:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

// SlipwayExit returns the exit code of wrong configuration.
func (p Problems) SlipwayExit() int { return 64 }

// Err returns the problems as an error, or nil where there is none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// suggest returns "did you mean …", or a list of what there is.
func suggest(got string, have []string) string {
	best, score := "", 3
	for _, h := range have {
		if d := distance(strings.ToLower(got), strings.ToLower(h)); d < score {
			best, score = h, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	sort.Strings(have)
	return "known are " + strings.Join(have, ", ")
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j+1]+1, cur[j]+1, prev[j]+cost)
		}
		prev = cur
	}
	return prev[len(b)]
}
