package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// onNode makes the world's service one of the real node: its pods run image
// with arguments.
func (w *world) onNode(image string, args ...string) {
	w.t.Helper()
	sandboxtest.Open(w.t).Node(w.t, "nonprod")
	list, err := json.Marshal(args)
	w.must(err)
	w.write("chart/templates/workload.yaml", fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}, annotations: {greeting: {{ .Values.greeting | quote }}}}
    spec:
      nodeSelector: {slipway.dev/node: real}
      tolerations: [{key: slipway.dev/node, operator: Exists}]
      terminationGracePeriodSeconds: 1
      containers: [{name: app, image: %q, args: %s}]
`, image, list))
}

// saved returns what status says of the evidence that the last run saved.
func (w *world) saved() string {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "report", "evidence", "*.json"))
	w.must(err)
	if len(files) != 1 {
		w.t.Fatalf("evidence was saved in %q", files)
	}
	out, _ := w.run(0, "status", "--why", "--evidence", files[0])
	return out
}

// failure is the line with which a run ended badly.
func failure(t *testing.T, log string) string {
	t.Helper()
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "slipway-deploy: error: ") {
			return line
		}
	}
	t.Fatalf("no error in\n%s", log)
	return ""
}

// TestWhyImage: an image that the real node cannot pull ends the job with its
// cause, and the evidence says the same after everything was removed again.
func TestWhyImage(t *testing.T) {
	w := newWorld(t)
	image := sandboxtest.Open(t).Registry.Address + "/tests/absent:v9"
	w.onNode(image)
	_, log := w.run(5, "apply", "--environment", "dev")
	want := fmt.Sprintf(`container "app" of Deployment %s/orders: image %q does not exist in the registry`, w.namespace, image)
	for _, text := range []string{failure(t, log), w.saved()} {
		if !strings.Contains(text, want) || !strings.Contains(text, "push it, or correct the reference") {
			t.Errorf("want %s in\n%s", want, text)
		}
	}
	list, err := w.client.AppsV1().Deployments(w.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("%d deployments are left, error %v", len(list.Items), err)
	}
}

// TestWhyCrash: a crash loop on the real node is told with its exit code and
// with what the program said, while it is there, and from the evidence.
func TestWhyCrash(t *testing.T) {
	w := newWorld(t)
	w.onNode(sandboxtest.Open(t).Images["probe"], "nonsense")
	w.write("slipway.yaml", `apiVersion: slipway/v1
kind: Service
name: orders
chart: {path: chart}
values: [values.yaml]
images: {app: {value: image, from: IMAGE_REF}}
rollout: {timeout: 90s, stable: 5s, onFailure: leave}
`)
	_, log := w.run(6, "apply", "--environment", "dev")
	said := failure(t, log)
	for _, want := range []string{`container "app" of Deployment ` + w.namespace + "/orders: it ended with exit code ", "its log says: ", " (since "} {
		if !strings.Contains(said, want) {
			t.Errorf("want %q in %s", want, said)
		}
	}
	if !strings.Contains(log, "  | ") || !strings.Contains(log, "status --why --evidence ") {
		t.Errorf("no end of the log, or no evidence, in\n%s", log)
	}
	out, _ := w.run(0, "status", "--environment", "dev", "--why")
	_, follow := w.run(1, "status", "--environment", "dev", "--follow", "--timeout", "60s")
	for _, text := range []string{w.saved(), out, failure(t, follow)} {
		if !strings.Contains(text, "it ended with exit code ") || !strings.Contains(text, "its log says: ") {
			t.Errorf("not told why:\n%s", text)
		}
	}
	if got := w.statuses(); got != "failed" {
		t.Errorf("looking changed the history: %s", got)
	}
}

// starts are ways to be slow and well in the end.
var starts = []string{
	"fail: slow-start, fail-for: 3", "fail: slow-start, fail-for: 8", "fail: slow-start, fail-for: 14",
	"fail: crash-loop, fail-times: 1", "fail: init, fail-times: 1, init: yes", "fail: liveness, fail-times: 1",
	"fail: config, fail-times: 3", "fail: mount, fail-times: 4", "fail: image-pull, fail-times: 1, fail-message: '503 Service Unavailable'",
	"fail: image-pull, fail-times: 1, fail-message: 'dial tcp 192.0.2.1:443: i/o timeout'",
}

// TestSlowStarts: deployments that start slowly, or after a trouble that passes,
// are never called failed. The row counts them.
func TestSlowStarts(t *testing.T) {
	const tries = 40
	w := newWorld(t)
	w.write("slow/Chart.yaml", "apiVersion: v2\nname: slow\nversion: 1.0.0\n")
	w.write("slow/templates/workload.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations:
        {{- range $k, $v := omit .Values "init" "global" }}
        slipway.dev/{{ $k }}: {{ $v | quote }}
        {{- end }}
    spec:
      {{- if .Values.init }}
      initContainers: [{name: migrate, image: example.com/migrate:1}]
      {{- end }}
      containers: [{name: app, image: example.com/slow:1, readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}]
`)
	set := "apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {timeout: 120s, stable: 1s}\nreleases:\n"
	for i := range tries {
		w.write(fmt.Sprintf("values-%d.yaml", i), "{"+starts[i%len(starts)]+"}\n")
		set += fmt.Sprintf("  - {name: slow-%d, namespace: %s, chart: {path: slow}, values: [values-%d.yaml]}\n", i, w.namespace, i)
	}
	w.write("releases.yaml", set)
	cmd, _, log := w.command("apply", "--releases", "releases.yaml", "--cluster", "nonprod")
	failed := cmd.Run()
	r := faultproxy.Result{Tried: tries}
	for i := range tries {
		if line := fmt.Sprintf("slow-%d: revision 1 is deployed", i); strings.Contains(log.String(), line) {
			r.Passed++
			continue
		}
		r.Misses = append(r.Misses, faultproxy.Miss{Point: "by nothing", Err: errors.New("called failed: " + starts[i%len(starts)])})
	}
	if failed != nil {
		t.Logf("%v\n%s", failed, log)
	}
	faultproxy.Report(t, "slow-starts", r, nil)
}
