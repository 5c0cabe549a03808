// Command chaos kills what Slipway runs, at every point where that can hurt,
// and counts how often the next run puts things right. It prints, last, a line
// per row, and exits 0 whatever the figures: it fails only where it could not
// measure.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// row is one figure of an area. What was missed is in the area's output.
type row struct {
	name          string
	passed, tried int
}

// area measures its rows in a repository whose root is given. What it says on
// the way goes to stderr.
type area struct {
	name    string
	measure func(ctx context.Context, root string) ([]row, error)
}

// areas in the order they are measured in; each has a file of its own.
var areas = []area{{"bootstrap", programs("bootstrap")}, {"deploy", programs("deploy")}, {"promote", programs("promote")}, {"backup", programs("backup")}}

func main() {
	only := flag.String("only", "", "the one `area` to run: "+strings.Join(names(), ", "))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: error:", err)
		stop()
		os.Exit(1)
	}
}

func names() []string {
	var all []string
	for _, a := range areas {
		all = append(all, a.name)
	}
	return all
}

func run(ctx context.Context, only string) error {
	if only != "" && !slices.Contains(names(), only) {
		return fmt.Errorf("choosing the area %q: there is no such area; there are %s", only, strings.Join(names(), ", "))
	}
	root, err := filepath.Abs("..")
	if err != nil {
		return fmt.Errorf("finding the repository: %w", err)
	}
	var lines []string
	for _, a := range areas {
		if only != "" && only != a.name {
			continue
		}
		rows, err := a.measure(ctx, root)
		if err != nil {
			return fmt.Errorf("measuring %q: %w", a.name, err)
		}
		for _, r := range rows {
			lines = append(lines, line(a.name, r))
		}
	}
	fmt.Println(strings.Join(lines, "\n"))
	return nil
}

func line(area string, r row) string {
	return fmt.Sprintf("CHAOS %s/%s %d/%d", area, r.name, r.passed, r.tried)
}
