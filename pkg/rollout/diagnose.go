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
	"k8s.io/apimachinery/pkg/runtime"
)

// Evidence is what is known of one workload: the live object, what is of its
// new revision, and the events about any of them.
type Evidence struct {
	Workload    Ref
	Live        runtime.Object // nil while it is not there
	ReplicaSets []*appsv1.ReplicaSet
	Pods        []*corev1.Pod
	Events      []*corev1.Event
	Start       time.Time // events that ended before are of another rollout; zero takes all
}

// Diagnose returns the reasons why the workload is not ready, the likeliest
// cause first. It reads nothing but its argument.
func Diagnose(e Evidence) []Finding {
	var all []Finding
	if p, ok := e.Live.(*corev1.Pod); ok && p.Status.Phase == corev1.PodFailed {
		all = []Finding{failedPod(p)}
	} else {
		for _, p := range e.Pods {
			if p.DeletionTimestamp == nil {
				all = append(all, diagnosePod(e, p)...)
			}
		}
		all = append(all, diagnoseController(e)...)
	}
	for i := range all {
		all[i].Workload = e.Workload
		all[i].Message = oneLine(all[i].Message)
	}
	rank(all)
	return all
}

func diagnosePod(e Evidence, p *corev1.Pod) []Finding {
	switch p.Status.Reason {
	case "Evicted", "Preempting", "NodeLost", "NodeShutdown", "Terminated", "Shutdown":
		return []Finding{{Class: ClassNode, Pod: p.Name, Since: since(p), Transient: true,
			Message: fmt.Sprintf("pod %s was taken off its node: %s %s", p.Name, p.Status.Reason, p.Status.Message), Next: "the controller makes another; look at the node"}}
	}
	if f, ok := unscheduled(e, p); ok {
		return []Finding{f}
	}
	var all []Finding
	specs := map[string]corev1.Container{}
	for _, c := range append(append([]corev1.Container{}, p.Spec.InitContainers...), p.Spec.Containers...) {
		specs[c.Name] = c
	}
	for _, s := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		f, ok := diagnoseContainer(e, p, specs[s.Name], s)
		if !ok {
			continue
		}
		f.Pod, f.Container = p.Name, s.Name
		if f.Since.IsZero() {
			f.Since = since(p)
		}
		all = append(all, f)
	}
	return append(all, mounts(e, p)...)
}

func diagnoseContainer(e Evidence, p *corev1.Pod, spec corev1.Container, s corev1.ContainerStatus) (Finding, bool) {
	image := s.Image
	if spec.Image != "" {
		image = spec.Image
	}
	if w := s.State.Waiting; w != nil {
		switch w.Reason {
		case "InvalidImageName":
			return Finding{Class: ClassImage, Message: fmt.Sprintf("the image name %q is not valid", image), Next: "correct the image in the values"}, true
		case "ErrImageNeverPull":
			return Finding{Class: ClassImage, Message: fmt.Sprintf("image %q is not on the node and may not be pulled", image), Next: "change imagePullPolicy"}, true
		case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed":
			return imagePull(e, p, image, w), true
		case "CreateContainerConfigError":
			f := Finding{Class: ClassConfig, Grace: 15 * time.Second, Message: w.Message, Next: "make the secret, config map or key it names, or correct the reference"}
			if strings.Contains(w.Message, "failed to sync") {
				f.Grace = time.Minute // the kubelet's cache, not the object
			}
			return f, true
		case "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun":
			return startError(w.Reason, w.Message, s), true
		case "CrashLoopBackOff":
			if t := s.LastTerminationState.Terminated; t != nil && neverRan(t) {
				return startError(t.Reason, t.Message, s), true
			}
			return crash(p, s, 0), !retries(p)
		}
	}
	if t := s.State.Terminated; t != nil && neverRan(t) {
		return startError(t.Reason, t.Message, s), true
	}
	if s.RestartCount >= 2 && !s.Ready && s.LastTerminationState.Terminated != nil && !retries(p) {
		// It is up again: it may stay, as a program does that waited for its database.
		return crash(p, s, 20*time.Second), true
	}
	if s.State.Running != nil && !s.Ready {
		if ev := lastEvent(e, p.UID, "Unhealthy"); ev != nil {
			return Finding{Class: ClassProbe, Transient: true, Message: "it runs and is not ready: " + ev.Message, Next: "look at the probe and at what the program waits for"}, true
		}
	}
	return Finding{}, false
}

