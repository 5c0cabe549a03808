package envstate_test

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/envstate"
)

func TestDesiredRoundTrip(t *testing.T) {
	d := envstate.Desired{APIVersion: "slipway/v1", Kind: "Desired", Service: "orders", Environment: "stage", Bundle: "r@sha256:x", Configuration: "none",
		By: "anna: [x]", Pipeline: 7, At: time.Unix(1e9, 0).UTC(), Gates: []envstate.Gate{{Gate: "order", Passed: true, Reason: "it: was #1"}}}
	raw, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := envstate.ReadDesired("f", raw)
	if err != nil || got.By != d.By || !got.At.Equal(d.At) || got.Gates[0] != d.Gates[0] || got.Pipeline != 7 {
		t.Errorf("read %+v, %v from\n%s", got, err, raw)
	}
	if _, err := envstate.ReadDesired("f", []byte("kind: Observed")); err == nil || !strings.Contains(err.Error(), `it is a "Observed"`) {
		t.Errorf("ReadDesired of an Observed = %v", err)
	}
}

func TestRevision(t *testing.T) {
	if envstate.Revision(nil) != "none" || envstate.Revision([]byte("a")) == envstate.Revision([]byte("b")) || !strings.HasPrefix(envstate.Revision([]byte("")), "sha256:") {
		t.Error("Revision does not tell configurations apart")
	}
}
