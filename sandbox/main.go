// Command sandbox runs the parts that Slipway works on, on one machine:
// Kubernetes, AWS, GitLab, an object store, Velero and a registry.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"gitlab.com/slipway/slipway/pkg/tool"

	"gitlab.com/slipway/slipway/sandbox/internal/command"
	"gitlab.com/slipway/slipway/sandbox/internal/netpolicy"
)

func main() {
	if filepath.Base(os.Args[0]) == netpolicy.PluginName { // called by containerd
		os.Exit(netpolicy.Plugin())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := &command.Program{Env: os.Getenv, Out: os.Stdout, Err: os.Stderr}
	err := p.Run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "sandbox: error: %v\n", err)
		for _, h := range tool.HintsOf(err) {
			fmt.Fprintf(os.Stderr, "hint: %s\n", h)
		}
	}
	os.Exit(tool.CodeOf(err))
}
