package failures

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// recording is what a real kubelet made of a scenario's first pod, without
// what is of the machine: the pod as it was in the end, every status that it
// had in the order of their coming, and the events about it. The diagnosis
// engine is tested with it too.
type recording struct {
	Scenario string             `json:"scenario"`
	Pod      *corev1.Pod        `json:"pod"`
	Statuses []corev1.PodStatus `json:"statuses"`
	Events   []*corev1.Event    `json:"events"`
}

func recordingPath(s scenario) string {
	return filepath.Join("..", "..", "..", "pkg", "rollout", "testdata", "kubelet", s.name+".json")
}

// see takes up a state of the pod, where it is another than before, or an
// event, in the place of an older count of it. Other pods are not looked at.
func (r *recording) see(p *corev1.Pod, e *corev1.Event) {
	switch {
	case r.Pod != nil && r.Pod.UID != p.UID || p.DeletionTimestamp != nil:
	case e != nil:
		r.Events = append(slices.DeleteFunc(r.Events, func(o *corev1.Event) bool { return o.UID == e.UID }), e)
	case r.Pod == nil || moment(r.Pod) != moment(p):
		r.Pod, r.Statuses = p, append(r.Statuses, p.Status)
	}
}

// shape is the shape of all that was recorded.
func (r *recording) shape() shape {
	s := newShape()
	for _, status := range r.Statuses {
		if status.StartTime != nil { // before, no kubelet has seen it
			p := r.Pod.DeepCopy()
			p.Status = status
			s.pod(p)
		}
	}
	for _, e := range r.Events {
		s.event(r.Pod, e)
	}
	return s
}

func (r *recording) write(t *testing.T, path, registry, node string) {
	t.Helper()
	r.Pod = r.Pod.DeepCopy()
	r.Pod.ManagedFields, r.Pod.ResourceVersion = nil, ""
	for i, e := range r.Events {
		e.ManagedFields, e.ResourceVersion, e.Name = nil, "", fmt.Sprintf("event-%d", i+1)
		e.InvolvedObject.ResourceVersion = ""
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a folder of the repository
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(r.plain(string(raw), registry, node), '\n'), 0o644); err != nil { //nolint:gosec // a file of the repository
		t.Fatal(err)
	}
}

// plain takes out of a recording what names this machine and this run.
func (r *recording) plain(text, registry, node string) []byte {
	hash := r.Pod.Labels["pod-template-hash"]
	text = strings.NewReplacer(r.Pod.Namespace, "shop", registry, "registry.example.com", `"`+node+`"`, `"node-1"`, " "+node, " node-1").Replace(text)
	text = strings.ReplaceAll(text, hash, "0123456789")
	number := func(expression, format string) {
		known := map[string]string{}
		text = regexp.MustCompile(expression).ReplaceAllStringFunc(text, func(s string) string {
			if _, ok := known[s]; !ok {
				known[s] = fmt.Sprintf(format, len(known)+1)
			}
			return known[s]
		})
	}
	number(`orders-0123456789-[a-z0-9]{5}`, "orders-0123456789-pod%02d")
	number(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`, "00000000-0000-4000-8000-%012d")
	number(`\b[0-9a-f]{64}\b`, "%064x")
	number(`\b\d+\.\d+\.\d+\.\d+\b`, "192.0.2.%d")
	return []byte(shift(text))
}

var times = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"`)

// shift moves all times, so that the first one is the beginning of 2026.
func shift(text string) string {
	var first time.Time
	each := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339Nano, strings.Trim(s, `"`))
		if err != nil {
			panic(err) // the expression found it
		}
		return at
	}
	for _, s := range times.FindAllString(text, -1) {
		if at := each(s); at.Unix() != 0 && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return times.ReplaceAllStringFunc(text, func(s string) string {
		if each(s).Unix() == 0 {
			return s // when something began that never did
		}
		layout := time.RFC3339
		if strings.Contains(s, ".") {
			layout = "2006-01-02T15:04:05.000000Z07:00" // as Kubernetes writes its MicroTime
		}
		return `"` + epoch.Add(each(s).Sub(first)).Format(layout) + `"`
	})
}

func load(t *testing.T, path string) *recording {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{}
	if err := json.Unmarshal(raw, r); err != nil {
		t.Fatal(err)
	}
	return r
}
