// Package rollout says whether workloads are ready, and why they are not:
// own rules for each kind, judged on the pods of the new revision alone, from
// watches. Diagnose is a pure function from objects and events to findings.
package rollout

import (
	"fmt"
	"sort"
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
)

// Finding is a reason why a workload is not ready.
type Finding struct {
	Class     string    `json:"class"`
	Workload  Ref       `json:"workload"`
	Pod       string    `json:"pod,omitempty"`
	Container string    `json:"container,omitempty"`
	Message   string    `json:"message"`
	Since     time.Time `json:"since"`
	Next      string    `json:"next"`
	LogTail   string    `json:"logTail,omitempty"`
	// Transient findings are told and waited for. The others end a wait once
	// they have been there for Grace, since their cause may still be on its way.
	Transient bool          `json:"transient,omitempty"`
	Grace     time.Duration `json:"-"`

	count int32 // what makes a later state of the same trouble another one
	over  bool  // the container ended for good: its log is that of its last and only run
}

// Sentence says it all in one line: which container of which workload, what,
// since when, what to try.
func (f Finding) Sentence() string {
	var b strings.Builder
	if f.Container != "" {
		fmt.Fprintf(&b, "container %q of ", f.Container)
	}
	fmt.Fprintf(&b, "%s: %s", f.Workload, f.Message)
	if !f.Since.IsZero() {
		fmt.Fprintf(&b, " (since %s)", f.Since.UTC().Format("15:04:05 UTC"))
	}
	if f.Next != "" {
		fmt.Fprintf(&b, "; %s", f.Next)
	}
	return b.String()
}

func (f Finding) key() string {
	return fmt.Sprintf("%s|%s|%s|%s|%d", f.Class, f.Workload, f.Pod, f.Container, f.count)
}

// rank puts what certainly ends a rollout first, and among equals the cause
// before its consequences.
func rank(findings []Finding) {
	order := map[string]int{ClassImage: 0, ClassConfig: 1, ClassMemory: 2, ClassCrash: 3, ClassAdmission: 4, ClassVolume: 5,
		ClassSchedule: 6, ClassJob: 7, ClassProbe: 8, ClassNode: 9, ClassDeadline: 10}
	sort.SliceStable(findings, func(i, j int) bool {
		a, b := findings[i], findings[j]
		if a.Transient != b.Transient {
			return !a.Transient
		}
		if a.Grace != b.Grace {
			return a.Grace < b.Grace
		}
		return order[a.Class] < order[b.Class]
	})
}
