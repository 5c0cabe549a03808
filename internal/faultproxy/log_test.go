package faultproxy

import "testing"

// An answer that comes after a Reset is not written to another call.
func TestResetWhileACallFlies(t *testing.T) {
	var l Log
	first := l.arrive(Call{Action: "first"})
	l.Reset()
	l.arrive(Call{Action: "second"})
	l.answered(first, 503)
	if got := l.Calls(); len(got) != 1 || got[0] != (Call{Seq: 1, Action: "second"}) {
		t.Errorf("the log has %+v", got)
	}
}
