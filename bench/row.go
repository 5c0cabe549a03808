package main

import "fmt"

// row is one figure. Seconds are wall clock.
type row struct {
	name  string
	ours  float64
	peer  float64 // 0 where there is none
	limit float64 // of the ratio where there is a peer, else of ours
}

// String returns the row in the form every benchmark of the repository uses.
func (r row) String() string {
	if r.peer == 0 {
		return fmt.Sprintf("%s ours=%.3f peer=- ratio=- target=ours<=%g %s", r.name, r.ours, r.limit, verdict(r.ours <= r.limit))
	}
	ratio := r.ours / r.peer
	return fmt.Sprintf("%s ours=%.3f peer=%.3f ratio=%.2f target=ratio<=%g %s", r.name, r.ours, r.peer, ratio, r.limit, verdict(ratio <= r.limit))
}

func verdict(reached bool) string {
	if reached {
		return "ok"
	}
	return "short"
}
