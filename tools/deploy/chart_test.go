package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMicroserviceChart renders the platform's chart: with everything turned
// on, and with what its schema refuses.
func TestMicroserviceChart(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "chart"), os.DirFS("../../platform/charts/microservice")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "slipway.yaml"), []byte("apiVersion: slipway/v1\nkind: Service\nname: orders\nchart: {path: chart}\nvalues: [values.yaml]\nimages: {app: {value: image, from: IMAGE_REF}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ref := "registry.example.com/orders@sha256:" + strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		values string
		code   int
		want   []string
	}{
		"defaults": {"{}", 0, []string{"kind: Deployment", "kind: Service\n", "kind: ServiceAccount", ref, "replicas: 1"}},
		"everything": {"{replicas: 3, env: {A: 1, B: yes it is}, probes: {readiness: /healthz, liveness: /live, startup: /start}, podAnnotations: {a: b}, serviceAccount: {annotations: {eks.amazonaws.com/role-arn: arn}}}", 0,
			[]string{"replicas: 3", `{name: A, value: "1"}`, "readinessProbe", "livenessProbe", "startupProbe", "eks.amazonaws.com/role-arn: arn"}},
		"unknown value":  {"{replica: 3}", 64, []string{"replica"}},
		"wrong type":     {"{replicas: many}", 64, []string{"replicas"}},
		"probe no path":  {"{probes: {readiness: healthz}}", 64, []string{"readiness"}},
		"values no yaml": {"{", 64, []string{"values.yaml"}},
	} {
		if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(c.values), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("slipway-deploy", "render", "--environment", "dev")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "IMAGE_REF="+ref)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", name, got, c.code, out)
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: the output lacks %q:\n%s", name, want, out)
			}
		}
	}
}
