package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gitlab.com/slipway/slipway/internal/scripttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"slipway-backup": main})
}

// TestScripts runs the program as its users do, one story a file.
func TestScripts(t *testing.T) { scripttest.Run(t, "testdata/script") }
