package review

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Forgotten is a review app that was found, and what came of it.
type Forgotten struct {
	App
	Reason  string `json:"reason"` // why it is removed, or kept
	Removed bool   `json:"removed"`
	Error   string `json:"error,omitempty"`
}

// Sweep is a look for apps that nobody needs any more.
type Sweep struct {
	Remover
	Environment string
	// Namespace gives the namespace that an app has by the landscape, "" where
	// the landscape has no such service.
	Namespace func(service, mr string) string
	// State is what GitLab says of a merge request: opened, merged, closed or
	// locked; "" where it cannot be asked.
	State  func(ctx context.Context, service, mr string) string
	Now    time.Time
	DryRun bool
}

// Run removes what is forgotten: an app whose merge request has ended, or that
// has outlived its time. Namespaces without our labels are not even listed,
// and one whose name is not what its labels make of it is left to a person.
// It goes on after a failure.
func (s Sweep) Run(ctx context.Context) ([]Forgotten, error) {
	selector := fmt.Sprintf("%s=%s,%s=%s,%s,%s", labelManaged, manager, labelEnvironment, s.Environment, labelService, labelMR)
	list, err := s.Cluster.Clientset().CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("listing the namespaces of review apps: %w", denied(err))
	}
	out := []Forgotten{}
	var errs []error
	for i := range list.Items {
		f, err := s.one(ctx, &list.Items[i])
		out = append(out, f)
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return out, errors.Join(errs...)
}

func (s Sweep) one(ctx context.Context, ns *corev1.Namespace) (Forgotten, error) {
	f := Forgotten{App: App{Service: ns.Labels[labelService], Environment: s.Environment, MR: ns.Labels[labelMR], Namespace: ns.Name}}
	if !f.owns(ns) || s.Namespace(f.Service, f.MR) != ns.Name {
		f.Reason = "kept: its labels do not fit its name, or the landscape has no such service; look at it by hand"
		return f, nil
	}
	state := s.State(ctx, f.Service, f.MR)
	over, why := forgotten(ns, state, s.Now)
	f.Reason = why
	if !over || s.DryRun {
		return f, nil
	}
	s.Deps.Run.Log.Printf("%s: %s: removing it", ns.Name, why)
	err := s.remove(ctx, f.App, ns, func(now *corev1.Namespace) bool {
		over, _ := forgotten(now, state, s.Now)
		return over
	})
	switch {
	case errors.Is(err, errKept), tool.CodeOf(err) == tool.Held:
		f.Reason = "kept: " + err.Error()
		return f, nil
	case err != nil:
		f.Error = err.Error()
		return f, fmt.Errorf("removing %q: %w", ns.Name, err)
	}
	f.Removed = true
	return f, nil
}

// forgotten decides by the state of the merge request, where it is known, and
// by the time that the last deployment gave the app.
func forgotten(ns *corev1.Namespace, state string, now time.Time) (bool, string) {
	switch state {
	case "merged", "closed":
		return true, "its merge request is " + state
	}
	until, err := time.Parse(time.RFC3339, ns.Annotations[annotationExpires])
	switch {
	case ns.Annotations[annotationExpires] == "":
		return false, "kept: its merge request is not known to have ended, and it has no end of its own"
	case err != nil:
		return false, "kept: when it ends cannot be read; look at it by hand"
	case now.After(until):
		return true, "its time was over at " + until.Format(time.RFC3339)
	}
	return false, "kept until " + until.Format(time.RFC3339)
}
