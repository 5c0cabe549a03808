// Command bench measures Slipway beside its peers. It prints, last, a line per
// row, and exits 0 whatever the figures: it fails only where it could not
// measure.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	only := flag.String("only", "", "the one `group` to run: chain, sandbox, deploy")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		stop()
		os.Exit(1)
	}
}

// groups of rows, in the order they are measured in.
var groups = []struct {
	name    string
	measure func(context.Context) ([]row, error)
}{{"chain", chain}, {"sandbox", sandbox}, {"deploy", deploy}}

func run(ctx context.Context, only string) error {
	var names, lines []string
	for _, g := range groups {
		names = append(names, g.name)
		if only != "" && only != g.name {
			continue
		}
		rows, err := g.measure(ctx)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", g.name, err)
		}
		for _, r := range rows {
			lines = append(lines, fmt.Sprintf("BENCH %s/%s", g.name, r))
		}
	}
	if only != "" && !slices.Contains(names, only) {
		return fmt.Errorf("choosing the group %q: there is no such group; there are %s", only, strings.Join(names, ", "))
	}
	fmt.Println(strings.Join(lines, "\n"))
	return nil
}
