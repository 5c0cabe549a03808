// Package tenancy says what a service may bring into a cluster that it shares
// with others. The tenancy chart of the platform grants the same and no more:
// what is refused here before the first write, the cluster refuses as well.
package tenancy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kinds are the kinds that a service may deploy, by group, with the resource
// that a right to them names.
func Kinds() map[schema.GroupKind]string {
	out := map[schema.GroupKind]string{}
	for group, kinds := range map[string]map[string]string{
		"": {"ConfigMap": "configmaps", "Secret": "secrets", "Service": "services", "ServiceAccount": "serviceaccounts",
			"PersistentVolumeClaim": "persistentvolumeclaims", "Pod": "pods"},
		"apps":              {"Deployment": "deployments", "StatefulSet": "statefulsets"},
		"batch":             {"Job": "jobs", "CronJob": "cronjobs"},
		"autoscaling":       {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
		"policy":            {"PodDisruptionBudget": "poddisruptionbudgets"},
		"networking.k8s.io": {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"},
		// A role can only give what its maker has: the server sees to that.
		"rbac.authorization.k8s.io": {"Role": "roles", "RoleBinding": "rolebindings"},
	} {
		for kind, resource := range kinds {
			out[schema.GroupKind{Group: group, Kind: kind}] = resource
		}
	}
	return out
}

// Check returns everything that is wrong with an object of a service whose
// namespace is given.
func Check(o *unstructured.Unstructured, namespace string) []string {
	var out []string
	gk := o.GroupVersionKind().GroupKind()
	if _, ok := Kinds()[gk]; !ok {
		out = append(out, fmt.Sprintf("a service may not bring kind %s; it may bring %s", gk, allowed()))
	} else if ns := o.GetNamespace(); ns != "" && ns != namespace {
		out = append(out, fmt.Sprintf("it is in namespace %q, and the service has %q alone", ns, namespace))
	}
	if spec, ok := podSpec(o); ok {
		out = append(out, pod(spec)...)
	}
	return out
}

func allowed() string {
	var names []string
	for gk := range maps.Keys(Kinds()) {
		names = append(names, gk.Kind)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// podSpec finds the pod that an object makes.
func podSpec(o *unstructured.Unstructured) (map[string]any, bool) {
	for _, path := range [][]string{{"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}, {"spec"}} {
		spec, ok, _ := unstructured.NestedMap(o.Object, path...)
		if _, has := spec["containers"]; ok && has {
			return spec, true
		}
	}
	return nil, false
}

// pod finds what gives a pod the node that it runs on.
func pod(spec map[string]any) []string {
	var out []string
	for _, field := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		if spec[field] == true {
			out = append(out, field+" is not for services")
		}
	}
	for _, v := range entries(spec["volumes"]) {
		if _, ok := v["hostPath"]; ok {
			out = append(out, fmt.Sprintf("volume %v is a path of the node (hostPath), which is not for services", v["name"]))
		}
	}
	for _, list := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for _, c := range entries(spec[list]) {
			security, _ := c["securityContext"].(map[string]any)
			if security["privileged"] == true {
				out = append(out, fmt.Sprintf("container %v is privileged, which is not for services", c["name"]))
			}
			for _, p := range entries(c["ports"]) {
				if host, ok := p["hostPort"]; ok && fmt.Sprint(host) != "0" {
					out = append(out, fmt.Sprintf("container %v takes port %v of the node (hostPort), which is not for services", c["name"], host))
				}
			}
		}
	}
	return out
}

func entries(v any) []map[string]any {
	list, _ := v.([]any)
	var out []map[string]any
	for _, one := range list {
		if m, ok := one.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}
