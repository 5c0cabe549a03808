package rollout

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDeadlineOfAnEarlierRollout: the controller keeps the condition of the last
// rollout until it sees progress in this one.
func TestDeadlineOfAnEarlierRollout(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 500, time.UTC)
	for at, want := range map[time.Time]int{start.Add(-2 * time.Second): 0, start.Truncate(time.Second): 0, start.Add(time.Second).Truncate(time.Second): 1} {
		d := &appsv1.Deployment{Status: appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing,
			Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", LastUpdateTime: metav1.NewTime(at)}}}}
		if got := Diagnose(Evidence{Live: d, Start: start}); len(got) != want {
			t.Errorf("a deadline that was over at %s gives %+v", at, got)
		}
	}
}

// TestStatefulSetThatGoesBack: its revision is the old one again, and a pod of
// the one in between is left, ready as ever.
func TestStatefulSetThatGoesBack(t *testing.T) {
	d := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: new(int32(3))}, Status: appsv1.StatefulSetStatus{CurrentRevision: "a", UpdateRevision: "a",
		UpdatedReplicas: 2, Replicas: 3, ReadyReplicas: 3, AvailableReplicas: 3}}
	if ready, message := statefulSet(d, 0); ready {
		t.Errorf("it is ready: %s", message)
	}
	d.Status.UpdatedReplicas = 3
	if ready, message := statefulSet(d, 0); !ready {
		t.Errorf("it is not ready: %s", message)
	}
}
