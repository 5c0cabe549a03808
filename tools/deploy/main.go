// Slipway-deploy puts Helm releases into clusters, says why one is not ready,
// and puts things back.
package main

import (
	"os"
	"runtime/debug"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/cmd"
)

// version is set by the linker in a release.
var version string

func main() {
	if os.Getenv("GOGC") == "" {
		// A run is short and small: it need not look for garbage twice as often as
		// its memory (bench: memory-120-mb) asks for.
		debug.SetGCPercent(300)
	}
	os.Exit(tool.Main(os.Args, os.Getenv, tool.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, version, cmd.Program()))
}
