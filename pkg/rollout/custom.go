package rollout

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// diagnoseCustom reads what the controller of an object without own rules says
// of it, and makes warnings of what does not make workloads ready or not.
func diagnoseCustom(e Evidence, u *unstructured.Unstructured) []Finding {
	conditions := conditionsOf(u)
	switch u.GetKind() {
	case "HorizontalPodAutoscaler":
		return autoscaler(conditions)
	case "PodDisruptionBudget":
		allowed, found, _ := unstructured.NestedInt64(u.Object, "status", "disruptionsAllowed")
		if expected, _, _ := unstructured.NestedInt64(u.Object, "status", "expectedPods"); found && allowed == 0 && expected > 0 {
			return []Finding{warning(ClassScaling, "it allows no disruption, so that a drain of a node would wait", "allow one pod to be away, or run one more")}
		}
		return nil
	case "Service", "Ingress":
		if f, ok := noAddress(e, u); ok {
			return []Finding{f}
		}
		return nil
	}
	if c, ok := conditions["Stalled"]; ok && c.status == "True" {
		return []Finding{{Class: ClassCondition, Since: c.since, Message: "its controller has given up: " + c.text(), Next: "look at the controller's log and at the object's fields"}}
	}
	if c, ok := conditions["NamesAccepted"]; ok && c.status == "False" {
		return []Finding{{Class: ClassCondition, Since: c.since, Grace: graceMissing, Message: "its names are taken: " + c.text(), Next: "another custom resource definition has one of the names"}}
	}
	for _, name := range readyConditions(u) {
		if c, ok := conditions[name]; ok && c.status != "True" {
			return []Finding{{Class: ClassCondition, Since: c.since, Transient: true, Message: fmt.Sprintf("its condition %s is %s: %s", name, c.status, c.text()), Next: "look at the object's events and at its controller"}}
		}
	}
	return nil
}

func warning(class, message, next string) Finding {
	return Finding{Class: class, Transient: true, Message: message, Next: next}
}

func autoscaler(conditions map[string]condition) []Finding {
	for _, name := range []string{"AbleToScale", "ScalingActive"} {
		if c, ok := conditions[name]; ok && c.status == "False" && c.reason != "ScalingDisabled" {
			f := warning(ClassScaling, "it does not scale: "+c.text(), "look whether metrics are served and the pods have requests")
			f.Since = c.since
			return []Finding{f}
		}
	}
	return nil
}

func noAddress(e Evidence, u *unstructured.Unstructured) (Finding, bool) {
	if kind, _, _ := unstructured.NestedString(u.Object, "spec", "type"); u.GetKind() == "Service" && kind != "LoadBalancer" || hasAddress(u) {
		return Finding{}, false
	}
	f := warning(ClassNetwork, "it has no address yet", "look at the controller that gives out addresses")
	for _, reason := range []string{"SyncLoadBalancerFailed", "FailedBuildModel", "FailedDeployModel", "Sync"} {
		if ev := lastEvent(e, u.GetUID(), reason); ev != nil && ev.Type == "Warning" {
			f.Message += ": " + ev.Message
			break
		}
	}
	return f, true
}

func hasAddress(u *unstructured.Unstructured) bool {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "loadBalancer", "ingress")
	return len(list) > 0
}

// readyConditions are the conditions that make an object ready, the first that
// it has.
func readyConditions(u *unstructured.Unstructured) []string {
	switch {
	case u.GetKind() == "CustomResourceDefinition" && strings.HasPrefix(u.GetAPIVersion(), "apiextensions.k8s.io/"):
		return []string{"Established"}
	case u.GetKind() == "APIService" && strings.HasPrefix(u.GetAPIVersion(), "apiregistration.k8s.io/"):
		return []string{"Available"}
	}
	return []string{"Ready", "Available"}
}

type condition struct {
	status, reason, message string
	observed                int64
	since                   time.Time
}

func (c condition) text() string {
	switch {
	case c.message == "":
		return c.reason
	case c.reason == "":
		return c.message
	}
	return c.reason + ": " + c.message
}

func conditionsOf(u *unstructured.Unstructured) map[string]condition {
	out := map[string]condition{}
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		text := func(field string) string { s, _ := m[field].(string); return s }
		c := condition{status: text("status"), reason: text("reason"), message: text("message")}
		c.observed, _ = m["observedGeneration"].(int64)
		c.since, _ = time.Parse(time.RFC3339, text("lastTransitionTime"))
		out[text("type")] = c
	}
	return out
}
