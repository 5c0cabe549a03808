package review

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestForgotten(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		state, expires string
		want           bool
	}{
		"merged, with time left":       {"merged", "2026-03-02T12:00:00Z", true},
		"closed":                       {"closed", "", true},
		"open, with time left":         {"opened", "2026-03-01T12:00:01Z", false},
		"open, its time over":          {"opened", "2026-03-01T11:59:59Z", true},
		"unknown, with time left":      {"", "2026-03-02T12:00:00Z", false},
		"unknown, its time over":       {"", "2026-02-28T12:00:00Z", true},
		"open, without an end":         {"opened", "", false},
		"unknown, without an end":      {"", "", false},
		"an end that cannot be read":   {"", "yesterday", false},
		"a state of a newer GitLab":    {"frozen", "2026-03-02T12:00:00Z", false},
		"locked while it is merged":    {"locked", "2026-03-02T12:00:00Z", false},
		"merged, its end unreadable":   {"merged", "yesterday", true},
		"open, its end is just now":    {"opened", "2026-03-01T12:00:00Z", false},
		"unknown, expired in its zone": {"", "2026-03-01T13:30:00+02:00", true},
	} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationExpires: c.expires}}}
		if got, why := forgotten(ns, c.state, now); got != c.want || why == "" || got == strings.HasPrefix(why, "kept") {
			t.Errorf("%s: %v, %q", name, got, why)
		}
	}
}

func TestOwns(t *testing.T) {
	a := App{Service: "orders", Environment: "review", MR: "12", Namespace: "orders-mr-12"}
	good := func() *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "orders-mr-12", Labels: a.labels()}}
	}
	if !a.owns(good()) {
		t.Error("its own namespace is not owned")
	}
	for label := range a.labels() {
		ns := good()
		delete(ns.Labels, label)
		if a.owns(ns) != (label == labelPodSecurity) {
			t.Errorf("without the label %s: owned is %v", label, a.owns(ns))
		}
	}
	ns := good()
	ns.Name = "orders"
	if a.owns(ns) {
		t.Error("a namespace of another name is owned")
	}
}
