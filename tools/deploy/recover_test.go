package main

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// dead leaves a release as a killed run does: pending, under its lease, and
// with its pods on their way.
func (w *world) dead(status string) {
	w.t.Helper()
	w.values("greeting: never\nscheduler: none")
	cmd, _, _ := w.command("apply", "--environment", "dev")
	w.must(cmd.Start())
	w.pending(status)
	pods, err := w.client.CoreV1().Pods(w.namespace).Watch(w.t.Context(), metav1.ListOptions{FieldSelector: "spec.schedulerName=none"})
	w.must(err)
	defer pods.Stop()
	<-pods.ResultChan()
	w.must(cmd.Process.Kill())
	_ = cmd.Wait()
}

func TestRecover(t *testing.T) {
	w := newWorld(t)
	if out, _ := w.run(0, "recover", "--environment", "dev"); !strings.Contains(out, "it is not installed") {
		t.Error(out)
	}
	w.run(0, "apply", "--environment", "dev")
	if out, _ := w.run(0, "recover", "--environment", "dev"); !strings.Contains(out, "nothing to recover; revision 1 is deployed") {
		t.Error(out)
	}
	w.dead("pending-upgrade")
	_, log := w.run(8, "recover", "--environment", "dev", "--lock-timeout", "1s", "--nobody-is-at-work") // its lease was renewed just now
	if w.statuses() != "deployed pending-upgrade" {
		t.Errorf("history %s\n%s", w.statuses(), log)
	}
	w.expire()
	// The pod of the revision that died has no node: what was deployed is not in order.
	_, log = w.run(6, "recover", "--environment", "dev")
	if w.statuses() != "deployed failed" || !strings.Contains(log, "slipway-deploy apply releases anew") {
		t.Errorf("history %s\n%s", w.statuses(), log)
	}
	w.run(0, "rollback", "--environment", "dev")
	if w.live() != "one" || w.statuses() != "superseded failed deployed" {
		t.Errorf("live %q, history %s", w.live(), w.statuses())
	}
}

// TestRecoverIsAPersonsDecision: without a lease nobody can tell who left it.
func TestRecoverIsAPersonsDecision(t *testing.T) {
	w := newWorld(t)
	w.dead("pending-install")
	w.must(w.client.CoordinationV1().Leases(w.namespace).Delete(t.Context(), "slipway-orders", metav1.DeleteOptions{}))
	_, log := w.run(9, "recover", "--environment", "dev")
	if !strings.Contains(log, "recover --nobody-is-at-work") || w.statuses() != "pending-install" {
		t.Errorf("history %s\n%s", w.statuses(), log)
	}
	out, _ := w.run(0, "recover", "--environment", "dev", "--nobody-is-at-work")
	if w.statuses() != "failed" || !strings.Contains(out, "none was ready before it") {
		t.Errorf("history %s\n%s", w.statuses(), out)
	}
	w.values("greeting: mended")
	w.run(0, "apply", "--environment", "dev")
}

// TestBrokenRecord: a record that cannot be read is named, and nothing is done.
func TestBrokenRecord(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	_, err := w.client.CoreV1().Secrets(w.namespace).Patch(t.Context(), "sh.helm.release.v1.orders.v1", "application/merge-patch+json", []byte(`{"data":{"release":"Z2FyYmFnZQ=="}}`), metav1.PatchOptions{})
	w.must(err)
	w.values("greeting: two")
	for _, verb := range []string{"apply", "recover", "rollback", "uninstall", "test"} {
		_, log := w.run(1, verb, "--environment", "dev")
		if !strings.Contains(log, `the record of revision 1 of release "orders"`) || !strings.Contains(log, "restore it from a backup") {
			t.Errorf("%s says:\n%s", verb, log)
		}
	}
	if out, _ := w.run(0, "history", "--environment", "dev"); !strings.Contains(out, "unreadable") {
		t.Error(out)
	}
	if w.live() != "one" || w.statuses() != "deployed" {
		t.Errorf("live %q, history %s", w.live(), w.statuses())
	}
}
