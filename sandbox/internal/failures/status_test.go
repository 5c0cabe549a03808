package failures

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// The phase follows from the containers as the kubelet has it.
func TestPhase(t *testing.T) {
	running := corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	ended := func(code int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
	}
	backOff := corev1.ContainerStatus{State: waiting("CrashLoopBackOff", ""), LastTerminationState: ended(1).State}
	fresh := corev1.ContainerStatus{State: waiting("ContainerCreating", "")}
	done := ended(0)
	done.Ready = true
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	for _, c := range []struct {
		name     string
		policy   corev1.RestartPolicy
		initial  corev1.ContainerStatus
		app, two corev1.ContainerStatus
		want     corev1.PodPhase
	}{
		{"all run", always, done, running, running, corev1.PodRunning},
		{"one has not started yet", always, done, running, fresh, corev1.PodPending},
		{"one waits to be restarted", always, done, running, backOff, corev1.PodRunning},
		{"both wait to be restarted", always, done, backOff, backOff, corev1.PodRunning},
		{"the init container waits to be restarted", always, backOff, fresh, fresh, corev1.PodPending},
		{"the init container failed for good", never, ended(1), fresh, fresh, corev1.PodFailed},
		{"the init container failed and is restarted", onFailure, ended(1), fresh, fresh, corev1.PodPending},
		{"both ended well and are started again", always, done, done, done, corev1.PodRunning},
		{"both ended well", onFailure, done, done, done, corev1.PodSucceeded},
		{"one failed and is restarted", onFailure, done, done, ended(1), corev1.PodRunning},
		{"one failed for good", never, done, done, ended(1), corev1.PodFailed},
		{"one failed for good, one runs", never, done, running, ended(1), corev1.PodRunning},
	} {
		pod := asking(nil)
		pod.Spec.InitContainers = pod.Spec.InitContainers[:1]
		pod.Spec.RestartPolicy = c.policy
		c.initial.Name, c.app.Name, c.two.Name = "migrate", "app", "proxy"
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{c.initial}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{c.app, c.two}
		if got := newPodState(pod, "").getPhase(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
