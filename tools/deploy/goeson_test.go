package main

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// TestDeadInstallationIsInstalled: what was never ready is an installation still,
// for the hooks and for the templates.
func TestDeadInstallationIsInstalled(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/seed.yaml", job("seed", "post-install", ""))
	w.write("chart/templates/first.yaml", "{{ if .Release.IsInstall }}apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}{{ end }}\n")
	w.dead("pending-install")
	w.expire()
	w.values("greeting: one")
	w.run(0, "apply", "--environment", "dev")
	if got := w.statuses(); got != "failed deployed" {
		t.Errorf("history %q", got)
	}
	if j, err := w.client.BatchV1().Jobs(w.namespace).Get(t.Context(), "seed", metav1.GetOptions{}); err != nil || j.Status.Succeeded != 1 {
		t.Errorf("the hook of the installation: %+v, %v", j.Status, err)
	}
	if _, err := w.client.CoreV1().ConfigMaps(w.namespace).Get(t.Context(), "first", metav1.GetOptions{}); err != nil {
		t.Errorf("what an installation alone has: %v", err)
	}
}

// TestRestoreUnderAnOldDeadline: the upgrade's deadline is over, and its
// condition still stands where what ran before is coming back.
func TestRestoreUnderAnOldDeadline(t *testing.T) {
	w := newWorld(t)
	text := strings.Replace(w.read("chart/templates/workload.yaml"), "spec:\n", "spec:\n  progressDeadlineSeconds: 2\n  strategy: {type: Recreate}\n", 1)
	w.write("chart/templates/workload.yaml", text)
	w.run(0, "apply", "--environment", "dev")
	w.values("greeting: two\nscheduler: none") // nobody takes its pods
	_, log := w.run(5, "apply", "--environment", "dev")
	w.holds(log, "revision 1 was restored, and is ready")
	// And where it was left: the pods come in the end, and nothing is written anew.
	d, err := w.client.AppsV1().Deployments(w.namespace).Get(t.Context(), "orders", metav1.GetOptions{})
	if err != nil || d.Status.AvailableReplicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("the deployment is %+v, %v", d.Status, err)
	}
}

// TestSecretsOfAStoredRelease: a verb that makes no plan shows no secret either.
func TestSecretsOfAStoredRelease(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: orders}\nstringData: {password: {{ .Values.password | quote }}}\n")
	w.write("chart/templates/test.yaml", strings.Replace(job("ask", "test", "crash-loop"), "slipway.dev/fail: crash-loop",
		`slipway.dev/fail: crash-loop, slipway.dev/fail-message: "cannot log in with swordfish-2026"`, 1))
	w.values("greeting: one\npassword: swordfish-2026")
	w.run(0, "apply", "--environment", "dev")
	for _, args := range [][]string{{"test"}, {"status", "--why"}, {"recover"}} {
		cmd, out, log := w.command(append(args, "--environment", "dev", "--output", "json")...)
		_ = cmd.Run()
		if text := out.String() + log.String() + w.reports(); strings.Contains(text, "swordfish") || !strings.Contains(text, "ask") && args[0] == "test" {
			t.Errorf("%v shows the secret, or nothing:\n%s", args, text)
		}
	}
}

// TestOlderSetIsRefused: who is behind does not put older add-ons over newer.
func TestOlderSetIsRefused(t *testing.T) {
	w := newWorld(t)
	w.write(".gitignore", "*\n") // the test's own files
	w.write("addons/releases.yaml", "apiVersion: slipway/v1\nkind: ReleaseSet\nreleases:\n  - {name: broker, namespace: "+w.namespace+", chart: {path: broker}}\n")
	w.write("addons/broker/Chart.yaml", "apiVersion: v2\nname: broker\nversion: 1.0.0\n")
	commit := func(data string) string {
		w.write("addons/broker/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: broker}\ndata: {a: "+data+"}\n")
		w.git("git add -f addons && git -c user.name=Bob -c user.email=bob@example.com commit --quiet -m change")
		return w.git("git rev-parse HEAD")
	}
	set := []string{"apply", "--releases", "addons/releases.yaml", "--cluster", "nonprod"}
	w.git("git init --quiet -b main .")
	first := commit("one")
	w.run(0, set...)
	second := commit("two")
	w.run(0, set...)
	if out, _ := w.run(0, "history", "--releases", "addons/releases.yaml", "--cluster", "nonprod"); !strings.Contains(out, second[:12]) {
		t.Errorf("the history does not name the commit:\n%s", out)
	}
	w.git("git checkout --quiet " + first)
	_, log := w.run(4, set...)
	w.holds(log, "deploying commit "+first[:12], "nothing was changed")
	if got := w.statusesOf("broker"); got != "superseded deployed" {
		t.Errorf("history %q", got)
	}
}

// TestServerThatIsAway: a failure that passes is worth a retry, and says so.
func TestServerThatIsAway(t *testing.T) {
	w := newWorld(t)
	w.proxied(faultproxy.Rule{Match: faultproxy.Match{Action: "get namespaces"}, Fault: faultproxy.Status(http.StatusServiceUnavailable)})
	_, log := w.run(75, "apply", "--environment", "dev")
	w.holds(log, "run it again", "nothing was changed")
}

// TestRollbackThatChangesNothing: one that could not begin does not bring back
// what runs.
func TestRollbackThatChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	w.values("greeting: two")
	w.run(0, "apply", "--environment", "dev")
	w.proxied(faultproxy.Rule{Match: faultproxy.Match{Action: "create secrets", Mutating: true}, Fault: faultproxy.Status(http.StatusServiceUnavailable)})
	_, log := w.run(1, "rollback", "--environment", "dev")
	w.holds(log, "no object was changed: what ran runs on")
	if got := w.statuses(); got != "superseded deployed" || w.live() != "two" {
		t.Errorf("history %q, live %q", got, w.live())
	}
}

// TestTerminatedWhileItIsReadBack: it was told to end, and is not broken.
func TestTerminatedWhileItIsReadBack(t *testing.T) {
	w := newWorld(t)
	calls := w.proxied(faultproxy.Rule{Match: faultproxy.Match{Action: "get secrets", Nth: 2}, Fault: faultproxy.Delay(5 * time.Second)})
	cmd, log, _ := w.caught(calls, "apply", "--environment", "dev")
	w.must(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 130 || w.statuses() != "deployed" {
		t.Errorf("exit code %d, want 130; history %q\n%s", got, w.statuses(), log)
	}
}

// reports are all files of the last run's report, its evidence included.
func (w *world) reports() string {
	w.t.Helper()
	var all strings.Builder
	w.must(filepath.WalkDir(filepath.Join(w.dir, "report"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		all.Write(raw)
		return err
	}))
	return all.String()
}
