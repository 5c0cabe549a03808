package failures

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func asking(annotations map[string]string) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "migrate"}, {Name: "tunnel", RestartPolicy: &always}},
		Containers:     []corev1.Container{{Name: "app"}, {Name: "proxy"}},
	}}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		annotations map[string]string
		want        Request
		wrong       []string // pieces of the error; none: it is right
	}{
		{annotations: map[string]string{Annotation: "crash-loop"}, want: Request{Kind: CrashLoop, After: 200 * time.Millisecond, For: time.Second, Container: "app", ExitCode: 1}},
		{annotations: map[string]string{Annotation: "init", ExitCodeAnnotation: "7", TimesAnnotation: "3"}, want: Request{Kind: Init, Times: 3, After: 200 * time.Millisecond, For: time.Second, Container: "migrate", ExitCode: 7}},
		{
			annotations: map[string]string{Annotation: "image-pull", ContainerAnnotation: "proxy", ForAnnotation: "2.5", MessageAnnotation: "denied"},
			want:        Request{Kind: ImagePull, For: 2500 * time.Millisecond, Container: "proxy", Message: "denied", ExitCode: 1},
		},
		{annotations: map[string]string{Annotation: "fire"}, wrong: []string{`"fire" is none of [config crash-loop evict image-name`}},
		{annotations: map[string]string{Annotation: "init", ContainerAnnotation: "tunnel"}, wrong: []string{`"tunnel" is a sidecar`}},
		{annotations: map[string]string{Annotation: "init", ContainerAnnotation: "app"}, wrong: []string{`no init container "app"`}},
		{annotations: map[string]string{Annotation: "evict", TimesAnnotation: "2"}, wrong: []string{`fail-times: it means nothing with "evict"`}},
		{annotations: map[string]string{Annotation: "config", AfterAnnotation: "2"}, wrong: []string{`fail-after: it means nothing with "config"`}},
		{annotations: map[string]string{Annotation: "oom", ExitCodeAnnotation: "2"}, wrong: []string{`fail-exit-code: it means nothing with "oom"`}},
		{
			annotations: map[string]string{Annotation: "crash-loop", Annotation + "-time": "2", ForAnnotation: "NaN", AfterAnnotation: "0", ExitCodeAnnotation: "256", TimesAnnotation: "many"},
			wrong:       []string{"fail-time: there is no such setting", `fail-for: "NaN" is no number`, `fail-after: "0" is no number`, `fail-exit-code: "256" is no number from 1 to 255`, `fail-times: "many"`},
		},
	} {
		got, err := parse(asking(c.annotations))
		if len(c.wrong) == 0 && (err != nil || got != c.want) {
			t.Errorf("%v: %+v, %v", c.annotations, got, err)
		}
		for _, piece := range c.wrong {
			if err == nil || !strings.Contains(err.Error(), piece) {
				t.Errorf("%v: %v, want %q", c.annotations, err, piece)
			}
		}
	}
}

// A play that is begun anew goes on from what the pod's status tells.
func TestPlayGoesOn(t *testing.T) {
	over := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}
	for _, c := range []struct {
		name   string
		status corev1.ContainerStatus
		want   int32
	}{
		{"nothing has run", corev1.ContainerStatus{State: waiting("ContainerCreating", "")}, 0},
		{"it runs", corev1.ContainerStatus{RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}, 2},
		{"it has ended", corev1.ContainerStatus{RestartCount: 2, State: over}, 3},
		{"it waits after an end", corev1.ContainerStatus{RestartCount: 2, State: waiting("CrashLoopBackOff", ""), LastTerminationState: over}, 3},
	} {
		pod := asking(nil)
		c.status.Name = "app"
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{c.status}
		p := &play{request: Request{Container: "app"}, state: newPodState(pod, "")}
		if got := p.starts(); got != c.want {
			t.Errorf("%s: start %d comes next, want %d", c.name, got, c.want)
		}
	}
}
