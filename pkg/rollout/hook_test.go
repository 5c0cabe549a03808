package rollout

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestRunningHookIsSpared: of what would end a wait, only the Job's own verdict
// ends a hook that is at work.
func TestRunningHookIsSpared(t *testing.T) {
	state := func(s corev1.ContainerState) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: s}}}}
	}
	running := state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
	waiting := state(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}})
	ended := state(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}})
	for name, c := range map[string]struct {
		hook  bool
		pods  []*corev1.Pod
		class string
		want  bool // it may end the wait
	}{
		"a second pod of it has no node":        {true, []*corev1.Pod{running, waiting}, ClassSchedule, false},
		"its memory is told and waited for":     {true, []*corev1.Pod{running}, ClassMemory, false},
		"the Job says that it failed":           {true, []*corev1.Pod{running}, ClassJob, true},
		"it cannot start":                       {true, []*corev1.Pod{waiting}, ClassImage, true},
		"it has ended badly":                    {true, []*corev1.Pod{ended}, ClassCrash, true},
		"a workload that runs is not a hook":    {false, []*corev1.Pod{running}, ClassCrash, true},
		"no pod of it could be made":            {true, nil, ClassAdmission, true},
		"a pod that ended does not save others": {true, []*corev1.Pod{ended, waiting}, ClassImage, true},
	} {
		got := Options{Completed: c.hook}.spare(Evidence{Pods: c.pods}, []Finding{{Class: c.class}})
		if ends := !got[0].Transient; ends != c.want {
			t.Errorf("%s: it may end the wait: %v, want %v", name, ends, c.want)
		}
	}
}
