package failures

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// What the fakes show, a real kubelet was seen to show: each state and each
// event of testdata is in the recording, and the recording has no event that
// the fakes do not have.
func TestFakesAreTrue(t *testing.T) {
	for _, s := range scenarios() {
		if s.args == nil {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			checkTrue(t, s, load(t, recordingPath(s)).shape(), false)
		})
	}
}

func checkTrue(t *testing.T, s scenario, real shape, lasting bool) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", s.name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range s.invented(string(raw), real, lasting) {
		t.Errorf("no real kubelet showed this:\n%s", line)
	}
	for e := range real.events {
		// A node of today may be slower, and say so, than the one recorded.
		if !lasting && !strings.Contains(string(raw), "  "+e+"\n") && !strings.Contains(string(raw), "  "+e+" (again)\n") {
			t.Errorf("the fake does not show this:\n%s", e)
		}
	}
	if t.Failed() {
		t.Logf("the real kubelet showed\n%s", real)
	}
}

// invented are the states and events of a text that a real kubelet did not
// show, of the states only the lasting one where that is asked for.
func (s scenario) invented(text string, real shape, lasting bool) (out []string) {
	moments, events, _ := strings.Cut(text, "events\n")
	for _, m := range strings.Split("\n"+moments, "\npod ")[1:] {
		m = "pod " + strings.TrimSuffix(m, "\n")
		if !real.moments[m] && (!lasting || strings.Contains(m, s.lasts) && !real.lost(m)) {
			out = append(out, m)
		}
	}
	for _, line := range strings.Split(strings.TrimSuffix(events, "\n"), "\n") {
		event, again := strings.CutSuffix(strings.TrimPrefix(line, "  "), " (again)")
		if seenAgain, ok := real.events[event]; !ok || again && !seenAgain {
			out = append(out, line)
		}
	}
	return out
}

// lost tells whether a real kubelet came to a state of the pod, but had lost
// sight of how its container ended, as it does when an eviction and its look
// at the runtime meet.
func (s shape) lost(moment string) bool {
	pod, _, _ := strings.Cut(moment, "\n  container ")
	for m := range s.moments {
		if got, containers, _ := strings.Cut(m, "\n  container "); got == pod && strings.Contains(containers, "ContainerStatusUnknown") {
			return true
		}
	}
	return false
}

// The same failures, made on the real node. SLIPWAY_RECORD=1 records them.
func TestRealNodeFails(t *testing.T) {
	for _, s := range scenarios() {
		if s.args == nil {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			node := c.realNode(t)
			raw, err := os.ReadFile(filepath.Join("testdata", s.name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			c.apply(t, s.real(t, c.ns, node))
			got, record := &recording{Scenario: s.name}, os.Getenv("SLIPWAY_RECORD") != ""
			err = c.observe(patience(t), func(p *corev1.Pod, e *corev1.Event) bool {
				got.see(p, e)
				return len(s.invented(string(raw), got.shape(), !record)) == 0
			})
			if err != nil {
				t.Error(err)
			}
			checkTrue(t, s, got.shape(), !record)
			if record && !t.Failed() {
				got.write(t, recordingPath(s), sandboxtest.Open(t).Registry.Address, node.Name)
			}
		})
	}
}

// real is the scenario's deployment on the real node, with a program that fails.
func (s scenario) real(t *testing.T, label string, node *corev1.Node) *appsv1.Deployment {
	t.Helper()
	d := s.deployment(false)
	spec := &d.Spec.Template.Spec
	spec.NodeSelector = map[string]string{corev1.LabelHostname: node.Labels[corev1.LabelHostname]}
	spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	image := push(t, label)
	if s.kind == ImagePull {
		repository, _, _ := strings.Cut(image, "@")
		image = fmt.Sprintf("%s@sha256:%064d", repository, 0)
	}
	containers := spec.Containers
	if len(spec.InitContainers) > 0 {
		containers = spec.InitContainers
		spec.Containers[0].Image = image
	}
	containers[0].Args = s.args
	if s.kind != ImageName {
		containers[0].Image = image
	}
	return d
}

// realNode is the node that has a kubelet.
func (c cluster) realNode(t *testing.T) *corev1.Node {
	t.Helper()
	nodes, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes.Items {
		if n.Annotations[NodeAnnotation] == "" {
			return &nodes.Items[i]
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("the sandbox has no real node")
	}
	t.Skip("the sandbox has no real node here: it needs root")
	return nil
}
