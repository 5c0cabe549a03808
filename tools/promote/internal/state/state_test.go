package state_test

import (
	"testing"
	"time"

	"gitlab.com/slipway/slipway/tools/promote/internal/gate"
	"gitlab.com/slipway/slipway/tools/promote/internal/state"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

func TestIntervals(t *testing.T) {
	o := func(minute int, bundle, status string) state.Observed {
		return state.Observed{Bundle: bundle, Status: status, Since: at(minute)}
	}
	for name, c := range map[string]struct {
		newest []state.Observed
		want   []gate.Interval
	}{
		"never":                {[]state.Observed{o(1, "b", "deployed")}, nil},
		"runs":                 {[]state.Observed{o(1, "a", "deployed")}, []gate.Interval{{Since: at(1)}}},
		"was deployed again":   {[]state.Observed{o(5, "a", "deployed"), o(1, "a", "deployed")}, []gate.Interval{{Since: at(1)}}},
		"was replaced":         {[]state.Observed{o(5, "b", "deployed"), o(1, "a", "deployed")}, []gate.Interval{{Since: at(1), Until: at(5)}}},
		"next was restored":    {[]state.Observed{o(5, "a", "restored"), o(1, "a", "deployed")}, []gate.Interval{{Since: at(1)}}},
		"only restored":        {[]state.Observed{o(5, "a", "restored")}, nil},
		"next changed nothing": {[]state.Observed{o(1, "a", "failed"), o(1, "a", "deployed")}, []gate.Interval{{Since: at(1)}}},
		"left broken":          {[]state.Observed{o(5, "", "failed"), o(1, "a", "deployed")}, []gate.Interval{{Since: at(1), Until: at(5)}}},
		"broken, and no more":  {[]state.Observed{o(1, "a", "failed"), o(5, "", "failed"), o(1, "a", "deployed")}, []gate.Interval{{Since: at(1), Until: at(5)}}},
		"replaced for good":    {[]state.Observed{o(5, "b", "failed"), o(5, "b", "deployed"), o(1, "a", "deployed")}, []gate.Interval{{Since: at(1), Until: at(5)}}},
		"came back":            {[]state.Observed{o(9, "a", "deployed"), o(5, "b", "deployed"), o(1, "a", "deployed")}, []gate.Interval{{Since: at(1), Until: at(5)}, {Since: at(9)}}},
		"failed, then better":  {[]state.Observed{o(9, "a", "deployed"), o(5, "", "failed")}, []gate.Interval{{Since: at(9)}}},
	} {
		got := state.Intervals(state.Events(c.newest, "a"))
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
			continue
		}
		for i := range got {
			if !got[i].Since.Equal(c.want[i].Since) || !got[i].Until.Equal(c.want[i].Until) {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
}

func TestReadObserved(t *testing.T) {
	o, err := state.ReadObserved("f", []byte("apiVersion: slipway/v1\nkind: Observed\nservice: orders\nenvironment: stage\nbundle: r@sha256:x\nrevision: 3\nstatus: deployed\nimages: {app: r@sha256:y}\nsince: 2026-11-23T12:00:00Z\nnewer: 1\n"))
	if err != nil || o.Status != state.Deployed || !o.Since.Equal(start) || o.Images["app"] != "r@sha256:y" {
		t.Errorf("read %+v, %v", o, err)
	}
}
