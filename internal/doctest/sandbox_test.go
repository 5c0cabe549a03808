package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSandboxPageNamesRealTests holds the last column of the table in
// docs/sandbox.md to the tests that exist: `folder` TestA, TestB; `folder` TestC.
func TestSandboxPageNamesRealTests(t *testing.T) {
	raw, err := os.ReadFile("../../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(raw), "## Who says no")
	if !found {
		t.Fatal("the page has no section \"Who says no\"")
	}
	named := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(strings.TrimSpace(cells[0]), "-") || strings.TrimSpace(cells[0]) == "part" {
			continue
		}
		folder := ""
		for _, word := range regexp.MustCompile("`[^`]+`|Test\\w+").FindAllString(cells[2], -1) {
			if strings.HasPrefix(word, "`") {
				folder = strings.Trim(word, "`")
				continue
			}
			named++
			if !hasTest(t, folder, word) {
				t.Errorf("docs/sandbox.md: %q has no test %s", folder, word)
			}
		}
	}
	if named < 20 {
		t.Errorf("the table names %d tests: it was not read", named)
	}
}

// hasTest says whether a package's test files declare the test.
func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}
