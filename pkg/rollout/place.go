package rollout

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// unscheduled is about a pod that no node takes.
func unscheduled(e Evidence, p *corev1.Pod) (Finding, bool) {
	for _, c := range p.Status.Conditions {
		if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse {
			continue
		}
		f := Finding{Class: ClassSchedule, Pod: p.Name, Since: c.LastTransitionTime.Time, Grace: graceNode,
			Message: "no node takes the pod: " + c.Message, Next: "lower the requests, add nodes, or correct selectors and tolerations"}
		if c.Reason != corev1.PodReasonUnschedulable {
			f.Transient, f.Next = true, "wait for what holds the pod back" // a scheduling gate
			return f, true
		}
		for _, name := range claims([]*corev1.Pod{p}) {
			if !strings.Contains(c.Message, "persistentvolumeclaim") && !strings.Contains(strings.ToLower(c.Message), "persistentvolume") {
				break
			}
			if v, ok := unbound(e, name); ok {
				v.Pod = p.Name
				return v, true
			}
			f.Class, f.Next = ClassVolume, "look at claim "+name+" and its storage class"
		}
		if lastEvent(e, p.UID, "TriggeredScaleUp") != nil || lastEvent(e, p.UID, "Nominated") != nil {
			f.Transient = true // an autoscaler is at work
		} else if f.Class == ClassSchedule && noMatch(c.Message) {
			f.Grace, f.Next = graceNoMatch, "correct nodeSelector, affinity and tolerations, or add such a node"
		}
		return f, true
	}
	return Finding{}, false
}

// noMatch reports whether it is selectors, affinities and taints alone that
// keep a pod from all nodes: no waiting makes room.
func noMatch(message string) bool {
	says, _, _ := strings.Cut(message, "preemption:")
	low := strings.ToLower(says)
	for _, room := range []string{"insufficient", "free ports", "too many pods", "not-ready", "unreachable", "unschedulable", "anti-affinity", "topology spread", "disk-pressure", "memory-pressure", "volume"} {
		if strings.Contains(low, room) {
			return false
		}
	}
	return strings.Contains(low, "untolerated taint") || strings.Contains(low, "affinity/selector")
}

// unbound is about a claim that got no volume, told by its own events.
func unbound(e Evidence, name string) (Finding, bool) {
	var last *corev1.Event
	for _, ev := range e.Events {
		if ev.InvolvedObject.Kind != "PersistentVolumeClaim" && ev.InvolvedObject.Kind != "" || ev.InvolvedObject.Name != name && ev.InvolvedObject.Name != "" {
			continue
		}
		if ev.Reason != "ProvisioningFailed" && ev.Reason != "FailedBinding" && ev.Reason != "VolumeMismatch" || !current(e, ev) {
			continue
		}
		if last == nil || seen(ev).After(seen(last)) {
			last = ev
		}
	}
	if last == nil {
		return Finding{}, false
	}
	f := Finding{Class: ClassVolume, Since: last.FirstTimestamp.Time, Grace: graceNode, Message: fmt.Sprintf("claim %s gets no volume: %s", name, last.Message), Next: "look at the claim and at its storage class"}
	switch {
	case strings.Contains(last.Message, "not found"):
		f.Grace, f.Next = graceMissing, "make the storage class, or name one that the cluster has"
	case strings.Contains(last.Message, "no storage class is set"):
		f.Next = "set storageClassName: the cluster has no default class"
	}
	return f, true
}

// mounts is about volumes that a node cannot mount yet.
func mounts(e Evidence, p *corev1.Pod) []Finding {
	if p.Status.Phase != corev1.PodPending {
		return nil
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionTrue {
			return nil // all is mounted, whatever failed before
		}
	}
	for _, reason := range []string{"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"} {
		ev := lastEvent(e, p.UID, reason)
		if ev == nil {
			continue
		}
		f := Finding{Class: ClassVolume, Pod: p.Name, Since: ev.FirstTimestamp.Time, Grace: graceNode, Message: "a volume cannot be mounted: " + ev.Message, Next: "look at the volume and its claim"}
		switch {
		case reason == "FailedCreatePodSandBox":
			f.Class, f.Message, f.Next = ClassNode, "its node cannot set the pod up: "+ev.Message, "look at the node's network and runtime"
		case strings.Contains(ev.Message, "kube-root-ca.crt"), strings.Contains(ev.Message, "failed to sync"):
			f.Message, f.Next = "a volume cannot be mounted yet: "+ev.Message, "nothing is wrong with the release: the cluster itself makes what it names"
		case strings.Contains(ev.Message, "references non-existent") && strings.Contains(ev.Message, "key"):
			f.Grace, f.Next = graceMissing, "add the key to the secret or config map, or correct the reference"
		case strings.Contains(ev.Message, "configmap \"") && strings.Contains(ev.Message, "not found"), strings.Contains(ev.Message, "secret \"") && strings.Contains(ev.Message, "not found"):
			f.Grace, f.Next = graceMissing, "make the secret or config map it names, or correct the reference"
		}
		return []Finding{f}
	}
	return nil
}
