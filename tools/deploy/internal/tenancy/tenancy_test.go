package tenancy

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func read(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestCheck(t *testing.T) {
	workload := func(kind, pod string) string {
		return "apiVersion: apps/v1\nkind: " + kind + "\nmetadata: {name: a}\nspec: {template: {spec: " + pod + "}}"
	}
	for name, c := range map[string]struct {
		object string
		want   []string // a part of each problem
	}{
		"deployment":     {workload("Deployment", "{containers: [{name: a, ports: [{containerPort: 80}]}]}"), nil},
		"own namespace":  {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: orders}", nil},
		"no host port":   {workload("Deployment", "{containers: [{name: a, ports: [{hostPort: 0}]}]}"), nil},
		"namespace":      {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: catalog}", []string{`namespace "catalog"`}},
		"cluster scoped": {"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: a}", []string{"ClusterRoleBinding"}},
		"custom":         {"apiVersion: example.com/v1\nkind: Deployment\nmetadata: {name: a}", []string{"Deployment.example.com"}},
		"kind and pod":   {workload("DaemonSet", "{hostPID: true, containers: [{name: a}]}"), []string{"DaemonSet", "hostPID"}},
		"everything": {workload("StatefulSet", `{hostNetwork: true, hostIPC: true, volumes: [{name: v, hostPath: {path: /}}],
  initContainers: [{name: i, securityContext: {privileged: true}}], containers: [{name: a, ports: [{hostPort: 80}]}]}`),
			[]string{"hostNetwork", "hostIPC", "hostPath", "container i is privileged", "hostPort"}},
		"cron job": {"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec: {jobTemplate: {spec: {template: {spec: {hostNetwork: true, containers: []}}}}}", []string{"hostNetwork"}},
		"pod":      {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true, containers: []}", []string{"hostNetwork"}},
	} {
		got := Check(read(t, c.object), "orders")
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %d problems", name, got, len(c.want))
			continue
		}
		for i, part := range c.want {
			if !strings.Contains(got[i], part) {
				t.Errorf("%s: %q lacks %q", name, got[i], part)
			}
		}
	}
}

// TestChartGrantsTheSame holds our list and the rights that the platform's
// tenancy chart gives to services together.
func TestChartGrantsTheSame(t *testing.T) {
	raw, err := os.ReadFile("../../../../examples/platform/addons/charts/tenancy/templates/deployers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for gk, resource := range Kinds() {
		want[gk.Group+"/"+resource] = true
	}
	seen := 0
	for d := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096); ; {
		var role rbacv1.ClusterRole
		if err := d.Decode(&role); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if role.Kind != "ClusterRole" {
			continue
		}
		seen++
		got := map[string]bool{}
		for _, r := range role.Rules {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					if slices.Contains(r.Verbs, "create") && resource != "leases" {
						got[group+"/"+resource] = true
					}
				}
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s may create\n%v, and package tenancy allows\n%v", role.Name, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
	if seen != 2 {
		t.Errorf("%d roles were found, want slipway-deployer and slipway-dry-run", seen)
	}
}
