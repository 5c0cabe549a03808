package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// State is how far an object is.
type State struct {
	Object  Ref    `json:"object"`
	Ready   bool   `json:"ready"`
	Message string `json:"message"` // what it is at, for people
}

// judge applies the rule of the object's kind. completed asks of a pod that
// it ran to its end, as a hook's must; wanted is the generation that was
// applied, which an older state in a cache does not answer for.
func judge(e Evidence, wanted int64, completed bool) (bool, string) {
	switch o := e.Live.(type) {
	case nil:
		return false, "not there yet"
	case *appsv1.Deployment:
		return deployment(o, wanted)
	case *appsv1.StatefulSet:
		return statefulSet(o, wanted)
	case *appsv1.DaemonSet:
		return daemonSet(o, wanted)
	case *batchv1.Job:
		return job(o)
	case *corev1.Pod:
		return pod(o, completed)
	case *corev1.PersistentVolumeClaim:
		if o.Status.Phase == corev1.ClaimBound {
			return true, "bound"
		}
		if lastEvent(e, o.UID, "WaitForFirstConsumer") != nil {
			return true, "waits for its first pod"
		}
		return false, "not bound"
	case *unstructured.Unstructured:
		return generic(o, wanted)
	}
	return true, "there"
}

func deployment(d *appsv1.Deployment, wanted int64) (bool, string) {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	switch {
	case d.Generation < wanted || s.ObservedGeneration < d.Generation:
		return false, "not yet taken up"
	case d.Spec.Paused:
		return true, "paused"
	case s.UpdatedReplicas < want:
		return false, fmt.Sprintf("%d of %d pods updated", s.UpdatedReplicas, want)
	case s.Replicas > s.UpdatedReplicas:
		return false, fmt.Sprintf("%d pods of the old revision left", s.Replicas-s.UpdatedReplicas)
	case s.AvailableReplicas < want:
		return false, fmt.Sprintf("%d of %d pods available", s.AvailableReplicas, want)
	}
	return true, fmt.Sprintf("%d of %d pods available", s.AvailableReplicas, want)
}

func statefulSet(d *appsv1.StatefulSet, wanted int64) (bool, string) {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	if d.Generation < wanted || s.ObservedGeneration < d.Generation {
		return false, "not yet taken up"
	}
	updated := want
	if u := d.Spec.UpdateStrategy; u.Type == appsv1.OnDeleteStatefulSetStrategyType {
		updated = 0 // a person deletes the old pods
	} else if u.RollingUpdate != nil && u.RollingUpdate.Partition != nil {
		updated = max(0, want-*u.RollingUpdate.Partition)
	}
	switch {
	case s.UpdatedReplicas < updated: // also where both revisions are one: a pod of a third may be left
		return false, fmt.Sprintf("%d of %d pods updated", s.UpdatedReplicas, updated)
	case s.ReadyReplicas < want || s.AvailableReplicas < want:
		return false, fmt.Sprintf("%d of %d pods available", s.AvailableReplicas, want)
	}
	return true, fmt.Sprintf("%d of %d pods available", s.AvailableReplicas, want)
}

func daemonSet(d *appsv1.DaemonSet, wanted int64) (bool, string) {
	s := d.Status
	if d.Generation < wanted || s.ObservedGeneration < d.Generation {
		return false, "not yet taken up"
	}
	want := s.DesiredNumberScheduled
	if d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType && s.UpdatedNumberScheduled < want {
		return false, fmt.Sprintf("%d of %d pods updated", s.UpdatedNumberScheduled, want)
	}
	return s.NumberAvailable >= want, fmt.Sprintf("%d of %d pods available", s.NumberAvailable, want)
}

func job(j *batchv1.Job) (bool, string) {
	if j.Spec.Suspend != nil && *j.Spec.Suspend {
		return true, "suspended"
	}
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			return true, "complete"
		case batchv1.JobFailed:
			return false, "failed"
		}
	}
	return false, fmt.Sprintf("running, %d succeeded, %d failed", j.Status.Succeeded, j.Status.Failed)
}

func pod(p *corev1.Pod, completed bool) (bool, string) {
	if p.Status.Phase == corev1.PodSucceeded {
		return true, "succeeded"
	}
	if completed {
		return false, "phase " + string(p.Status.Phase)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return true, "ready"
		}
	}
	return false, "phase " + string(p.Status.Phase)
}

// generic judges objects of kinds we have no rule for by the conditions most
// controllers write. One without conditions is ready: nobody says otherwise.
func generic(u *unstructured.Unstructured, wanted int64) (bool, string) {
	observed, found, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if u.GetGeneration() < wanted || found && observed < u.GetGeneration() {
		return false, "not yet taken up"
	}
	if u.GetKind() == "Service" && u.GetAPIVersion() == "v1" {
		if hasAddress(u) {
			return true, "has an address"
		}
		return false, "has no address yet"
	}
	conditions := conditionsOf(u)
	for _, name := range []string{"Stalled", "Reconciling"} {
		if c, ok := conditions[name]; ok && c.status == "True" {
			return false, fmt.Sprintf("condition %s: %s", name, c.text())
		}
	}
	for _, name := range readyConditions(u) {
		c, ok := conditions[name]
		switch {
		case !ok:
			continue
		case c.observed != 0 && c.observed < u.GetGeneration():
			return false, "not yet taken up"
		case c.status != "True":
			return false, fmt.Sprintf("condition %s is %s: %s", name, c.status, c.text())
		}
		return true, "condition " + name
	}
	if n := readyConditions(u); len(n) == 1 {
		return false, "not yet taken up" // the server itself writes this condition
	}
	return true, "there"
}
