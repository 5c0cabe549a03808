// Package rollout says whether workloads are ready, and why they are not:
// own rules for each kind, judged on the pods of the new revision alone, from
// watches. Diagnose is a pure function from objects and events to findings.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Ref names an object.
type Ref struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// RefOf returns the name of an object.
func RefOf(u *unstructured.Unstructured) Ref {
	return Ref{u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName()}
}

// String returns the name as a message shows it: Deployment orders-dev/orders.
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Classes of findings.
const (
	ClassImage     = "image"
	ClassConfig    = "config"
	ClassCrash     = "crash"
	ClassMemory    = "memory"
	ClassAdmission = "admission"
	ClassSchedule  = "schedule"
	ClassVolume    = "volume"
	ClassProbe     = "probe"
	ClassJob       = "job"
	ClassDeadline  = "deadline"
	ClassNode      = "node"
	ClassStuck     = "stuck"     // a controller waits for what will not come
	ClassCondition = "condition" // a custom resource's controller says so itself
	ClassScaling   = "scaling"
	ClassNetwork   = "network"
)

// Finding is a reason why a workload is not ready.
type Finding struct {
	Class     string    `json:"class"`
	Workload  Ref       `json:"workload"`
	Pod       string    `json:"pod,omitempty"`  // the one that shows it best
	Pods      int       `json:"pods,omitempty"` // how many show it, where that is more than one
	Container string    `json:"container,omitempty"`
	Message   string    `json:"message"`
	Since     time.Time `json:"since,omitzero"`
	Next      string    `json:"next"`
	LogTail   string    `json:"logTail,omitempty"`
	// Transient findings are told and waited for. The others end a wait once
	// they have been there for Grace, since their cause may still be on its way.
	Transient bool          `json:"transient,omitempty"`
	Grace     time.Duration `json:"grace,omitempty"`

	over     bool // the container ended for good: its log is that of its last and only run
	deadline bool // a controller's own deadline made it end the wait
}

// Sentence says it all in one line: which container of which workload, what,
// since when, what to try.
func (f Finding) Sentence() string {
	var b strings.Builder
	if f.Container != "" {
		fmt.Fprintf(&b, "container %q of ", f.Container)
	}
	b.WriteString(f.Workload.String())
	if f.Pods > 1 {
		fmt.Fprintf(&b, " (%d pods)", f.Pods)
	}
	fmt.Fprintf(&b, ": %s", f.Message)
	if !f.Since.IsZero() {
		fmt.Fprintf(&b, " (since %s)", f.Since.UTC().Format("15:04:05 UTC"))
	}
	if f.Next != "" {
		fmt.Fprintf(&b, "; %s", f.Next)
	}
	return oneLine(b.String())
}

// Ends reports whether the finding had ended a wait at a moment, counted from
// when the trouble began.
func (f Finding) Ends(at time.Time) bool {
	return !f.Transient && (f.Grace == 0 || at.Sub(f.Since) >= f.Grace)
}

// key tells a trouble from others, for as long as it lasts: which pod shows it
// and how often it came may change meanwhile.
func (f Finding) key() string {
	return fmt.Sprintf("%s|%s|%s", f.Class, f.Workload, f.Container)
}

// order has the cause before its consequences.
var order = []string{ClassImage, ClassConfig, ClassMemory, ClassJob, ClassCrash, ClassAdmission, ClassVolume, ClassSchedule, ClassStuck,
	ClassCondition, ClassDeadline, ClassProbe, ClassNode, ClassScaling, ClassNetwork}

// rank puts what certainly ends a rollout first, and among equals the cause
// before its consequences.
func rank(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if a.Transient != b.Transient {
			if a.Transient {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.Grace, b.Grace), cmp.Compare(slices.Index(order, a.Class), slices.Index(order, b.Class)))
	})
}

// merge makes one finding of those that say the same of several pods.
func merge(findings []Finding) []Finding {
	var out []Finding
	for _, f := range findings {
		i := slices.IndexFunc(out, func(o Finding) bool {
			return o.Class == f.Class && o.Container == f.Container && o.Next == f.Next && o.Transient == f.Transient && o.Pod != "" && f.Pod != "" && o.Pod != f.Pod
		})
		if i < 0 {
			f.Pods = 1
			out = append(out, f)
			continue
		}
		pods := out[i].Pods + 1
		if f.Grace < out[i].Grace {
			out[i] = f
		}
		out[i].Pods = pods
	}
	return out
}
