package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// TestUnchangedReleaseIsSkipped: the second run makes no revision and no call
// that changes anything, not even for the lease.
func TestUnchangedReleaseIsSkipped(t *testing.T) {
	w := newWorld(t)
	w.run(0, "apply", "--environment", "dev")
	log := w.proxied()
	out, text := w.run(0, "apply", "--environment", "dev", "--output", "json", "--observed", "observed.yaml")
	if m := log.Mutating(); len(m) > 0 {
		t.Errorf("calls that change something: %v", m)
	}
	var got struct {
		Status   string
		Revision int
		Running  struct{ Revision int }
	}
	w.must(json.Unmarshal([]byte(out), &got))
	if got.Status != "unchanged" || got.Revision != 1 || got.Running.Revision != 1 || w.statuses() != "deployed" || !strings.Contains(text, "nothing was changed") {
		t.Errorf("result %s, history %s, log:\n%s", out, w.statuses(), text)
	}
	// The same objects from another commit: noted, and no new revision.
	w.write(".gitignore", "report\n")
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "another"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = w.dir
		w.must(cmd.Run())
	}
	_, text = w.run(0, "apply", "--environment", "dev")
	if !strings.Contains(text, "what it is made of now is noted in it") || w.statuses() != "deployed" {
		t.Errorf("history %s, log:\n%s", w.statuses(), text)
	}
}

// TestDiffIsWhatApplyWouldSend: against the live objects, fields that are
// taken away included, and without a secret.
func TestDiffIsWhatApplyWouldSend(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: orders}\nstringData: {password: {{ .Values.password | quote }}}\n"+
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: one, {{ if .Values.more }}more: two{{ end }}}\n"+
		"---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: check, annotations: {helm.sh/hook: test}}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: {{ .Values.image | quote }}}]}}}\n")
	w.values("greeting: one\npassword: swordfish\nmore: true")
	out, _ := w.run(3, "diff", "--environment", "dev", "--detailed-exitcode")
	for _, want := range []string{"orders: 3 to create, 1 hooks differ", "create Deployment " + w.namespace + "/orders (orders/templates/workload.yaml)", "hook: create Job " + w.namespace + "/check", "+  more: two", "fingerprint "} {
		if !strings.Contains(out, want) {
			t.Errorf("the diff lacks %q:\n%s", want, out)
		}
	}
	w.run(0, "apply", "--environment", "dev")
	if out, _ := w.run(0, "diff", "--environment", "dev", "--detailed-exitcode"); !strings.Contains(out, "orders: no changes") {
		t.Error(out)
	}
	w.values("greeting: one\npassword: hunter2hunter2")
	out, _ = w.run(0, "diff", "--environment", "dev", "--output", "json")
	var got []struct {
		Release string
		Changed bool
		Objects []struct {
			Object, Action, Diff string
			Checked              bool
		}
	}
	w.must(json.Unmarshal([]byte(out), &got))
	if len(got) != 1 || !got[0].Changed || len(got[0].Objects) != 2 {
		t.Fatalf("%s", out)
	}
	for _, o := range got[0].Objects {
		if o.Action != "update" || !o.Checked {
			t.Errorf("%+v", o)
		}
	}
	if !strings.Contains(out, `-  more: two`) || strings.Contains(out, "hunter2") || strings.Contains(out, "swordfish") || strings.Contains(out, "aHVudGVyM") {
		t.Errorf("%s", out)
	}
	if strings.Contains(out, "managedFields") || strings.Contains(out, "resourceVersion") || strings.Contains(out, "status:") {
		t.Errorf("what the server notes for itself is shown: %s", out)
	}
}

// TestDiffTellsWhatStandsAgainstIt before anybody tries to apply it, in colour
// where it is read as it is printed.
func TestDiffTellsWhatStandsAgainstIt(t *testing.T) {
	w := newWorld(t)
	w.write("chart/templates/typo.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: orders}\nspec: {port: [], ports: [{port: 80}]}\n"+
		"---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: orders}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n")
	log := w.proxied()
	out, text := w.run(4, "diff", "--environment", "dev")
	for _, want := range []string{`problem: orders/templates/typo.yaml: Service ` + w.namespace + `/orders: unknown field "spec.port"`, "a service may not bring kind ClusterRoleBinding", "create Deployment"} {
		if !strings.Contains(out, want) {
			t.Errorf("the diff lacks %q:\n%s\n%s", want, out, text)
		}
	}
	if strings.Contains(out, "\x1b[") {
		t.Error("colour in a pipe")
	}
	if _, text := w.run(4, "apply", "--environment", "dev"); !strings.Contains(text, "unknown field") || !strings.Contains(text, "nothing was changed") {
		t.Error(text)
	}
	if m := log.Mutating(); len(m) > 0 || w.statuses() != "" {
		t.Errorf("history %q, calls %v", w.statuses(), m)
	}
}
