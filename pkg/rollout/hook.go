package rollout

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// spare keeps a verdict away from a hook that runs: a migration that is cut
// short leaves data that no code fits. Whether it has failed, its Job says, or
// its end; what stands in the way of its start ends the wait like anything.
func (o Options) spare(e Evidence, findings []Finding) []Finding {
	if !o.Completed || !slices.ContainsFunc(e.Pods, atWork) {
		return findings
	}
	for i, f := range findings {
		if f.Class != ClassJob {
			findings[i].Transient = true
		}
	}
	return findings
}

// atWork reports whether a pod of a hook runs, and nothing of it has ended badly.
func atWork(p *corev1.Pod) bool {
	running := false
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return false
		}
		running = running || s.State.Running != nil
	}
	return running
}
