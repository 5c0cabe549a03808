package failures

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podState is a pod as a container runtime sees it, from which the status that
// a kubelet reports follows.
type podState struct {
	pod           *corev1.Pod
	init, regular []corev1.ContainerStatus
	sandbox       bool // it has a network, so that containers may be made
	hostIP        string

	// These are set where the kubelet ends the pod by itself.
	phase           corev1.PodPhase
	reason, message string
	disruption      *corev1.PodCondition
}

// newPodState takes up a pod where its status says that it is.
func newPodState(pod *corev1.Pod, hostIP string) *podState {
	r := &podState{pod: pod, hostIP: hostIP, sandbox: pod.Status.PodIP != ""}
	creating := "ContainerCreating"
	if len(pod.Spec.InitContainers) > 0 {
		creating = "PodInitializing"
	}
	fill := func(containers []corev1.Container, have []corev1.ContainerStatus) (out []corev1.ContainerStatus) {
		for _, c := range containers {
			i := slices.IndexFunc(have, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
			if i >= 0 {
				out = append(out, *have[i].DeepCopy())
				continue
			}
			s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool), State: waiting(creating, "")}
			for _, m := range c.VolumeMounts {
				s.VolumeMounts = append(s.VolumeMounts, mountStatus(m))
			}
			out = append(out, s)
		}
		return out
	}
	r.init = fill(pod.Spec.InitContainers, pod.Status.InitContainerStatuses)
	r.regular = fill(pod.Spec.Containers, pod.Status.ContainerStatuses)
	return r
}

func mountStatus(m corev1.VolumeMount) corev1.VolumeMountStatus {
	s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
	if m.ReadOnly {
		s.RecursiveReadOnly = new(corev1.RecursiveReadOnlyDisabled)
	}
	return s
}

// container returns the state of a container, to be changed.
func (r *podState) container(name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{r.init, r.regular} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	panic("no container " + name) // the request was checked
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// run notes that a container was started, for the nth time.
func (r *podState) run(name string, restarts int32) {
	s := r.container(name)
	keep(s)
	s.RestartCount = restarts
	s.ContainerID = containerID(r.pod, name, restarts)
	if _, digest, ok := strings.Cut(s.Image, "@sha256:"); ok && digest != "" {
		s.ImageID = s.Image
	}
	s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
}

// end notes that a container ended.
func (r *podState) end(name string, code int32, reason string) {
	s := r.container(name)
	t := &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, FinishedAt: metav1.Now(), ContainerID: s.ContainerID}
	if s.State.Running != nil {
		t.StartedAt = s.State.Running.StartedAt
	}
	s.State = corev1.ContainerState{Terminated: t}
	s.Ready, s.Started = false, new(bool)
}

// wait notes that a container is not started, and why.
func (r *podState) wait(name, reason, message string) {
	s := r.container(name)
	keep(s)
	s.State = waiting(reason, message)
	s.Ready, s.Started = false, new(bool)
}

// keep makes how a container ended its last state.
func keep(s *corev1.ContainerStatus) {
	if s.State.Terminated != nil {
		s.LastTerminationState = s.State
	}
}

// containerID is what a runtime would call the container: something of its own
// for each start.
func containerID(pod *corev1.Pod, name string, restarts int32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", pod.UID, name, restarts))
	return "containerd://" + hex.EncodeToString(sum[:])
}

// podIP is an address of the pod's own in the network of the fake nodes, which
// leads nowhere.
func podIP(pod *corev1.Pod) string {
	sum := sha256.Sum256([]byte(pod.UID))
	return fmt.Sprintf("10.%d.%d.%d", 128+sum[0]%64, sum[1], 1+sum[2]%254)
}

