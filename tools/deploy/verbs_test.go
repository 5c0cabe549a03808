package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRollback(t *testing.T) {
	w := newWorld(t)
	w.run(1, "rollback", "--environment", "dev")
	for _, greeting := range []string{"one", "two"} {
		w.values("greeting: " + greeting)
		w.run(0, "apply", "--environment", "dev")
	}
	out, _ := w.run(0, "rollback", "--environment", "dev")
	if !strings.Contains(out, "revision 1 is back and ready, as revision 3") || w.live() != "one" || w.statuses() != "superseded superseded deployed" {
		t.Errorf("result %s, live %q, history %s", out, w.live(), w.statuses())
	}
	_, log := w.run(1, "rollback", "--environment", "dev") // not on to what was rolled back
	if !strings.Contains(log, "no revision before 3 is known to have been ready") {
		t.Error(log)
	}
	w.run(64, "rollback", "--environment", "dev", "--to", "9")
	w.run(0, "rollback", "--service", "orders", "--environment", "dev", "--to", "2")
	if w.live() != "two" {
		t.Errorf("live %q", w.live())
	}
	out, _ = w.run(0, "history", "--environment", "dev", "--output", "json")
	var got []struct {
		Release   string
		Revisions []struct {
			Revision                   int
			Status, Chart, Description string
		}
	}
	w.must(json.Unmarshal([]byte(out), &got))
	if len(got) != 1 || len(got[0].Revisions) != 4 || got[0].Revisions[3].Description != "Rollback to 2" || got[0].Revisions[3].Chart != "orders-1.0.0" {
		t.Errorf("history: %s", out)
	}
	if out, _ = w.run(0, "history", "--environment", "dev"); !strings.Contains(out, "Rollback to 1") {
		t.Errorf("history: %s", out)
	}
}

// TestRollbackThatFails: the hook of the old revision cannot start. Helm leaves
// such a rollback pending for ever; here what ran is brought back.
func TestRollbackThatFails(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/hook.yaml", job("undo", "pre-rollback", "image-pull"))
	w.run(0, "apply", "--environment", "dev")
	w.must(os.Remove(filepath.Join(w.dir, "chart/templates/hook.yaml")))
	w.values("greeting: two")
	w.run(0, "apply", "--environment", "dev")
	_, log := w.run(5, "rollback", "--environment", "dev")
	if w.live() != "two" || w.statuses() != "superseded superseded failed deployed" {
		t.Errorf("live %q, history %s\n%s", w.live(), w.statuses(), log)
	}
	if !strings.Contains(log, "does not exist in the registry") {
		t.Errorf("nothing is said of the cause:\n%s", log)
	}
}

func TestRollbackStopsAtContract(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	service, err := os.ReadFile(filepath.Join(w.dir, "slipway.yaml"))
	w.must(err)
	w.write("slipway.yaml", string(service)+"migrations: {job: orders-migrate, compatibility: contract}\n")
	w.values("greeting: two")
	w.run(0, "apply", "--environment", "dev", "--backup", "orders-20261127")
	_, log := w.run(4, "rollback", "--environment", "dev")
	if !strings.Contains(log, "revision 2 declared its migrations contract") || !strings.Contains(log, "the backup taken before it is orders-20261127") {
		t.Error(log)
	}
	if w.live() != "two" || w.statuses() != "superseded deployed" {
		t.Errorf("live %q, history %s", w.live(), w.statuses())
	}
}

func TestUninstall(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/kept.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}\n")
	w.write("chart/templates/hook.yaml", job("prepare", "pre-install", ""))
	w.run(0, "apply", "--environment", "dev")
	out, _ := w.run(0, "uninstall", "--environment", "dev")
	for _, want := range []string{"orders is removed", "ConfigMap " + w.namespace + "/kept: its chart says keep", "Job " + w.namespace + "/prepare: it is a hook"} {
		if !strings.Contains(out, want) {
			t.Errorf("the result lacks %q:\n%s", want, out)
		}
	}
	list, err := w.client.AppsV1().Deployments(w.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) > 0 || w.statuses() != "" {
		t.Errorf("%d deployments are left, history %q, error %v", len(list.Items), w.statuses(), err)
	}
	if out, _ = w.run(0, "uninstall", "--environment", "dev"); !strings.Contains(out, "is not installed") {
		t.Error(out)
	}
}

// TestUninstallGoesOn: an object that a finalizer holds keeps the record, and
// the next run ends it.
func TestUninstallGoesOn(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/held.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.com/hold]}\n")
	w.run(0, "apply", "--environment", "dev")
	held, err := w.client.CoreV1().ConfigMaps(w.namespace).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=held"})
	w.must(err)
	defer held.Stop()
	cmd, _, log := w.command("uninstall", "--environment", "dev")
	w.must(cmd.Start())
	for ev := range held.ResultChan() {
		if cm, ok := ev.Object.(*corev1.ConfigMap); ok && cm.DeletionTimestamp != nil {
			break
		}
	}
	w.must(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 130 || w.statuses() != "failed" || !strings.Contains(log.String(), "was uninstalling and is marked failed") {
		t.Errorf("exit code %d, history %q\n%s", got, w.statuses(), log)
	}
	_, err = w.client.CoreV1().ConfigMaps(w.namespace).Patch(t.Context(), "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	w.must(err)
	w.run(0, "uninstall", "--environment", "dev")
	if w.statuses() != "" {
		t.Errorf("history %q", w.statuses())
	}
}

func TestTest(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/check.yaml", job("check-a", "test", "")+"---\n"+"{{ if .Values.fail }}\n"+job("check-b", "test", "image-pull")+"{{ else }}\n"+job("check-b", "test", "")+"{{ end }}\n")
	w.run(1, "test", "--environment", "dev")
	w.run(0, "apply", "--environment", "dev")
	out, _ := w.run(0, "test", "--environment", "dev")
	if !strings.Contains(out, "passed   check-a") || !strings.Contains(out, "passed   check-b") {
		t.Error(out)
	}
	w.values("greeting: one\nfail: true")
	w.write("chart/templates/late.yaml", job("check-c", "test", ""))
	w.run(0, "apply", "--environment", "dev")
	_, log := w.run(7, "test", "--environment", "dev")
	if !strings.Contains(log, "does not exist in the registry") {
		t.Error(log)
	}
	raw, err := os.ReadFile(filepath.Join(w.dir, "report", "slipway-deploy.xml"))
	w.must(err)
	for _, want := range []string{`name="test check-a"`, `name="test check-b"`, `name="test check-c"`, "<skipped"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the JUnit file lacks %s:\n%s", want, raw)
		}
	}
	if got := w.statuses(); got != "superseded deployed" {
		t.Errorf("history %s", got)
	}
}

