package rollout

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ended is how a container ended last, or nil.
func ended(s corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	if s.State.Terminated != nil {
		return s.State.Terminated
	}
	return s.LastTerminationState.Terminated
}

// crash is about a container that ran and ended.
func crash(e Evidence, p *corev1.Pod, s corev1.ContainerStatus) Finding {
	f := Finding{Class: ClassCrash, Next: "read its last lines in the log"}
	t := ended(s)
	if t == nil {
		f.Message = fmt.Sprintf("it keeps ending (%d restarts)", s.RestartCount)
		return f
	}
	f.Since = t.FinishedAt.Time
	if t.Reason == "OOMKilled" {
		f.Class, f.Message, f.Next = ClassMemory, fmt.Sprintf("it was killed for using more memory than its limit%s, %d times", limitOf(p, s.Name), s.RestartCount), "raise resources.limits.memory, or use less"
		return f
	}
	f.Message = fmt.Sprintf("it ended with exit code %d (%s)", t.ExitCode, t.Reason)
	if s.RestartCount > 0 {
		f.Message += fmt.Sprintf(" and was restarted %s", times(s.RestartCount))
	}
	if why, next := killed(e, p, s.Name); why != "" {
		f.Message += ": " + why
		f.Next = next
		return f
	}
	if t.Message != "" {
		f.Message += ": " + t.Message
	}
	switch {
	case t.ExitCode == 0:
		f.Message += ": it ended by itself"
		f.Next = "give it a command that keeps running, or make it a Job"
	case t.ExitCode == 126 || t.ExitCode == 127:
		f.Next = "check that the image has the command that is called, and that it may be executed"
	case t.ExitCode > 128 && signals[t.ExitCode-128] != "":
		f.Message += ": killed by " + signals[t.ExitCode-128]
	}
	return f
}

func times(n int32) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// signals that a program dies of.
var signals = map[int32]string{2: "SIGINT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}

// killed says whether the kubelet ended a container because of a probe. After
// the probe's last word it starts the container again by itself.
func killed(e Evidence, p *corev1.Pod, container string) (why, next string) {
	for _, k := range []struct{ probe, field, next string }{
		{"startup", "Startup", "give the startup probe more time (failureThreshold), or look why the start takes so long"},
		{"liveness", "Liveness", "look why the probe fails; a slow start needs a startup probe"},
	} {
		ev := lastEventWhere(e, p.UID, "Killing", func(ev *corev1.Event) bool {
			return of(ev, container) && strings.Contains(ev.Message, "failed "+k.probe+" probe")
		})
		if ev == nil {
			continue
		}
		why = "the kubelet killed it, since its " + k.probe + " probe failed"
		if said := probed(e, p, container, k.field); said != nil {
			_, text, _ := strings.Cut(said.Message, "probe failed: ")
			why += ": " + text
		}
		return why, k.next
	}
	return "", ""
}

// limitOf is a container's limit of memory, as a piece of a sentence.
func limitOf(p *corev1.Pod, container string) string {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			if q, ok := c.Resources.Limits[corev1.ResourceMemory]; ok && c.Name == container {
				return " of " + q.String()
			}
		}
	}
	return ""
}
