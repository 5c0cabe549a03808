package rollout

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// lastEvent returns the latest event of a reason about an object, or nil.
func lastEvent(e Evidence, uid types.UID, reason string) *corev1.Event {
	var last *corev1.Event
	for _, ev := range e.Events {
		if ev.InvolvedObject.UID != uid || ev.Reason != reason || seen(ev).Before(e.Start.Add(-skew)) && !e.Start.IsZero() {
			continue
		}
		if last == nil || seen(ev).After(seen(last)) {
			last = ev
		}
	}
	return last
}

// skew is how far the cluster's clock may be off ours.
const skew = 10 * time.Second

// seen returns when an event was last seen; aggregated ones carry it in a series.
func seen(ev *corev1.Event) time.Time {
	at := ev.LastTimestamp.Time
	if ev.Series != nil && ev.Series.LastObservedTime.After(at) {
		at = ev.Series.LastObservedTime.Time
	}
	if ev.EventTime.After(at) {
		at = ev.EventTime.Time
	}
	if at.IsZero() {
		at = ev.CreationTimestamp.Time
	}
	return at
}
