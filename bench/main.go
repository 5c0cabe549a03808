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
	"syscall"
)

func main() {
	only := flag.String("only", "", "the one `group` to run: chain")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) error {
	groups := map[string]func(context.Context) ([]row, error){"chain": chain}
	if only != "" && groups[only] == nil {
		return fmt.Errorf("choosing the group %q: there is no such group; there is chain", only)
	}
	for name, measure := range groups {
		if only != "" && only != name {
			continue
		}
		rows, err := measure(ctx)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", name, err)
		}
		for _, r := range rows {
			fmt.Printf("BENCH %s/%s\n", name, r)
		}
	}
	return nil
}
