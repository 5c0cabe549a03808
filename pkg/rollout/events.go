package rollout

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// lastEvent returns the latest event of a reason about an object, or nil.
func lastEvent(e Evidence, uid types.UID, reason string) *corev1.Event {
	return lastEventWhere(e, uid, reason, func(*corev1.Event) bool { return true })
}

// lastEventWhere returns the latest of those events that meet a condition, or nil.
func lastEventWhere(e Evidence, uid types.UID, reason string, is func(*corev1.Event) bool) *corev1.Event {
	var last *corev1.Event
	for _, ev := range e.Events {
		if ev.InvolvedObject.UID != uid || ev.Reason != reason || !current(e, ev) || !is(ev) {
			continue
		}
		if last == nil || seen(ev).After(seen(last)) {
			last = ev
		}
	}
	return last
}

// current reports whether an event is of this rollout.
func current(e Evidence, ev *corev1.Event) bool {
	return e.Start.IsZero() || !seen(ev).Before(e.Start.Add(-skew))
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
