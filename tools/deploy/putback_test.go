package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// TestRemovalSparesWhatWasThere: a first installation that took over somebody's
// object and fails is not removed again, since that object would go with it.
func TestRemovalSparesWhatWasThere(t *testing.T) {
	w := newWorld(t)
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "ledger"}, Data: map[string]string{"kept": "for years"}}, metav1.CreateOptions{})
	w.must(err)
	w.write("chart/templates/ledger.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ledger}\n")
	w.run(0, "adopt", "--environment", "dev", "--take")
	w.failPulls()
	w.values("greeting: one\nscheduler: none")
	_, log := w.run(6, "apply", "--environment", "dev")
	w.holds(log, "would delete what was there before it: ConfigMap "+w.namespace+"/ledger", "does not exist in the registry")
	if cm, err := maps.Get(t.Context(), "ledger", metav1.GetOptions{}); err != nil || cm.DeletionTimestamp != nil || cm.Data["kept"] == "" {
		t.Errorf("what was there before is %+v, error %v", cm, err)
	}
	if got := w.statuses(); got != "failed" {
		t.Errorf("history %q", got)
	}
}

// TestRestoreSparesWhatWasThere: a failed upgrade that took over somebody's
// object is put back, and leaves it there.
func TestRestoreSparesWhatWasThere(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "ledger"}, Data: map[string]string{"kept": "for years"}}, metav1.CreateOptions{})
	w.must(err)
	w.write("chart/templates/ledger.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ledger}\n")
	w.write("chart/templates/own.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own}\n")
	w.run(0, "adopt", "--environment", "dev", "--take")
	w.failPulls()
	w.values("greeting: two\nscheduler: none")
	_, log := w.run(5, "apply", "--environment", "dev")
	w.holds(log, "ConfigMap "+w.namespace+"/ledger stays: it was there before revision 2 took it over")
	if cm, err := maps.Get(t.Context(), "ledger", metav1.GetOptions{}); err != nil || cm.DeletionTimestamp != nil || cm.Data["kept"] == "" {
		t.Errorf("what was there before is %+v, error %v", cm, err)
	}
	if _, err := maps.Get(t.Context(), "own", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what the failed revision brought is not gone: %v", err)
	}
	// It stays when the next revisions do not have it either.
	w.must(os.Remove(filepath.Join(w.dir, "chart/templates/ledger.yaml")))
	w.values("greeting: three")
	w.run(0, "apply", "--environment", "dev")
	if cm, err := maps.Get(t.Context(), "ledger", metav1.GetOptions{}); err != nil || cm.DeletionTimestamp != nil {
		t.Errorf("what was there before is %+v, error %v", cm, err)
	}
}

// TestRemovalSparesWhatCameMeanwhile: an object that somebody made after the plan
// is theirs as well.
func TestRemovalSparesWhatCameMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/ledger.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ledger}\n")
	calls := w.proxied(faultproxy.Rule{Match: faultproxy.Match{Action: "create secrets", Mutating: true}, Fault: faultproxy.Delay(3 * time.Second)})
	cmd, log, _ := w.caught(calls, "apply", "--environment", "dev")
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "ledger"}}, metav1.CreateOptions{})
	w.must(err)
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 6 {
		t.Errorf("exit code %d, want 6\n%s", got, log)
	}
	w.holds(log.String(), "already exists", "would delete what was there before it: what somebody made meanwhile")
	if _, err := maps.Get(t.Context(), "ledger", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// TestRemovedInstallationSaysWhatStays: what an uninstallation leaves is told.
func TestRemovedInstallationSaysWhatStays(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/kept.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}\n")
	w.failPulls()
	w.values("greeting: one\nscheduler: none")
	_, log := w.run(5, "apply", "--environment", "dev")
	w.holds(log, "orders: ConfigMap "+w.namespace+"/kept stays: its chart says keep", "hint: the failed first installation was removed again, but for ConfigMap "+w.namespace+"/kept")
}

// TestRestoreStopsAtContract: a revision that failed may have migrated so that
// the code before it cannot work with the data; no later one restores across it.
func TestRestoreStopsAtContract(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	service, err := os.ReadFile(filepath.Join(w.dir, "slipway.yaml"))
	w.must(err)
	declare := func(compatibility string) {
		w.write("slipway.yaml", string(service)+"migrations: {job: orders-migrate, compatibility: "+compatibility+"}\n")
	}
	w.failPulls()
	declare("contract")
	w.values("greeting: two\nscheduler: none")
	w.run(6, "apply", "--environment", "dev", "--backup", "orders-20261127")
	declare("expand")
	w.values("greeting: three\nscheduler: none")
	_, log := w.run(6, "apply", "--environment", "dev")
	w.holds(log, "revision 2 declared its migrations contract", "the backup taken before it is orders-20261127", "does not exist in the registry")
	if w.live() != "three" || w.statuses() != "deployed failed failed" {
		t.Errorf("live %q, history %s", w.live(), w.statuses())
	}
}

