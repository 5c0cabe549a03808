package rollout

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func diagnosePod(e Evidence, p *corev1.Pod) []Finding {
	if p.Status.Phase == corev1.PodFailed && (p.Spec.RestartPolicy == corev1.RestartPolicyAlways || len(p.Status.ContainerStatuses) == 0) || takenOff(p.Status.Reason) {
		return []Finding{{Class: ClassNode, Pod: p.Name, Since: since(p), Transient: true,
			Message: fmt.Sprintf("pod %s was taken off its node: %s %s", p.Name, p.Status.Reason, p.Status.Message), Next: "the controller makes another; look at the node"}}
	}
	if f, ok := unscheduled(e, p); ok {
		return []Finding{f}
	}
	var all []Finding
	specs := map[string]corev1.Container{}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		specs[c.Name] = c
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
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

func takenOff(reason string) bool {
	switch reason {
	case "Evicted", "Preempting", "NodeLost", "NodeShutdown", "Terminated", "Shutdown":
		return true
	}
	return false
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
		case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed", "ImageInspectError":
			return imagePull(e, p, s.Name, image, w), true
		case "CreateContainerConfigError":
			f := Finding{Class: ClassConfig, Grace: graceMissing, Message: w.Message, Next: "make the secret, config map or key it names, or correct the reference"}
			switch {
			case strings.Contains(w.Message, "failed to sync"):
				f.Grace = gracePull // the kubelet's cache, not the object
			case strings.Contains(w.Message, "runAsNonRoot"):
				f.Next = "let the image name a user by number, or set runAsUser"
			case !strings.Contains(w.Message, "not found") && !strings.Contains(w.Message, "find key"):
				f.Next = "correct the pod's configuration"
			}
			return f, true
		case "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun", "PostStartHookError", "CreatePodSandboxError":
			return startError(w.Reason, w.Message, s), true
		case "CrashLoopBackOff":
			if t := s.LastTerminationState.Terminated; t != nil && neverRan(t) {
				return startError(t.Reason, t.Message, s), true
			}
			f := crash(e, p, s)
			f.Transient = retries(p)
			return f, true
		}
	}
	t := s.State.Terminated
	switch {
	case t != nil && neverRan(t):
		return startError(t.Reason, t.Message, s), true
	case t != nil && retries(p) && t.ExitCode != 0:
		f := crash(e, p, s)
		f.Transient, f.over = true, true // the job says when it has been enough
		return f, true
	case t != nil && s.RestartCount >= 2 && !retries(p) && t.ExitCode != 0:
		return crash(e, p, s), true
	case s.State.Running != nil && !s.Ready && s.RestartCount >= 2 && s.LastTerminationState.Terminated != nil:
		// It is up again, and may stay: so does a program that waited for its database.
		f := crash(e, p, s)
		f.Transient = true
		return f, true
	case s.State.Running != nil && !s.Ready:
		if ev := probed(e, p, s.Name, ""); ev != nil {
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

// probed is the last word of a container's probe of a kind (Liveness, Startup),
// of any kind where that is "".
func probed(e Evidence, p *corev1.Pod, container, kind string) *corev1.Event {
	return lastEventWhere(e, p.UID, "Unhealthy", func(ev *corev1.Event) bool { return of(ev, container) && strings.HasPrefix(ev.Message, kind) })
}

// of reports whether an event is about a container of its pod.
func of(ev *corev1.Event, container string) bool {
	path := ev.InvolvedObject.FieldPath
	return path == "" || strings.HasSuffix(path, "{"+container+"}")
}

func startError(reason, message string, s corev1.ContainerStatus) Finding {
	f := Finding{Class: ClassConfig, Grace: graceStart, Message: fmt.Sprintf("it cannot be started (%s): %s", reason, message), Next: "check command, permissions and mounts"}
	switch {
	case strings.Contains(message, "executable file not found"), strings.Contains(message, "no such file or directory"):
		f.Next = "check that the image has the command, and check the mounts"
	case strings.Contains(message, "permission denied"):
		f.Next = "make the command executable in the image, or check the security context"
	}
	if s.RestartCount >= 1 {
		f.Grace = 0
	}
	return f
}

// pullTexts are what a registry or runtime says that no waiting changes.
var pullTexts = []struct{ text, message, next string }{
	{"no match for platform", "has no variant for the node's platform", "build it for the node's architecture"},
	{"unauthorized", "may not be pulled: the registry refuses the credentials", "check imagePullSecrets and the registry's rights"},
	{"no basic auth credentials", "may not be pulled: the registry refuses the credentials", "check imagePullSecrets and the registry's rights"},
	{"authentication required", "may not be pulled: the registry refuses the credentials", "check imagePullSecrets and the registry's rights"},
	{"denied", "may not be pulled: the registry denies access", "check imagePullSecrets and the registry's rights, and that the image exists"},
	{"forbidden", "may not be pulled: the registry denies access", "check imagePullSecrets and the registry's rights"},
	{"manifest unknown", "does not exist in the registry", "push it, or correct the reference"},
	{"not found", "does not exist in the registry", "push it, or correct the reference"},
}

// passing are texts of a pull that may go well later, whatever else they say.
var passing = []string{"no such host", "i/o timeout", "tls handshake timeout", "429", "too many requests", "toomanyrequests", "connection refused",
	"500 internal", "502 bad gateway", "503 service", "504 gateway", "connection reset", "server misbehaving", "context deadline exceeded"}

func imagePull(e Evidence, p *corev1.Pod, container, image string, w *corev1.ContainerStateWaiting) Finding {
	// The later "Back-off pulling image" has lost the cause: the first message counts.
	texts, tries := []string{w.Message}, int32(0)
	for _, ev := range e.Events {
		if ev.InvolvedObject.UID == p.UID && of(ev, container) && ev.Reason == "Failed" && strings.HasPrefix(ev.Message, "Failed to pull") {
			texts = append(texts, ev.Message)
			tries += max(ev.Count, 1)
		}
	}
	f := Finding{Class: ClassImage, Grace: gracePull, Message: fmt.Sprintf("image %q cannot be pulled: %s", image, said1(texts)), Next: "look at the registry and the way to it"}
	if tries >= 3 {
		f.Grace = 0
	}
	for _, t := range texts {
		low := strings.ToLower(t)
		if slices.ContainsFunc(passing, func(s string) bool { return strings.Contains(low, s) }) {
			if strings.Contains(low, "too many requests") || strings.Contains(low, "toomanyrequests") {
				f.Next = "the registry limits pulls: use a mirror or credentials"
			}
			continue
		}
		for _, known := range pullTexts {
			if strings.Contains(low, known.text) {
				f.Grace, f.Message, f.Next = 0, fmt.Sprintf("image %q %s", image, known.message), known.next
				return f
			}
		}
	}
	return f
}

// said1 is the longest of the texts: the back-off's has the least to say.
func said1(texts []string) string {
	return slices.MaxFunc(texts, func(a, b string) int { return len(a) - len(b) })
}

// failedPod is about a pod that is waited for itself, such as a hook: it has
// ended for good, since no controller makes another in its place.
func failedPod(e Evidence, p *corev1.Pod) Finding {
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			f := crash(e, p, s)
			if neverRan(t) {
				f = startError(t.Reason, t.Message, s)
				f.Grace = 0
			}
			f.Pod, f.Container, f.over = p.Name, s.Name, true
			return f
		}
	}
	return Finding{Class: ClassNode, Pod: p.Name, Since: since(p), Next: "look at the node and at the pod's events",
		Message: fmt.Sprintf("the pod failed, and no controller makes another: %s %s", p.Status.Reason, p.Status.Message)}
}