// status is what a kubelet reports of the pod.
func (r *podState) status() corev1.PodStatus {
	s := corev1.PodStatus{
		ObservedGeneration: r.pod.Generation, Phase: r.getPhase(), Reason: r.reason, Message: r.message,
		InitContainerStatuses: r.init, ContainerStatuses: slices.SortedFunc(slices.Values(r.regular), func(a, b corev1.ContainerStatus) int {
			return strings.Compare(a.Name, b.Name)
		}),
		HostIP: r.hostIP, HostIPs: []corev1.HostIP{{IP: r.hostIP}}, StartTime: r.pod.Status.StartTime, QOSClass: r.pod.Status.QOSClass,
		PodIP: r.pod.Status.PodIP,
	}
	if s.StartTime == nil {
		s.StartTime = new(metav1.Now())
	}
	if r.pod.Spec.HostNetwork {
		s.PodIP = r.hostIP
	} else if r.sandbox {
		s.PodIP = podIP(r.pod)
	}
	if s.PodIP != "" {
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
	s.Conditions = r.conditions(s.Phase)
	for i := range s.Conditions {
		s.Conditions[i].ObservedGeneration = r.pod.Generation
		s.Conditions[i].LastTransitionTime = r.since(s.Conditions[i])
	}
	for _, c := range r.pod.Status.Conditions { // those that others write
		if !slices.ContainsFunc(s.Conditions, func(ours corev1.PodCondition) bool { return ours.Type == c.Type }) {
			s.Conditions = append(s.Conditions, c)
		}
	}
	return s
}

// since is when a condition became what it is.
func (r *podState) since(c corev1.PodCondition) metav1.Time {
	for _, have := range r.pod.Status.Conditions {
		if have.Type == c.Type && have.Status == c.Status {
			return have.LastTransitionTime
		}
	}
	return metav1.Now()
}

// conditions are those that a kubelet writes, in its order and its words.
func (r *podState) conditions(phase corev1.PodPhase) []corev1.PodCondition {
	sandbox := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}
	if !r.sandbox {
		sandbox = corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Reason: "PodSandboxNotReady", Message: "no pod sandbox exists"}
		if r.pod.Status.PodIP != "" {
			sandbox.Message = "pod sandbox is not ready"
		}
	}
	initialized := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if names := r.incomplete(); len(names) > 0 {
		initialized.Status, initialized.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		initialized.Message = fmt.Sprintf("containers with incomplete status: %s", names)
	}
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	switch names := r.unready(); {
	case phase == corev1.PodFailed:
		ready.Status, ready.Reason = corev1.ConditionFalse, "PodFailed"
	case phase == corev1.PodSucceeded:
		ready.Status, ready.Reason = corev1.ConditionFalse, "PodCompleted"
		initialized.Reason = "PodCompleted"
	case len(names) > 0:
		ready.Status, ready.Reason = corev1.ConditionFalse, "ContainersNotReady"
		ready.Message = fmt.Sprintf("containers with unready status: %s", names)
	}
	containers := ready
	containers.Type = corev1.ContainersReady
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}
	out := []corev1.PodCondition{sandbox, initialized, ready, containers, scheduled}
	if r.disruption != nil {
		out = append([]corev1.PodCondition{*r.disruption}, out...)
	}
	return out
}

// incomplete are the init containers that others wait for.
func (r *podState) incomplete() (names []string) {
	for i, s := range r.init {
		done := s.Ready
		if sidecar(r.pod.Spec.InitContainers[i]) {
			done = s.Started != nil && *s.Started
		}
		if !done {
			names = append(names, s.Name)
		}
	}
	return names
}

func (r *podState) unready() (names []string) {
	for i, s := range r.init {
		if sidecar(r.pod.Spec.InitContainers[i]) && !s.Ready {
			names = append(names, s.Name)
		}
	}
	for _, s := range r.regular {
		if !s.Ready {
			names = append(names, s.Name)
		}
	}
	return names
}

// getPhase follows the kubelet's rules for what its containers make of a pod.
func (r *podState) getPhase() corev1.PodPhase {
	if r.phase != "" {
		return r.phase
	}
	restarts := func(code int32) bool {
		p := r.pod.Spec.RestartPolicy
		return p == corev1.RestartPolicyAlways || p == corev1.RestartPolicyOnFailure && code != 0
	}
	for _, s := range r.init {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 && !restarts(t.ExitCode) {
			return corev1.PodFailed
		}
	}
	if len(r.incomplete()) > 0 {
		return corev1.PodPending
	}
	running, over, failed := 0, 0, 0
	for _, s := range r.regular {
		t := s.State.Terminated
		if t == nil && s.State.Waiting != nil {
			t = s.LastTerminationState.Terminated
		}
		switch {
		case s.State.Running != nil:
			running++
		case t == nil:
			return corev1.PodPending // it waits for its first start
		case restarts(t.ExitCode):
			running++
		default:
			over++
			if t.ExitCode != 0 {
				failed++
			}
		}
	}
	switch {
	case running > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}
