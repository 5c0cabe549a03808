package failures

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// shape is what of pods and events is the same each time: neither names nor
// addresses, times or counts.
type shape struct {
	moments map[string]bool // states that pods were in
	events  map[string]bool // events about them; true once one came again
}

func newShape() shape { return shape{map[string]bool{}, map[string]bool{}} }

// pod adds the state that a pod is in.
func (s shape) pod(p *corev1.Pod) { s.moments[moment(p)] = true }

// event adds an event of a kubelet about the pod.
func (s shape) event(p *corev1.Pod, e *corev1.Event) {
	if e.Source.Component != "kubelet" {
		return // the scheduler's and the controllers' are their own anyway
	}
	where := e.InvolvedObject.FieldPath
	if where == "" {
		where = "pod"
	}
	line := fmt.Sprintf("%s %s %s: %s", e.Type, e.Reason, where, plain(p, e.Message))
	s.events[line] = s.events[line] || e.Count > 1
}

// String lists the states, each with its conditions and containers, then the
// events.
func (s shape) String() string {
	var b strings.Builder
	for _, m := range slices.Sorted(maps.Keys(s.moments)) {
		b.WriteString(m + "\n")
	}
	b.WriteString("events\n")
	for _, line := range slices.Sorted(maps.Keys(s.events)) {
		again := ""
		if s.events[line] {
			again = " (again)"
		}
		b.WriteString("  " + line + again + "\n")
	}
	return b.String()
}

func moment(p *corev1.Pod) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pod %s", p.Status.Phase)
	if p.Status.Reason != "" {
		fmt.Fprintf(&b, " %s: %s", p.Status.Reason, plain(p, p.Status.Message))
	}
	b.WriteString("\n")
	conditions := slices.SortedFunc(slices.Values(p.Status.Conditions), func(a, b corev1.PodCondition) int { return cmp.Compare(a.Type, b.Type) })
	for _, c := range conditions {
		fmt.Fprintf(&b, "  %s=%s", c.Type, c.Status)
		if c.Reason != "" {
			fmt.Fprintf(&b, " %s", c.Reason)
		}
		if c.Message != "" {
			fmt.Fprintf(&b, ": %s", plain(p, c.Message))
		}
		b.WriteString("\n")
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			started := c.Started != nil && *c.Started
			fmt.Fprintf(&b, "  container %s %s, %s, ready %t, started %t\n", c.Name, restarts(c.RestartCount), state(p, c.State), c.Ready, started)
			if c.LastTerminationState.Terminated != nil {
				fmt.Fprintf(&b, "    before %s\n", state(p, c.LastTerminationState))
			}
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func restarts(n int32) string {
	switch n {
	case 0:
		return "never restarted"
	case 1:
		return "restarted once"
	}
	return "restarted often"
}

func state(p *corev1.Pod, s corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return strings.TrimSpace(fmt.Sprintf("terminated %s %d %s", s.Terminated.Reason, s.Terminated.ExitCode, plain(p, s.Terminated.Message)))
	case s.Waiting != nil:
		return strings.TrimSpace(fmt.Sprintf("waiting %s %s", s.Waiting.Reason, plain(p, s.Waiting.Message)))
	}
	return "nothing"
}

var (
	durations = regexp.MustCompile(`\b(\d+(\.\d+)?(ms|µs|s|m|h))+\b`)
	addresses = regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+\b(:\d+)?`)
	sizes     = regexp.MustCompile(`\b\d+(Ki|Mi|Gi| bytes)`)
)

// plain takes out of a text what is of this one pod.
func plain(p *corev1.Pod, text string) string {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			text = strings.ReplaceAll(text, c.Image, "IMAGE")
		}
	}
	text = strings.NewReplacer(p.Name, "POD", p.Namespace, "NAMESPACE", string(p.UID), "UID").Replace(text)
	text = addresses.ReplaceAllString(text, "ADDRESS")
	text = sizes.ReplaceAllString(text, "SIZE")
	return durations.ReplaceAllString(text, "TIME")
}
