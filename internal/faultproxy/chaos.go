package faultproxy

import (
	"fmt"
	"os"
	"testing"
)

// chaosVariable names the file that make chaos reads figures from. Where it is
// set, every trial is made; else a sample.
const chaosVariable = "SLIPWAY_CHAOS"

// Sample returns n, or 0 (all) under make chaos.
func Sample(n int) int {
	if os.Getenv(chaosVariable) != "" {
		return 0
	}
	return n
}

// Report fails the test for each miss, and writes the row's figure for make
// chaos. The misses are named in the test's log.
func Report(t testing.TB, row string, r Result, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the schedule could not be measured: %v", err)
	}
	for _, m := range r.Misses {
		t.Errorf("%s", m)
	}
	t.Logf("%s %d/%d; %d trials did not reach their call", row, r.Passed, r.Tried, r.Unreached)
	if r.Tried == 0 {
		t.Fatal("no trial reached its call")
	}
	file := os.Getenv(chaosVariable)
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "%s %d/%d\n", row, r.Passed, r.Tried)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
}
