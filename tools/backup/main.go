// Slipway-backup makes Velero backups, reads them back, and drills the
// recovery from them.
package main

import (
	"os"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/cmd"
)

// version is set by the linker in a release.
var version string

func main() {
	os.Exit(tool.Main(os.Args, os.Getenv, tool.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, version, cmd.Program()))
}
