package rollout

import (
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Evidence is what is known of one workload: the live object, what is of its
// new revision, the events about any of them, and what its containers said.
type Evidence struct {
	Workload    Ref                  `json:"workload"`
	Live        runtime.Object       `json:"-"` // nil while it is not there
	ReplicaSets []*appsv1.ReplicaSet `json:"replicaSets,omitempty"`
	Pods        []*corev1.Pod        `json:"pods,omitempty"`
	// Earlier are the pods of a stateful set's older revisions: it may wait for them.
	Earlier []*corev1.Pod   `json:"earlier,omitempty"`
	Events  []*corev1.Event `json:"events,omitempty"`
	Logs    []Log           `json:"logs,omitempty"`
	Start   time.Time       `json:"start,omitzero"` // events that ended before are of another rollout; zero takes all
}

// Log is the end of what a container said, in its run or in the one before.
type Log struct {
	Pod       string `json:"pod"`
	Container string `json:"container"`
	Previous  bool   `json:"previous,omitempty"`
	Text      string `json:"text,omitempty"`
	Missing   string `json:"missing,omitempty"` // why there is none
}

// BundleSchema names the version of a bundle's form.
const BundleSchema = "slipway.evidence/v1"

// Bundle is the evidence of a wait that ended badly, as it is saved: enough to
// diagnose it again without a cluster.
type Bundle struct {
	Schema    string            `json:"schema"`
	Release   string            `json:"release,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	Revision  int               `json:"revision,omitempty"`
	Versions  map[string]string `json:"versions,omitempty"` // of the program, the chart, the cluster
	Start     time.Time         `json:"start"`              // of the wait
	Saved     time.Time         `json:"saved"`
	Objects   []State           `json:"objects,omitempty"`
	Evidence  []Evidence        `json:"evidence"`
	Diff      string            `json:"diff,omitempty"`  // what the release changed, as text
	Notes     []string          `json:"notes,omitempty"` // what could not be read, and why
	Error     string            `json:"error,omitempty"` // how the wait ended
}

// Diagnose returns the findings of all workloads of the bundle, the likeliest
// cause first.
func (b Bundle) Diagnose() []Finding {
	var all []Finding
	for _, e := range b.Evidence {
		all = append(all, Diagnose(e)...)
	}
	rank(all)
	return all
}

// ReadBundle reads a bundle that was saved.
func ReadBundle(raw []byte) (Bundle, error) {
	var b Bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		return Bundle{}, fmt.Errorf("reading saved evidence: %w", err)
	}
	if b.Schema != BundleSchema {
		return Bundle{}, fmt.Errorf("reading saved evidence: its schema is %q, not %q", b.Schema, BundleSchema)
	}
	return b, nil
}

// plain is Evidence without its methods.
type plain Evidence

type withLive struct {
	plain
	Live json.RawMessage `json:"live,omitempty"`
}

// MarshalJSON writes the live object with its kind.
func (e Evidence) MarshalJSON() ([]byte, error) {
	out := withLive{plain: plain(e)}
	if e.Live != nil {
		raw, err := json.Marshal(e.Live)
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", e.Workload, err)
		}
		out.Live = raw
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the live object by its kind.
func (e *Evidence) UnmarshalJSON(raw []byte) error {
	var in withLive
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	*e = Evidence(in.plain)
	e.Pods, e.Earlier, e.Events, e.ReplicaSets = present(e.Pods), present(e.Earlier), present(e.Events), present(e.ReplicaSets)
	if len(in.Live) == 0 || string(in.Live) == "null" {
		return nil
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(in.Live); err != nil {
		return fmt.Errorf("reading %s: %w", e.Workload, err)
	}
	live, err := typed(u)
	e.Live = live
	return err
}

// present drops what a hostile or broken file leaves empty.
func present[T any](list []*T) []*T {
	out := list[:0]
	for _, p := range list {
		if p != nil {
			out = append(out, p)
		}
	}
	return out
}

// typed gives an object of a kind with rules its Go type; others stay as they are.
func typed(u *unstructured.Unstructured) (runtime.Object, error) {
	into := map[schema.GroupVersionKind]func() runtime.Object{
		corev1.SchemeGroupVersion.WithKind("Pod"):                   func() runtime.Object { return &corev1.Pod{} },
		corev1.SchemeGroupVersion.WithKind("Event"):                 func() runtime.Object { return &corev1.Event{} },
		corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"): func() runtime.Object { return &corev1.PersistentVolumeClaim{} },
		appsv1.SchemeGroupVersion.WithKind("Deployment"):            func() runtime.Object { return &appsv1.Deployment{} },
		appsv1.SchemeGroupVersion.WithKind("ReplicaSet"):            func() runtime.Object { return &appsv1.ReplicaSet{} },
		appsv1.SchemeGroupVersion.WithKind("StatefulSet"):           func() runtime.Object { return &appsv1.StatefulSet{} },
		appsv1.SchemeGroupVersion.WithKind("DaemonSet"):             func() runtime.Object { return &appsv1.DaemonSet{} },
		batchv1.SchemeGroupVersion.WithKind("Job"):                  func() runtime.Object { return &batchv1.Job{} },
	}[u.GroupVersionKind()]
	if into == nil {
		return u, nil
	}
	out := into()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, out); err != nil {
		return nil, fmt.Errorf("reading %s: %w", RefOf(u), err)
	}
	return out, nil
}
