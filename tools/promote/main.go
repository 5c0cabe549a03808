// Slipway-promote moves a release bundle from environment to environment,
// through gates, and keeps the record of it.
package main

import (
	"os"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/cmd"
)

// version is set by the linker in a release.
var version string

func main() {
	os.Exit(tool.Main(os.Args, os.Getenv, tool.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, version, cmd.Program()))
}
