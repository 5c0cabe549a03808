// Slipway-bootstrap makes the accounts, the trust, the state backends and the
// audit trail of a landscape, and publishes its snapshot.
package main

import (
	"os"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/cmd"
)

// version is set by the linker in a release.
var version string

func main() {
	os.Exit(tool.Main(os.Args, os.Getenv, tool.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, version, cmd.Program()))
}
