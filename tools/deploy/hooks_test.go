package main

import (
	"bufio"
	"io"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// probe is a hook that really runs, on the real node.
func (w *world) probe(name, hook, args string) string {
	w.t.Helper()
	sb := sandboxtest.Open(w.t)
	sb.Node(w.t, "nonprod")
	return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: " + name + ", annotations: {helm.sh/hook: " + hook + ", helm.sh/hook-delete-policy: \"hook-succeeded,hook-failed\"}}\n" +
		"spec:\n  backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n      terminationGracePeriodSeconds: 1\n      nodeSelector: {slipway.dev/node: real}\n" +
		"      tolerations: [{key: slipway.dev/node, operator: Exists}]\n      containers: [{name: run, image: " + sb.Images["probe"] + ", args: [" + args + "]}]\n"
}

// TestHookLogs: what a hook writes is in the log, with its name and without
// secrets, though a policy has deleted its pods.
func TestHookLogs(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "CI_REGISTRY_PASSWORD=hush-hush-1234")
	w.write("chart/templates/hook.yaml", w.probe("greet", "pre-install", "read, /etc/hosts"))
	_, log := w.run(0, "apply", "--environment", "dev")
	if !strings.Contains(log, "hook greet | # Kubernetes-managed hosts file.") {
		t.Errorf("the hook's log is missing:\n%s", log)
	}
	w.write("chart/templates/hook.yaml", w.probe("check", "test", "resolve, hush-hush-1234.invalid"))
	w.values("greeting: two")
	w.run(0, "apply", "--environment", "dev")
	_, log = w.run(7, "test", "--environment", "dev")
	if !strings.Contains(log, "hook check | probe: error") || strings.Contains(log, "hush-hush") {
		t.Errorf("the test's log:\n%s", log)
	}
}

// TestHookLogsWhileItRuns: the line is there before the hook has ended.
func TestHookLogsWhileItRuns(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/hook.yaml", w.probe("serve", "pre-install", `serve, ":8080"`))
	cmd, _, _ := w.command("apply", "--environment", "dev")
	cmd.Stderr = nil
	stderr, err := cmd.StderrPipe()
	w.must(err)
	w.must(cmd.Start())
	lines, seen := bufio.NewScanner(stderr), false
	for !seen && lines.Scan() {
		seen = strings.Contains(lines.Text(), "hook serve | listening on")
	}
	job, err := w.client.BatchV1().Jobs(w.namespace).Get(t.Context(), "serve", metav1.GetOptions{})
	if !seen || err != nil || len(job.Status.Conditions) > 0 {
		t.Errorf("the line was seen: %v; the job: %v, error %v", seen, job.Status, err)
	}
	w.must(cmd.Process.Signal(syscall.SIGTERM))
	_, _ = io.Copy(io.Discard, stderr)
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 130 {
		t.Errorf("exit code %d", got)
	}
}
