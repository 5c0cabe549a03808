package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gitlab.com/slipway/slipway/internal/scripttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"slipway-deploy": main})
}

func TestScripts(t *testing.T) {
	if _, err := os.Stat("testdata/script"); err != nil {
		t.Fatal(err)
	}
	scripttest.Run(t, "testdata/script")
}
