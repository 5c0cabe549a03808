// Slipway-deploy puts Helm releases into clusters, says why one is not ready,
// and puts things back.
package main

import (
	"os"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/cmd"
)

// version is set by the linker in a release.
var version string

func main() {
	os.Exit(tool.Main(os.Args, os.Getenv, tool.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, version, cmd.Program()))
}