// TestEvidenceOfARefusedWrite: an upgrade that the server refuses in the middle,
// which no dry run could foresee, leaves its evidence as well before what ran
// comes back.
func TestEvidenceOfARefusedWrite(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	quotas := w.client.CoreV1().ResourceQuotas(w.namespace)
	_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "few"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"services": resource.MustParse("1")}}}, metav1.CreateOptions{})
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	counted, err := quotas.Watch(ctx, metav1.ListOptions{})
	w.must(err)
	defer counted.Stop()
	for ev := range counted.ResultChan() {
		if q, ok := ev.Object.(*corev1.ResourceQuota); ok && len(q.Status.Hard) > 0 {
			break
		}
	}
	port := "\nspec: {ports: [{port: 80}]}\n"
	w.write("chart/templates/services.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}"+port+"---\napiVersion: v1\nkind: Service\nmetadata: {name: b}"+port)
	_, log := w.run(5, "apply", "--environment", "dev")
	w.holds(log, "exceeded quota", "the evidence is saved")
	files, err := filepath.Glob(filepath.Join(w.dir, "report", "evidence", "*.json"))
	w.must(err)
	if len(files) != 1 {
		t.Fatalf("evidence was saved in %q\n%s", files, log)
	}
	raw, err := os.ReadFile(files[0])
	w.must(err)
	for _, want := range []string{"exceeded quota", "+kind: Service", `"kubernetes": "v`, `"name": "orders"`, `"revision": 2`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the evidence lacks %s:\n%s", want, raw)
		}
	}
	out, _ := w.run(0, "status", "--why", "--evidence", files[0])
	w.holds(out, "it failed: ", "exceeded quota")
}

// TestAdoptThatBreaksOff: what was adopted before the one that failed stays so,
// and no code says that nothing was changed.
func TestAdoptThatBreaksOff(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"first", "second"} {
		_, err := w.client.CoreV1().ConfigMaps(w.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		w.must(err)
		w.write("chart/templates/"+name+".yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+"}\n")
	}
	w.proxied(faultproxy.Rule{Match: faultproxy.Match{Action: "patch configmaps", Mutating: true, Nth: 2}, Fault: faultproxy.Status(500)})
	_, log := w.run(6, "adopt", "--environment", "dev", "--take")
	w.holds(log, "taken over before that, and stay so: ")
	w.run(0, "adopt", "--environment", "dev", "--take")
}

// TestSetWithOneObjectTwice: two new releases of a set with one object are
// refused before anything is touched, all of them at once.
func TestSetWithOneObjectTwice(t *testing.T) {
	w := newWorld(t)
	role := "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: " + w.namespace + "}\nrules: []\n"
	config := func(name string) string { return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n" }
	set := "apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {timeout: 60s, stable: 0s}\nreleases:\n"
	for name, object := range map[string]string{"a": role, "b": role, "c": config("shared"), "d": config("shared"), "e": config("own")} {
		w.write("set/"+name+"/Chart.yaml", "apiVersion: v2\nname: "+name+"\nversion: 1.0.0\n")
		w.write("set/"+name+"/templates/object.yaml", object)
	}
	line := func(name, needs string) string {
		return "  - {name: " + name + ", namespace: " + w.namespace + ", chart: {path: " + name + "}, needs: [" + needs + "]}\n"
	}
	w.write("set/releases.yaml", set+line("a", "")+line("b", "")+line("c", "")+line("d", "")+line("e", ""))
	calls := w.proxied()
	_, log := w.run(4, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	w.holds(log, `releases "a" and "b" both bring ClusterRole `+w.namespace, `releases "c" and "d" both bring ConfigMap `+w.namespace+"/shared", "hint: nothing was changed")
	if m := calls.Mutating(); len(m) > 0 {
		t.Errorf("calls %v", m)
	}

	// Those that can only be planned in their turn are compared then.
	w.write("set/releases.yaml", set+line("e", "")+line("c", "e")+line("d", "e"))
	_, log = w.run(6, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	w.holds(log, "both bring ConfigMap "+w.namespace+"/shared", "hint: 2 of 3 releases were deployed: e, ")
}

// TestHookLogsOfASet: what hooks write is in the log of a set too, each line with
// its release.
func TestHookLogsOfASet(t *testing.T) {
	w := newWorld(t)
	set := "apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {timeout: 60s, stable: 0s}\nreleases:\n"
	for _, name := range []string{"one", "two"} {
		set += "  - {name: " + name + ", namespace: " + w.namespace + ", chart: {path: " + name + "}}\n"
		w.write("set/"+name+"/Chart.yaml", "apiVersion: v2\nname: "+name+"\nversion: 1.0.0\n")
		w.write("set/"+name+"/templates/hook.yaml", w.probe("greet-"+name, "pre-install", "read, /etc/hosts"))
	}
	w.write("set/releases.yaml", set)
	_, log := w.run(0, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	for _, name := range []string{"one", "two"} {
		for _, text := range []string{"# Kubernetes-managed hosts file.", "localhost"} {
			found := false
			for line := range strings.Lines(log) {
				found = found || strings.HasPrefix(line, name+": hook greet-"+name+" | ") && strings.Contains(line, text)
			}
			if !found {
				t.Errorf("the log of the hook of %s lacks %q:\n%s", name, text, log)
			}
		}
	}
}
