package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// How long causes may be there that can still pass by themselves.
const (
	graceMissing = 15 * time.Second // what is referred to may follow in the same release
	gracePull    = time.Minute
	graceStart   = 30 * time.Second // or until the second try
	graceRefused = 2 * time.Second
	graceWebhook = 30 * time.Second
	graceRoom    = 30 * time.Second // old pods may make room for new ones
	graceNeeds   = time.Minute      // what a program cannot reach may be starting
	graceNode    = 2 * time.Minute
	graceNoMatch = 20 * time.Second // no node can ever match
	graceStuck   = 30 * time.Second
)

// Diagnose returns the reasons why the workload is not ready, the likeliest
// cause first. It reads nothing but its argument.
func Diagnose(e Evidence) []Finding {
	var all []Finding
	switch o := e.Live.(type) {
	case *unstructured.Unstructured:
		all = diagnoseCustom(e, o)
	case *corev1.Pod:
		if o.Status.Phase == corev1.PodFailed {
			all = []Finding{failedPod(e, o)}
			break
		}
		all = diagnosePod(e, o)
	default:
		for _, p := range e.Pods {
			if p.DeletionTimestamp == nil {
				all = append(all, diagnosePod(e, p)...)
			}
		}
		all = append(all, diagnoseController(e)...)
	}
	all = merge(all)
	for i := range all {
		all[i].Workload = e.Workload
		said(e, &all[i])
		all[i].Message = oneLine(all[i].Message)
	}
	rank(all)
	return pastDeadline(e, all)
}

// pastDeadline lets the likeliest cause end the wait once the controller's own
// deadline is over: that it is over is no cause.
func pastDeadline(e Evidence, all []Finding) []Finding {
	d, ok := e.Live.(*appsv1.Deployment)
	if !ok || d.Status.ObservedGeneration < d.Generation {
		return all
	}
	for _, c := range d.Status.Conditions {
		if c.Type != appsv1.DeploymentProgressing || c.Status != corev1.ConditionFalse || c.Reason != "ProgressDeadlineExceeded" {
			continue
		}
		// The controller keeps the condition until it sees progress: one from
		// before this rollout is of the one before. It knows seconds, and no
		// deadline is shorter than one.
		if !e.Start.IsZero() && !c.LastUpdateTime.After(e.Start) {
			continue
		}
		if len(all) == 0 {
			return []Finding{{Class: ClassDeadline, Workload: e.Workload, Since: c.LastTransitionTime.Time, deadline: true, Message: oneLine(c.Message), Next: "raise progressDeadlineSeconds if the start is only slow"}}
		}
		if all[0].Transient || all[0].Grace > 0 {
			all[0].Message += fmt.Sprintf("; and the deployment's progress deadline of %ds is over", deadlineOf(d))
			all[0].Transient, all[0].Grace, all[0].deadline = false, 0, true
		}
	}
	return all
}

func deadlineOf(d *appsv1.Deployment) int32 {
	if s := d.Spec.ProgressDeadlineSeconds; s != nil {
		return *s
	}
	return 600
}

func diagnoseController(e Evidence) []Finding {
	var all []Finding
	old := int32(0) // pods of older revisions, which may make room
	switch o := e.Live.(type) {
	case *appsv1.Deployment:
		old = o.Status.Replicas - o.Status.UpdatedReplicas
	case *appsv1.StatefulSet:
		all = append(all, waitsForOld(e, o)...)
	case *batchv1.Job:
		all = append(all, failedJob(e, o)...)
	case *corev1.PersistentVolumeClaim:
		if f, ok := unbound(e, o.Name); ok && o.Status.Phase == corev1.ClaimPending {
			all = append(all, f)
		}
	}
	for _, rs := range e.ReplicaSets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				all = append(all, notCreated(c.Message, c.LastTransitionTime, old > 0))
			}
		}
	}
	// Stateful sets, daemon sets and jobs tell of pods that were refused by event alone.
	if o, ok := e.Live.(metav1.Object); ok && len(e.ReplicaSets) == 0 {
		if ev := lastEvent(e, o.GetUID(), "FailedCreate"); ev != nil && !createdSince(e, o, seen(ev)) {
			all = append(all, notCreated(ev.Message, ev.FirstTimestamp, len(e.Earlier) > 0))
		}
	}
	return all
}

// createdSince reports whether a controller made a pod after a refusal.
func createdSince(e Evidence, o metav1.Object, refused time.Time) bool {
	if ev := lastEvent(e, o.GetUID(), "SuccessfulCreate"); ev != nil && seen(ev).After(refused) {
		return true
	}
	return slices.ContainsFunc(e.Pods, func(p *corev1.Pod) bool { return p.CreationTimestamp.After(refused) })
}

