package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Need is a release that another one waits for, and why.
type Need struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// InFile is why of a need that people wrote down.
const InFile = "declared"

// Declared turns the names of a file into needs.
func Declared(names []string) []Need {
	var out []Need
	for _, n := range names {
		out = append(out, Need{Name: n, Why: InFile})
	}
	return out
}

// Infer adds the needs that follow from what the releases bring: who uses a
// kind waits for who defines it, and who is judged by a webhook waits until it
// answers. A need that would close a circle is left out, so that what people
// declared wins. What could not be found out is told to tell.
func Infer(ctx context.Context, nodes []Node, tell func(format string, args ...any)) error {
	if !slices.ContainsFunc(nodes, func(n Node) bool { return n.Chart.Brings() }) {
		return nil
	}
	var known []helmrelease.Definition
	for _, n := range nodes {
		d, err := n.Chart.Definitions()
		if err != nil {
			return fmt.Errorf("release %q: %w", n.Name, err)
		}
		known = append(known, d...)
	}
	surveys := make([]helmrelease.Survey, len(nodes))
	for i, n := range nodes {
		var err error
		if surveys[i], err = n.Look(ctx, known); err != nil {
			tell("%s: its needs are not inferred, only the declared ones count: %v", n.Name, err)
			surveys[i].Definitions, _ = n.Chart.Definitions() // they were read above
		}
	}
	// Kinds before webhooks: without its kind an object cannot even be judged.
	for _, why := range []func(user, provider helmrelease.Survey) string{definedBy, judgedBy} {
		for i := range nodes {
			for j := range nodes {
				if i == j {
					continue
				}
				if reason := why(surveys[i], surveys[j]); reason != "" {
					infer(nodes, i, nodes[j].Name, reason)
				}
			}
		}
	}
	return nil
}

// infer adds a need unless it is there, or would close a circle.
func infer(nodes []Node, i int, need, why string) {
	if slices.ContainsFunc(nodes[i].Needs, func(n Need) bool { return n.Name == need }) || reaches(nodes, need, nodes[i].Name) {
		return
	}
	nodes[i].Needs = append(nodes[i].Needs, Need{Name: need, Why: why})
}

// reaches reports whether a release needs another one, directly or not.
func reaches(nodes []Node, from, to string) bool {
	seen := map[string]bool{}
	var visit func(string) bool
	visit = func(name string) bool {
		if name == to {
			return true
		}
		if seen[name] {
			return false
		}
		seen[name] = true
		i := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == name })
		return i >= 0 && slices.ContainsFunc(nodes[i].Needs, func(n Need) bool { return visit(n.Name) })
	}
	return visit(from)
}

// definedBy says which kind of a provider a release uses, or nothing.
func definedBy(user, provider helmrelease.Survey) string {
	for _, d := range provider.Definitions {
		brings := slices.ContainsFunc(user.Definitions, func(own helmrelease.Definition) bool { return own.GroupKind == d.GroupKind })
		uses := slices.ContainsFunc(user.Objects, func(o helmrelease.Object) bool { return o.GroupKind() == d.GroupKind })
		if uses && !brings {
			return "it brings the kind " + d.String()
		}
	}
	return ""
}

// judgedBy says which webhook of a provider judges an object of a release, or
// nothing.
func judgedBy(user, provider helmrelease.Survey) string {
	for _, w := range provider.Webhooks {
		for _, o := range user.Objects {
			if inNamespace(w.Namespace, o.Namespace) && slices.ContainsFunc(w.Rules, func(r admissionv1.RuleWithOperations) bool { return judges(r, o) }) {
				return fmt.Sprintf("its webhook %s judges %s %s", w.Name, o.Kind, o.Name)
			}
		}
	}
	return ""
}

func judges(r admissionv1.RuleWithOperations, o helmrelease.Object) bool {
	if !slices.Contains(r.Operations, admissionv1.Create) && !slices.Contains(r.Operations, admissionv1.Update) && !slices.Contains(r.Operations, admissionv1.OperationAll) {
		return false
	}
	plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind)
	if named(r.APIGroups, o.Group) && named(r.APIVersions, o.Version) && named(r.Resources, plural.Resource) {
		return true
	}
	// A workload's pods are what most webhooks wait for.
	return slices.Contains(workloads, o.Kind) && named(r.APIGroups, "") && named(r.APIVersions, "v1") && named(r.Resources, "pods")
}

var workloads = []string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"}

func named(list []string, name string) bool {
	return slices.ContainsFunc(list, func(l string) bool { l = strings.TrimSuffix(l, "/*"); return l == "*" || l == name })
}

// inNamespace reports whether a webhook answers for a namespace. Only its name
// is known here: where other labels decide, it may.
func inNamespace(s *metav1.LabelSelector, namespace string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if s == nil || err != nil {
		return true
	}
	requirements, _ := selector.Requirements()
	name := labels.Set{corev1.LabelMetadataName: namespace}
	for _, r := range requirements {
		if r.Key() == corev1.LabelMetadataName && !r.Matches(name) {
			return false
		}
	}
	return true
}
