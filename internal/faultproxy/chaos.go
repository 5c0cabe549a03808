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
// chaos. The misses are named in the test's log. A trial that did not reach its
// call is none that passed: its point was not tried.
func Report(t testing.TB, row string, r Result, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the schedule could not be measured: %v", err)
	}
	for _, m := range r.Misses {
		t.Errorf("%s", m)
	}
	all := r.Tried + r.Unreached
	t.Logf("%s %d/%d", row, r.Passed, all)
	if r.Tried == 0 {
		t.Fatal("no trial reached its call")
	}
	if r.Unreached > 0 {
		t.Errorf("%d of %d trials did not reach their call: what the program does by the clock is no point (Schedule.Is)", r.Unreached, all)
	}
	file := os.Getenv(chaosVariable)
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "%s %d/%d\n", row, r.Passed, all)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
}
