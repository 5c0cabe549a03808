package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestInstallUpgradeRestore(t *testing.T) {
	w := newWorld(t)
	out, _ := w.run(0, "apply", "--environment", "dev", "--output", "json", "--observed", "observed.yaml")
	var got struct {
		Release, Status, Namespace string
		Revision                   int
		Images                     map[string]string
	}
	w.must(json.Unmarshal([]byte(out), &got))
	if got.Release != "orders" || got.Revision != 1 || got.Status != "deployed" || got.Namespace != w.namespace || got.Images["app"] != w.image {
		t.Fatalf("result %s", out)
	}
	observed, err := os.ReadFile(filepath.Join(w.dir, "observed.yaml"))
	w.must(err)
	for _, want := range []string{"kind: Observed", "service: orders", "environment: dev", "status: deployed", "revision: 1", w.image} {
		if !strings.Contains(string(observed), want) {
			t.Errorf("the observed state lacks %q:\n%s", want, observed)
		}
	}
	w.run(0, "diff", "--environment", "dev", "--detailed-exitcode")
	w.values("greeting: two")
	out, _ = w.run(3, "diff", "--environment", "dev", "--detailed-exitcode")
	if !strings.Contains(out, "-        greeting: one") || !strings.Contains(out, "+        greeting: two") {
		t.Errorf("diff:\n%s", out)
	}
	w.run(0, "apply", "--environment", "dev")

	w.failPulls()
	w.values("greeting: three\nscheduler: none")
	_, log := w.run(5, "apply", "--environment", "dev", "--observed", "observed.yaml")
	if !strings.Contains(log, `container "app" of Deployment `+w.namespace+`/orders: image "`+w.image+`" does not exist in the registry`) {
		t.Errorf("the last line does not say why:\n%s", log)
	}
	if got := w.statuses(); got != "superseded superseded failed deployed" {
		t.Errorf("history: %s", got)
	}
	observed, err = os.ReadFile(filepath.Join(w.dir, "observed.yaml"))
	w.must(err)
	if !strings.Contains(string(observed), "status: restored") || !strings.Contains(string(observed), "revision: 4") {
		t.Errorf("the observed state:\n%s", observed)
	}
	out, _ = w.run(0, "status", "--environment", "dev")
	if !strings.Contains(out, "revision 4 is deployed") || !strings.Contains(out, "1 of 1 pods available") {
		t.Errorf("status:\n%s", out)
	}
	if _, err := w.client.CoordinationV1().Leases(w.namespace).Get(t.Context(), "slipway-orders", metav1.GetOptions{}); err == nil {
		t.Error("the lease was not given back")
	}
}

func TestFailedFirstInstallationIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.failPulls()
	w.values("greeting: one\nscheduler: none")
	w.run(5, "apply", "--environment", "dev")
	if got := w.saved(); !strings.Contains(got, "does not exist in the registry") {
		t.Errorf("the evidence says\n%s", got)
	}
	if got := w.statuses(); got != "" {
		t.Errorf("history: %q", got)
	}
	list, err := w.client.AppsV1().Deployments(w.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("%d deployments are left, error %v", len(list.Items), err)
	}
}

// TestKilledInTheMiddle kills runs in the middle of an installation and of an
// upgrade: the next run says so, and goes through.
func TestKilledInTheMiddle(t *testing.T) {
	w := newWorld(t)
	for i, status := range []string{"pending-install", "pending-upgrade"} {
		w.values("greeting: never\nscheduler: none")
		cmd, _, _ := w.command("apply", "--environment", "dev")
		w.must(cmd.Start())
		w.pending(status)
		w.must(cmd.Process.Kill())
		_ = cmd.Wait()
		w.run(8, "apply", "--environment", "dev", "--lock-timeout", "1s") // it may live yet
		w.expire()
		w.values("greeting: mended")
		_, log := w.run(0, "apply", "--environment", "dev")
		if !strings.Contains(log, "left in state "+status+" by") {
			t.Errorf("nothing is said of the repair:\n%s", log)
		}
		want := []string{"failed deployed", "failed superseded failed deployed"}[i]
		if got := w.statuses(); got != want {
			t.Errorf("history: %s, want %s", got, want)
		}
	}
}

func TestPendingWithoutAnOwner(t *testing.T) {
	w := newWorld(t)
	w.values("greeting: never\nscheduler: none")
	cmd, _, _ := w.command("apply", "--environment", "dev")
	w.must(cmd.Start())
	w.pending("pending-install")
	w.must(cmd.Process.Kill())
	_ = cmd.Wait()
	w.must(w.client.CoordinationV1().Leases(w.namespace).Delete(t.Context(), "slipway-orders", metav1.DeleteOptions{}))
	_, log := w.run(9, "apply", "--environment", "dev")
	if !strings.Contains(log, "slipway-deploy recover --nobody-is-at-work") {
		t.Errorf("the command to run is missing:\n%s", log)
	}
	if got := w.statuses(); got != "pending-install" {
		t.Errorf("history: %s", got)
	}
}