func TestHookThatCannotStart(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	w.write("chart/templates/hook.yaml", job("migrate", "pre-upgrade", "image-name"))
	w.values("greeting: two")
	_, log := w.run(5, "apply", "--environment", "dev")
	if !strings.Contains(log, "Job "+w.namespace+"/migrate") || !strings.Contains(log, "is not valid") || w.live() != "one" {
		t.Errorf("live %q\n%s", w.live(), log)
	}
}

func TestAdopt(t *testing.T) {
	w := newWorld(t)
	create := func(name string, annotations map[string]string) {
		t.Helper()
		_, err := w.client.CoreV1().ConfigMaps(w.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
			Data: map[string]string{"made": "by hand"}}, metav1.CreateOptions{})
		w.must(err)
	}
	create("orders", nil)
	create("old", map[string]string{"meta.helm.sh/release-name": "gone", "meta.helm.sh/release-namespace": w.namespace})
	for _, name := range []string{"orders", "old"} {
		w.write("chart/templates/"+name+".yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+"}\ndata: {made: by the chart}\n")
	}
	_, log := w.run(1, "apply", "--environment", "dev")
	if w.statuses() != "" {
		t.Errorf("history %q\n%s", w.statuses(), log)
	}
	out, _ := w.run(0, "adopt", "--environment", "dev")
	for _, want := range []string{"would adopt ConfigMap " + w.namespace + "/orders, without an owner", "/old, of release " + w.namespace + "/gone, which is gone", "nothing was changed"} {
		if !strings.Contains(out, want) {
			t.Errorf("the result lacks %q:\n%s", want, out)
		}
	}
	w.run(0, "adopt", "--environment", "dev", "--take")
	cm, err := w.client.CoreV1().ConfigMaps(w.namespace).Get(t.Context(), "orders", metav1.GetOptions{})
	w.must(err)
	if cm.Data["made"] != "by hand" || cm.Annotations["meta.helm.sh/release-name"] != "orders" {
		t.Errorf("adopted: %+v", cm)
	}
	if out, _ = w.run(0, "adopt", "--environment", "dev"); !strings.Contains(out, "there is nothing to adopt") {
		t.Error(out)
	}
	w.run(0, "apply", "--environment", "dev")

	// An object that another release has stays its own.
	w.write("set/releases.yaml", "apiVersion: slipway/v1\nkind: ReleaseSet\nreleases:\n  - {name: other, namespace: "+w.namespace+", chart: {path: other}}\n")
	w.write("set/other/Chart.yaml", "apiVersion: v2\nname: other\nversion: 1.0.0\n")
	w.write("set/other/templates/theirs.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: theirs}\n")
	create("theirs", nil) // a set takes over as well
	if out, _ = w.run(0, "adopt", "--releases", "set/releases.yaml", "--cluster", "nonprod", "--take"); !strings.Contains(out, "other: adopted ConfigMap "+w.namespace+"/theirs, without an owner") {
		t.Error(out)
	}
	w.run(0, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	w.write("chart/templates/theirs.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: theirs}\n")
	_, log = w.run(4, "adopt", "--environment", "dev", "--take")
	if !strings.Contains(log, "ConfigMap "+w.namespace+"/theirs is of release "+w.namespace+"/other; that release has it") {
		t.Error(log)
	}
}

// TestAdoptRelease takes over a release that was made by helm: a label of its record.
func TestAdoptRelease(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	secrets := w.client.CoreV1().Secrets(w.namespace)
	label := func() string {
		s, err := secrets.Get(t.Context(), "sh.helm.release.v1.orders.v1", metav1.GetOptions{})
		w.must(err)
		return s.Labels["slipway.dev/managed-by"]
	}
	if label() != "slipway-deploy" {
		t.Error("a release of ours has no label")
	}
	_, err := secrets.Patch(t.Context(), "sh.helm.release.v1.orders.v1", "application/merge-patch+json", []byte(`{"metadata":{"labels":{"slipway.dev/managed-by":null}}}`), metav1.PatchOptions{})
	w.must(err)
	if out, _ := w.run(0, "adopt", "--environment", "dev"); !strings.Contains(out, "revision 1 of release orders, made by somebody else") || label() != "" {
		t.Error(out)
	}
	w.run(0, "adopt", "--environment", "dev", "--take")
	if label() != "slipway-deploy" || w.statuses() != "deployed" {
		t.Errorf("label %q, history %s", label(), w.statuses())
	}
}