// neverRan reports whether a container ended because it could not be started.
func neverRan(t *corev1.ContainerStateTerminated) bool {
	return t.Reason == "StartError" || t.Reason == "ContainerCannotRun"
}

// retries reports whether a pod belongs to a Job, whose own back-off limit
// says when it has failed.
func retries(p *corev1.Pod) bool {
	return p.Spec.RestartPolicy != corev1.RestartPolicyAlways && p.Spec.RestartPolicy != ""
}

func imagePull(e Evidence, p *corev1.Pod, image string, w *corev1.ContainerStateWaiting) Finding {
	// The later "Back-off pulling image" has lost the cause: the first message counts.
	texts := []string{w.Message}
	for _, ev := range e.Events {
		if ev.InvolvedObject.UID == p.UID && ev.Reason == "Failed" && strings.Contains(strings.ToLower(ev.Message), "pull") {
			texts = append(texts, ev.Message)
		}
	}
	f := Finding{Class: ClassImage, Grace: time.Minute, Message: fmt.Sprintf("image %q cannot be pulled: %s", image, texts[0]), Next: "look at the registry and the way to it"}
	for _, t := range texts {
		low := strings.ToLower(t)
		for _, known := range []struct{ text, message, next string }{
			{"no match for platform", "has no variant for the node's platform", "build it for the node's architecture"},
			{"unauthorized", "may not be pulled: the registry refuses the credentials", "check imagePullSecrets and the registry's rights"},
			{"denied", "may not be pulled: the registry denies access", "check imagePullSecrets and the registry's rights"},
			{"forbidden", "may not be pulled: the registry denies access", "check imagePullSecrets and the registry's rights"},
			{"manifest unknown", "does not exist in the registry", "push it, or correct the reference"},
			{"not found", "does not exist in the registry", "push it, or correct the reference"},
		} {
			if strings.Contains(low, known.text) && !strings.Contains(low, "no such host") {
				f.Grace, f.Message, f.Next = 0, fmt.Sprintf("image %q %s", image, known.message), known.next
				return f
			}
		}
	}
	return f
}

func startError(reason, message string, s corev1.ContainerStatus) Finding {
	f := Finding{Class: ClassConfig, Grace: 30 * time.Second, Message: fmt.Sprintf("it cannot be started (%s): %s", reason, message), Next: "check command, permissions and mounts", count: s.RestartCount}
	if s.RestartCount >= 1 {
		f.Grace = 0
	}
	return f
}

func crash(p *corev1.Pod, s corev1.ContainerStatus, grace time.Duration) Finding {
	f := Finding{Class: ClassCrash, Grace: grace, count: s.RestartCount, Next: "read its last lines in the log below"}
	t := s.LastTerminationState.Terminated
	if t == nil {
		t = s.State.Terminated
	}
	if t == nil {
		f.Message = fmt.Sprintf("it keeps ending (%d restarts)", s.RestartCount)
		return f
	}
	f.Since = t.FinishedAt.Time
	f.Message = fmt.Sprintf("it ended with exit code %d (%s) and was restarted %d times", t.ExitCode, t.Reason, s.RestartCount)
	if t.Message != "" {
		f.Message += ": " + t.Message
	}
	if t.Reason == "OOMKilled" {
		limit := ""
		for _, c := range p.Spec.Containers {
			if q, ok := c.Resources.Limits[corev1.ResourceMemory]; ok && c.Name == s.Name {
				limit = " of " + q.String()
			}
		}
		f.Class, f.Message, f.Next = ClassMemory, fmt.Sprintf("it was killed for using more memory than its limit%s, %d times", limit, s.RestartCount), "raise resources.limits.memory, or use less"
	}
	return f
}

func unscheduled(e Evidence, p *corev1.Pod) (Finding, bool) {
	for _, c := range p.Status.Conditions {
		if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable {
			continue
		}
		f := Finding{Class: ClassSchedule, Pod: p.Name, Since: c.LastTransitionTime.Time, Grace: 2 * time.Minute,
			Message: "no node takes the pod: " + c.Message, Next: "lower the requests, add nodes, or correct selectors and tolerations"}
		if lastEvent(e, p.UID, "TriggeredScaleUp") != nil || lastEvent(e, p.UID, "Nominated") != nil {
			f.Transient = true // an autoscaler is at work
		}
		return f, true
	}
	return Finding{}, false
}