func TestTerminated(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	w.values("greeting: never\nscheduler: none")
	cmd, _, log := w.command("apply", "--environment", "dev")
	w.must(cmd.Start())
	w.pending("pending-upgrade")
	start := time.Now()
	w.must(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	t.Logf("ended %s after the signal", time.Since(start).Round(time.Millisecond))
	if got := cmd.ProcessState.ExitCode(); got != 130 {
		t.Fatalf("exit code %d, want 130\n%s", got, log)
	}
	if got := w.statuses(); got != "deployed failed" {
		t.Errorf("history: %s", got)
	}
	if !strings.Contains(log.String(), "revision 2 was under way and is failed; revision 1 was ready before") {
		t.Errorf("the state is not told:\n%s", log)
	}
}

func TestImageThatDoesNotExistIsFoundFirst(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "IMAGE_REF="+w.image[:len(w.image)-8]+"00000000")
	_, log := w.run(1, "apply", "--environment", "dev")
	if !strings.Contains(log, "the registry does not have it") || w.statuses() != "" {
		t.Errorf("history %q, log:\n%s", w.statuses(), log)
	}
}

func TestGatedEnvironmentsTakeBundlesOnly(t *testing.T) {
	w := newWorld(t)
	_, log := w.run(4, "apply", "--environment", "stage")
	if !strings.Contains(log, "it takes release bundles only") {
		t.Error(log)
	}
}

func TestSchemaIsCheckedBeforeTheCluster(t *testing.T) {
	w := newWorld(t)
	w.write("chart/values.schema.json", `{"type": "object", "properties": {"greeting": {"type": "string"}}}`)
	w.values("greeting: 3")
	_, log := w.run(64, "apply", "--environment", "dev")
	if !strings.Contains(log, "greeting") || w.statuses() != "" {
		t.Errorf("history %q, log:\n%s", w.statuses(), log)
	}
}

func TestSet(t *testing.T) {
	w := newWorld(t)
	kind := "T" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, w.namespace)
	group := strings.ToLower(kind) + ".example.com"
	w.write("set/releases.yaml", `apiVersion: slipway/v1
kind: ReleaseSet
defaults: {timeout: 60s, stable: 0s}
releases:
  - {name: user, namespace: `+w.namespace+`, chart: {path: user}, needs: [kind]}
  - {name: kind, namespace: `+w.namespace+`, chart: {path: kind}}
  - {name: broken, namespace: `+w.namespace+`, chart: {path: broken}}
  - {name: stopped, namespace: `+w.namespace+`, chart: {path: user}, needs: [broken]}
`)
	for _, n := range []string{"user", "kind", "broken"} {
		w.write("set/"+n+"/Chart.yaml", "apiVersion: v2\nname: "+n+"\nversion: 1.0.0\n")
	}
	w.write("set/kind/crds/kind.yaml", `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.`+group+`}
spec:
  group: `+group+`
  scope: Namespaced
  names: {kind: `+kind+`, plural: things, singular: thing}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`)
	w.write("set/user/templates/thing.yaml", "apiVersion: "+group+"/v1\nkind: "+kind+"\nmetadata: {name: {{ .Release.Name }}}\n")
	w.write("set/broken/templates/bad.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {ports: []}\n")
	// What can be found beforehand stops the set: 64, and nothing is touched.
	calls := w.proxied()
	_, log := w.run(64, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	w.holds(log, "2 are planned, 2 wait for what they need", "broken/templates/bad.yaml: Service "+w.namespace+"/broken: spec.ports", "hint: nothing was changed")
	if m := calls.Mutating(); len(m) > 0 || w.statusesOf("kind") != "" {
		t.Errorf("history of kind %q, calls %v", w.statusesOf("kind"), m)
	}

	// What is found in its turn does not: then 64 would say that nothing was changed.
	set := w.read("set/releases.yaml")
	w.write("set/releases.yaml", strings.Replace(set, "chart: {path: broken}", "chart: {path: broken}, needs: [kind]", 1))
	_, log = w.run(6, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	w.holds(log, "1 are planned, 3 wait for what they need", "user: revision 1 is deployed", "kind: revision 1 is deployed", "stopped: not released: it needs broken",
		"broken/templates/bad.yaml: Service "+w.namespace+"/broken: spec.ports", "hint: 2 of 4 releases were deployed: user, kind; run it again when the others are mended")
	if strings.Contains(log, "nothing was changed") {
		t.Errorf("the log says that nothing was changed:\n%s", log)
	}

	// Now that its needs are in place, it is found beforehand too.
	_, log = w.run(64, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	w.holds(log, "3 are planned, 1 wait for what they need", "hint: nothing was changed")
}

// TestSetNamespaceThatStays: a release that is refused once its namespace was
// made has changed something.
func TestSetNamespaceThatStays(t *testing.T) {
	w := newWorld(t)
	name := w.namespace + "-new"
	t.Cleanup(func() {
		_ = w.client.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	w.write("set/releases.yaml", "apiVersion: slipway/v1\nkind: ReleaseSet\nreleases:\n  - {name: broken, namespace: "+name+", createNamespace: true, chart: {path: broken}}\n")
	w.write("set/broken/Chart.yaml", "apiVersion: v2\nname: broken\nversion: 1.0.0\n")
	w.write("set/broken/templates/bad.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {ports: []}\n")
	_, log := w.run(6, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	w.holds(log, "spec.ports", `hint: namespace "`+name+`" was made for it and stays`)
	if strings.Contains(log, "nothing was changed") {
		t.Errorf("the log says that nothing was changed:\n%s", log)
	}
	_, log = w.run(64, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	w.holds(log, "hint: nothing was changed")
}

// holds checks that a log tells something.
func (w *world) holds(log string, wants ...string) {
	w.t.Helper()
	for _, want := range wants {
		if !strings.Contains(log, want) {
			w.t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}
