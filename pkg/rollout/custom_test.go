package rollout

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func object(apiVersion, kind string, generation int64, status map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "status": status}}
	u.SetName("x")
	u.SetGeneration(generation)
	return u
}

func conditions(list ...string) map[string]any {
	var all []any
	for i := 0; i+1 < len(list); i += 2 {
		all = append(all, map[string]any{"type": list[i], "status": list[i+1], "reason": "Because", "message": "it is so"})
	}
	return map[string]any{"conditions": all}
}

func TestGeneric(t *testing.T) {
	for name, c := range map[string]struct {
		object *unstructured.Unstructured
		wanted int64
		ready  bool
		class  string // of what is found
	}{
		"nothing said":         {object("example.com/v1", "Database", 1, nil), 1, true, ""},
		"older generation":     {object("example.com/v1", "Database", 1, nil), 2, false, ""},
		"not observed":         {object("example.com/v1", "Database", 2, map[string]any{"observedGeneration": int64(1)}), 2, false, ""},
		"ready":                {object("example.com/v1", "Database", 1, conditions("Ready", "True")), 1, true, ""},
		"not ready":            {object("example.com/v1", "Database", 1, conditions("Ready", "False")), 1, false, ClassCondition},
		"reconciling":          {object("example.com/v1", "Database", 1, conditions("Ready", "True", "Reconciling", "True")), 1, false, ""},
		"stalled":              {object("example.com/v1", "Database", 1, conditions("Ready", "False", "Stalled", "True")), 1, false, ClassCondition},
		"definition, new":      {object("apiextensions.k8s.io/v1", "CustomResourceDefinition", 1, nil), 1, false, ""},
		"definition":           {object("apiextensions.k8s.io/v1", "CustomResourceDefinition", 1, conditions("Established", "True")), 1, true, ""},
		"definition's names":   {object("apiextensions.k8s.io/v1", "CustomResourceDefinition", 1, conditions("NamesAccepted", "False")), 1, false, ClassCondition},
		"API, away":            {object("apiregistration.k8s.io/v1", "APIService", 1, conditions("Available", "False")), 1, false, ClassCondition},
		"API":                  {object("apiregistration.k8s.io/v1", "APIService", 1, conditions("Available", "True")), 1, true, ""},
		"own kind APIService":  {object("example.com/v1", "APIService", 1, nil), 1, true, ""},
		"no address":           {object("v1", "Service", 0, nil), 0, false, ""},
		"address":              {object("v1", "Service", 0, map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "192.0.2.1"}}}}), 0, true, ""},
		"autoscaler":           {object("autoscaling/v2", "HorizontalPodAutoscaler", 0, conditions("AbleToScale", "True", "ScalingActive", "False")), 0, true, ClassScaling},
		"budget":               {object("policy/v1", "PodDisruptionBudget", 0, map[string]any{"disruptionsAllowed": int64(0), "expectedPods": int64(2)}), 0, true, ClassScaling},
		"budget with room":     {object("policy/v1", "PodDisruptionBudget", 0, map[string]any{"disruptionsAllowed": int64(1), "expectedPods": int64(2)}), 0, true, ""},
		"ingress, no address":  {object("networking.k8s.io/v1", "Ingress", 0, nil), 0, true, ClassNetwork},
		"observed in one only": {object("example.com/v1", "Database", 2, map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True", "observedGeneration": int64(1)}}}), 2, false, ""},
	} {
		ready, message := generic(c.object, c.wanted)
		if ready != c.ready {
			t.Errorf("%s: ready %t (%s), want %t", name, ready, message, c.ready)
		}
		found := Diagnose(Evidence{Live: c.object})
		if (c.class == "") != (len(found) == 0) || len(found) > 0 && found[0].Class != c.class {
			t.Errorf("%s: findings %+v, want %q", name, found, c.class)
		}
		for _, f := range found {
			if ends := strings.Contains(name, "stalled") || strings.Contains(name, "names"); f.Transient == ends {
				t.Errorf("%s: transient %t", name, f.Transient)
			}
		}
	}
}

// Only a service that asks for it is waited for.
func TestJudged(t *testing.T) {
	s := object("v1", "Service", 0, nil)
	if judged(s) {
		t.Error("any service is waited for")
	}
	s.SetAnnotations(map[string]string{AddressAnnotation: "true"})
	if !judged(s) {
		t.Error("a service that asks for it is not waited for")
	}
}