func mounts(e Evidence, p *corev1.Pod) []Finding {
	if p.Status.Phase != corev1.PodPending {
		return nil
	}
	for _, reason := range []string{"FailedMount", "FailedAttachVolume"} {
		ev := lastEvent(e, p.UID, reason)
		if ev == nil {
			continue
		}
		f := Finding{Class: ClassVolume, Pod: p.Name, Since: ev.FirstTimestamp.Time, Grace: 2 * time.Minute, Message: "a volume cannot be mounted: " + ev.Message, Next: "look at the volume and its claim"}
		if strings.Contains(ev.Message, "not found") {
			f.Grace, f.Next = 15*time.Second, "make the secret or config map it names, or correct the reference"
		}
		return []Finding{f}
	}
	return nil
}

func diagnoseController(e Evidence) []Finding {
	var all []Finding
	for _, rs := range e.ReplicaSets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				all = append(all, notCreated(c.Message, c.LastTransitionTime))
			}
		}
	}
	switch o := e.Live.(type) {
	case *appsv1.Deployment:
		for _, c := range o.Status.Conditions {
			if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded" && o.Status.ObservedGeneration >= o.Generation {
				all = append(all, Finding{Class: ClassDeadline, Since: c.LastTransitionTime.Time, Message: c.Message, Next: "raise progressDeadlineSeconds if the start is only slow"})
			}
		}
	case *batchv1.Job:
		for _, c := range o.Status.Conditions {
			if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobFailed || c.Type == batchv1.JobFailureTarget) {
				all = append(all, Finding{Class: ClassJob, Since: c.LastTransitionTime.Time, Message: fmt.Sprintf("the job failed (%s): %s%s", c.Reason, c.Message, exits(e.Pods)), Next: "read the log of its pods"})
				break
			}
		}
	case *corev1.PersistentVolumeClaim:
		for _, reason := range []string{"ProvisioningFailed", "FailedBinding"} {
			if ev := lastEvent(e, o.UID, reason); ev != nil && o.Status.Phase == corev1.ClaimPending {
				all = append(all, Finding{Class: ClassVolume, Since: ev.FirstTimestamp.Time, Grace: 2 * time.Minute, Message: "no volume is bound: " + ev.Message, Next: "look at the storage class"})
			}
		}
	}
	// Stateful sets, daemon sets and jobs tell of pods that were refused by event alone.
	if o, ok := e.Live.(metav1.Object); ok && len(e.Pods) == 0 && len(e.ReplicaSets) == 0 {
		if ev := lastEvent(e, o.GetUID(), "FailedCreate"); ev != nil {
			all = append(all, notCreated(ev.Message, ev.FirstTimestamp))
		}
	}
	return all
}

// failedPod is about a pod that is waited for itself, such as a hook: it has
// ended for good, since no controller makes another in its place.
func failedPod(p *corev1.Pod) Finding {
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			f := crash(p, s, 0)
			f.Pod, f.Container, f.over = p.Name, s.Name, true
			return f
		}
	}
	return Finding{Class: ClassNode, Pod: p.Name, Since: since(p), Next: "look at the node and at the pod's events",
		Message: fmt.Sprintf("the pod failed, and no controller makes another: %s %s", p.Status.Reason, p.Status.Message)}
}

func notCreated(message string, at metav1.Time) Finding {
	f := Finding{Class: ClassAdmission, Since: at.Time, Grace: 2 * time.Second, Message: "its pods are refused: " + message, Next: "the message names the rule; change the chart, or ask who owns the rule"}
	switch {
	case strings.Contains(message, "exceeded quota"):
		f.Next = "lower replicas or requests, or ask for a larger quota"
	case strings.Contains(message, "PodSecurity"):
		f.Next = "set the security context that the namespace's level asks for"
	case strings.Contains(message, "serviceaccount"):
		f.Next = "make the service account, or correct its name"
	case strings.Contains(message, "connection refused"), strings.Contains(message, "context deadline exceeded"), strings.Contains(message, "no endpoints available"):
		f.Grace, f.Next = 30*time.Second, "the webhook does not answer: look at the workload behind it"
	}
	return f
}

// exits tells how the containers of a failed job ended.
func exits(pods []*corev1.Pod) string {
	for _, p := range pods {
		for _, s := range p.Status.ContainerStatuses {
			if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
				return fmt.Sprintf("; container %q of pod %s ended with exit code %d (%s)", s.Name, p.Name, t.ExitCode, t.Reason)
			}
		}
	}
	return ""
}

func since(p *corev1.Pod) time.Time {
	if p.Status.StartTime != nil {
		return p.Status.StartTime.Time
	}
	return p.CreationTimestamp.Time
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
