package helmrelease

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	autoscaling "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/kube"
)

// autoscaled are the live objects whose number of replicas an autoscaler
// decides: one of the manifest, or one that is in the namespace anyway and is
// not taken away by these changes.
func (c *Client) autoscaled(ctx context.Context, changes []change) (map[key]bool, error) {
	scaled, going, namespaces := map[key]bool{}, map[key]bool{}, map[string]bool{}
	for _, ch := range changes {
		gvk := ch.GroupVersionKind()
		if gvk.Group == autoscaling.GroupName && gvk.Kind == "HorizontalPodAutoscaler" {
			going[ch.key()] = ch.action == Delete
			if ch.action != Delete {
				note(scaled, ch.GetNamespace(), ch.Object)
			}
		}
		// Where as many are asked for as there are, nobody need be asked.
		if n, has := replicasOf(ch.live); has && ch.action != Delete {
			if wanted, ok := replicasOf(ch.Unstructured); ok && wanted != n || !ok && n != 1 {
				namespaces[ch.GetNamespace()] = true
			}
		}
	}
	for ns := range namespaces {
		if ns == "" {
			continue
		}
		list, err := c.cluster.Clientset().AutoscalingV2().HorizontalPodAutoscalers(ns).List(ctx, metav1.ListOptions{})
		if kube.Denied(err) {
			c.warn("the autoscalers of namespace %s may not be listed: replicas are sent as the chart has them", ns)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing the autoscalers of namespace %q: %w", ns, err)
		}
		for _, a := range list.Items {
			if k := (key{autoscaling.GroupName, "HorizontalPodAutoscaler", ns, a.Name}); !going[k] {
				t := a.Spec.ScaleTargetRef
				noteTarget(scaled, ns, t.APIVersion, t.Kind, t.Name)
			}
		}
	}
	return scaled, nil
}

// replicasOf is how many replicas an object asks for, where it says so.
func replicasOf(u *unstructured.Unstructured) (int64, bool) {
	if u == nil {
		return 0, false
	}
	switch n, _, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "replicas"); n := n.(type) {
	case int64:
		return n, true
	case float64:
		return int64(n), true
	}
	return 0, false
}

func note(scaled map[key]bool, namespace string, autoscaler map[string]any) {
	target, _, _ := unstructured.NestedStringMap(autoscaler, "spec", "scaleTargetRef")
	noteTarget(scaled, namespace, target["apiVersion"], target["kind"], target["name"])
}

func noteTarget(scaled map[key]bool, namespace, apiVersion, kind, name string) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err == nil && name != "" {
		scaled[key{gv.Group, kind, namespace, name}] = true
	}
}

// keepReplicas asks for as many replicas as there are. Leaving the field out
// would not do: the patch would then take it away, and a workload without it
// has one.
func keepReplicas(wanted, live *unstructured.Unstructured) {
	if n, ok, _ := unstructured.NestedFieldNoCopy(live.Object, "spec", "replicas"); ok {
		_ = unstructured.SetNestedField(wanted.Object, n, "spec", "replicas")
	}
}
