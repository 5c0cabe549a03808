package rollout

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Related finds what belongs to an object, by the uid of its controller.
type Related interface {
	ReplicaSetsOf(uid types.UID) []*appsv1.ReplicaSet
	PodsOf(uid types.UID) []*corev1.Pod
	EventsOf(uid types.UID) []*corev1.Event
	EventsOfClaim(name string) []*corev1.Event
	RevisionsOf(uid types.UID) []*appsv1.ControllerRevision
}

// Select gathers the evidence about a live object: of its pods only those of
// the new revision, since old ones that crash must not fail the deployment
// that mends them.
func Select(workload Ref, live runtime.Object, r Related) Evidence {
	e := Evidence{Workload: workload, Live: live}
	o, ok := live.(metav1.Object)
	if !ok {
		return e
	}
	e.Events = append(e.Events, r.EventsOf(o.GetUID())...)
	switch w := live.(type) {
	case *appsv1.Deployment:
		if rs := newReplicaSet(w, r.ReplicaSetsOf(w.UID)); rs != nil {
			e.ReplicaSets = []*appsv1.ReplicaSet{rs}
			e.Pods = r.PodsOf(rs.UID)
			e.Events = append(e.Events, r.EventsOf(rs.UID)...)
		}
	case *appsv1.StatefulSet:
		for _, p := range r.PodsOf(w.UID) {
			if p.Labels[appsv1.StatefulSetRevisionLabel] == w.Status.UpdateRevision {
				e.Pods = append(e.Pods, p)
			} else {
				e.Earlier = append(e.Earlier, p)
			}
		}
	case *appsv1.DaemonSet:
		hash := newestRevision(r.RevisionsOf(w.UID))
		for _, p := range r.PodsOf(w.UID) {
			if hash == "" || p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == hash {
				e.Pods = append(e.Pods, p)
			}
		}
	case *corev1.Pod:
		e.Pods = []*corev1.Pod{w}
	default:
		e.Pods = r.PodsOf(o.GetUID())
	}
	for _, p := range e.Pods {
		if p.UID != o.GetUID() {
			e.Events = append(e.Events, r.EventsOf(p.UID)...)
		}
	}
	for _, name := range claims(e.Pods) {
		e.Events = append(e.Events, r.EventsOfClaim(name)...)
	}
	return e
}

// claims are the names of the volume claims that pods use, each once.
func claims(pods []*corev1.Pod) []string {
	var out []string
	for _, p := range pods {
		for _, v := range p.Spec.Volumes {
			name := ""
			switch {
			case v.PersistentVolumeClaim != nil:
				name = v.PersistentVolumeClaim.ClaimName
			case v.Ephemeral != nil:
				name = p.Name + "-" + v.Name
			}
			if name != "" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// stale reports whether a live object is older than what was applied, or does
// not tell yet which revision is the new one: its pods are then the old ones,
// and their trouble is not ours.
func stale(live runtime.Object, wanted int64) bool {
	o, ok := live.(metav1.Object)
	if !ok {
		return false
	}
	switch w := live.(type) {
	case *appsv1.StatefulSet:
		return w.Generation < wanted || w.Status.ObservedGeneration < w.Generation
	case *appsv1.DaemonSet:
		return w.Generation < wanted || w.Status.ObservedGeneration < w.Generation
	}
	return o.GetGeneration() < wanted
}

// newReplicaSet returns the replica set whose pods are those the deployment
// asks for now, or nil while there is none.
func newReplicaSet(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, rs := range sets {
		if rs.Annotations[templateDigest] == d.Annotations[templateDigest] {
			return rs
		}
	}
	return nil
}

func newestRevision(list []*appsv1.ControllerRevision) string {
	var newest *appsv1.ControllerRevision
	for _, c := range list {
		if newest == nil || c.Revision > newest.Revision {
			newest = c
		}
	}
	if newest == nil {
		return ""
	}
	return newest.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
}