// refusal is a rule of the cluster that keeps pods from being made, known by
// what it says.
type refusal struct {
	text, next string
	grace      time.Duration
}

var refusals = []refusal{
	{"exceeded quota", "raise the namespace's quota, or lower the requests and the number of pods", graceRefused},
	{"failed quota", "set the requests and limits that the quota asks for", graceRefused},
	{"violates PodSecurity", "set the security context that the namespace's level asks for", graceRefused},
	{"failed calling webhook", "the webhook does not answer: look at the workload behind it", graceWebhook},
	{"failed to call webhook", "the webhook does not answer: look at the workload behind it", graceWebhook},
	{"denied the request", "change what the webhook objects to, or ask who owns it", graceRefused},
	{"error looking up service account", "make the service account, or correct serviceAccountName", graceRefused},
	{"usage per Container is", "keep the requests and limits within the namespace's LimitRange", graceRefused},
	{"usage per Pod is", "keep the requests and limits within the namespace's LimitRange", graceRefused},
	{"limit to request ratio", "keep the requests and limits within the namespace's LimitRange", graceRefused},
	{"no PriorityClass", "make the priority class, or correct priorityClassName", graceRefused},
	{"RuntimeClass", "make the runtime class, or correct runtimeClassName", graceRefused},
	{"must be less than or equal to", "correct the requests and limits", graceRefused},
}

// notCreated is about pods that the cluster refuses. Where old pods are left,
// they may go and make room.
func notCreated(message string, at metav1.Time, old bool) Finding {
	f := Finding{Class: ClassAdmission, Since: at.Time, Grace: graceRefused, Message: "its pods are refused: " + message, Next: "the message names the rule; change the chart, or ask who owns the rule"}
	for _, r := range refusals {
		if strings.Contains(message, r.text) {
			f.Next, f.Grace = r.next, r.grace
			break
		}
	}
	if old && strings.Contains(message, "exceeded quota") {
		f.Grace = graceRoom
	}
	return f
}

// waitsForOld finds the trap of ordered stateful sets: a pod of an older
// revision that never gets ready keeps the mended revision from replacing it.
func waitsForOld(e Evidence, s *appsv1.StatefulSet) []Finding {
	if s.Spec.PodManagementPolicy == appsv1.ParallelPodManagement || len(e.Earlier) == 0 {
		return nil
	}
	for _, p := range e.Earlier {
		if p.DeletionTimestamp != nil || podReady(p) {
			continue
		}
		for _, f := range diagnosePod(e, p) {
			if f.Transient {
				continue
			}
			return []Finding{{Class: ClassStuck, Pod: p.Name, Container: f.Container, Since: f.Since, Grace: graceStuck,
				Message: fmt.Sprintf("pod %s of an older revision is not ready, and the stateful set does not replace it before it is: %s", p.Name, f.Message),
				Next:    fmt.Sprintf("delete it: kubectl -n %s delete pod %s", e.Workload.Namespace, p.Name)}}
		}
	}
	return nil
}

func failedJob(e Evidence, j *batchv1.Job) []Finding {
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue || c.Type != batchv1.JobFailed && c.Type != batchv1.JobFailureTarget {
			continue
		}
		f := Finding{Class: ClassJob, Since: c.LastTransitionTime.Time, Message: fmt.Sprintf("the job failed (%s): %s", c.Reason, c.Message), Next: "read the log of its pods"}
		if c.Reason == batchv1.JobReasonDeadlineExceeded {
			f.Next = "raise activeDeadlineSeconds if it is only slow"
		}
		if p, s := lastFailed(e.Pods); p != nil {
			why := crash(e, p, *s)
			f.Pod, f.Container, f.Next = p.Name, s.Name, why.Next
			f.over = s.State.Terminated != nil
			f.Message = fmt.Sprintf("%s; the job failed (%s): %s", why.Message, c.Reason, c.Message)
		}
		return []Finding{f}
	}
	return nil
}

// lastFailed is the container that ended badly last.
func lastFailed(pods []*corev1.Pod) (pod *corev1.Pod, status *corev1.ContainerStatus) {
	var last time.Time
	for _, p := range pods {
		for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
			for i, s := range list {
				t := ended(s)
				if t != nil && t.ExitCode != 0 && (pod == nil || t.FinishedAt.After(last)) {
					pod, status, last = p, &list[i], t.FinishedAt.Time
				}
			}
		}
	}
	return pod, status
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func since(p *corev1.Pod) time.Time {
	if p.Status.StartTime != nil {
		return p.Status.StartTime.Time
	}
	return p.CreationTimestamp.Time
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
