package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// proxied makes the world's program reach the cluster through a proxy.
func (w *world) proxied(rules ...faultproxy.Rule) *faultproxy.Log {
	w.t.Helper()
	p, kubeconfig := sandboxtest.Open(w.t).Through(w.t, "nonprod", w.dir, faultproxy.Config{Rules: rules, Seed: 1})
	w.env = append(w.env, "SLIPWAY_DEPLOY_KUBECONFIG="+kubeconfig)
	return p.Log
}

// caught starts the program and waits until a rule of the proxy has caught a call.
func (w *world) caught(calls *faultproxy.Log, args ...string) (*exec.Cmd, *bytes.Buffer, faultproxy.Call) {
	w.t.Helper()
	cmd, _, log := w.command(args...)
	w.must(cmd.Start())
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	call, err := calls.Await(ctx, func(call faultproxy.Call) bool { return call.Fault != "" })
	if err != nil {
		_ = cmd.Process.Kill()
		w.t.Fatalf("the call that a rule is for did not come: %v\n%s", err, log)
	}
	return cmd, log, call
}

// scenario is work that is killed, and the run after it.
type scenario struct {
	name     string
	prepare  func(*world)
	run      []string
	ends     int // how the run ends that is left alone
	mend     func(*world)
	next     []string // the run after the kill; nil is the same
	releases []string // what is deployed then
}

var (
	applies  = []string{"apply", "--environment", "dev"}
	ofOne    = []string{"orders"}
	setApply = []string{"apply", "--releases", "set/releases.yaml", "--cluster", "nonprod"}
)

func scenarios() []scenario {
	twice := func(w *world) {
		w.run(0, applies...)
		w.values("greeting: two")
	}
	mended := func(w *world) { w.values("greeting: mended") }
	return []scenario{
		{"install-killed", func(*world) {}, applies, 0, mended, nil, ofOne},
		{"upgrade-killed", twice, applies, 0, mended, nil, ofOne},
		{"restore-killed", func(w *world) {
			w.run(0, applies...)
			w.failPulls()
			w.values("greeting: broken\nscheduler: none")
		}, applies, 5, mended, nil, ofOne},
		{"rollback-killed", func(w *world) {
			twice(w)
			w.run(0, applies...)
			w.values("greeting: one") // what is wanted once it is back
		}, []string{"rollback", "--environment", "dev", "--to", "1"}, 0, func(*world) {}, nil, ofOne},
		{"rollback-killed-then-applied", func(w *world) {
			twice(w)
			w.run(0, applies...)
			w.values("greeting: one")
		}, []string{"rollback", "--environment", "dev"}, 0, mended, applies, ofOne},
		{"hook-killed", func(w *world) {
			w.write("chart/templates/migrate.yaml", job("migrate", `"pre-install,pre-upgrade"`, ""))
			twice(w)
		}, applies, 0, mended, nil, ofOne},
		{"kind-killed", func(w *world) {
			w.write("set/releases.yaml", "apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {timeout: 60s, stable: 0s}\nreleases:\n  - {name: base, namespace: "+w.namespace+", chart: {path: base}}\n")
			w.write("set/base/Chart.yaml", "apiVersion: v2\nname: base\nversion: 1.0.0\n")
			w.write("set/base/crds/thing.yaml", w.crd("a thing"))
			w.write("set/base/templates/all.yaml", deployment+"---\napiVersion: "+w.group()+"/v1\nkind: Thing\nmetadata: {name: {{ .Release.Name }}}\n")
		}, setApply, 0, func(*world) {}, nil, []string{"base"}},
		{"removal-killed", func(w *world) {
			w.failPulls()
			w.values("greeting: broken\nscheduler: none")
		}, applies, 5, mended, nil, ofOne},
		{"uninstall-killed", func(w *world) { w.run(0, applies...) }, []string{"uninstall", "--environment", "dev"}, 0, func(*world) {}, nil, nil},
		{"set-killed", func(w *world) { w.set() }, setApply, 0, func(*world) {}, nil, []string{"base", "middle", "top"}},
	}
}

// deployment is one of a release of a set.
const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: app, image: example.com/app}]}
`

// set writes three releases, each of which needs the one before it.
func (w *world) set() {
	text := "apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {timeout: 60s, stable: 0s}\nreleases:\n"
	needs := ""
	for _, name := range []string{"base", "middle", "top"} {
		text += "  - {name: " + name + ", namespace: " + w.namespace + ", chart: {path: " + name + "}, needs: [" + needs + "]}\n"
		needs = name
		w.write("set/"+name+"/Chart.yaml", "apiVersion: v2\nname: "+name+"\nversion: 1.0.0\n")
		w.write("set/"+name+"/templates/all.yaml", deployment+`---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
`)
	}
	w.write("set/releases.yaml", text)
}

// met counts the pending states that the next runs came upon, and how often
// the release was healthy then.
type met map[string]*faultproxy.Result

// TestKillSchedule kills each scenario before and after each of its mutating
// calls. Once the lease is old, the next run goes through, and nothing is left
// of the dead one.
func TestKillSchedule(t *testing.T) {
	pending := met{"pending-install": {}, "pending-upgrade": {}, "pending-rollback": {}}
	for _, c := range scenarios() {
		t.Run(c.name, func(t *testing.T) {
			r, err := faultproxy.Schedule{Is: isPoint, Sample: faultproxy.Sample(2), Seed: 1, Progress: t.Logf,
				World: func(context.Context, int) (*faultproxy.World, error) {
					w := newWorld(t)
					w.write("chart/templates/config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: orders}\ndata: {greeting: {{ .Values.greeting | quote }}}\n")
					c.prepare(w)
					return w.killed(c, pending), nil
				}}.Run(t.Context())
			faultproxy.Report(t, c.name, r, err)
		})
	}
	for _, state := range []string{"pending-install", "pending-upgrade", "pending-rollback"} {
		if pending[state].Tried == 0 && faultproxy.Sample(1) != 0 {
			continue // the sample need not meet each
		}
		faultproxy.Report(t, state, *pending[state], nil)
	}
}

// isPoint is every mutating call but the renewal of the lease, which comes by
// the clock: a trial may end before it.
func isPoint(c faultproxy.Call) bool {
	return c.Mutates && c.Action != "update leases.coordination.k8s.io"
}

// killed is the world of one trial.
func (w *world) killed(c scenario, pending met) *faultproxy.World {
	log, args, killed := w.proxied(), c.run, false
	var found []string
	return &faultproxy.World{Log: log, Close: func() {},
		Command: func() *exec.Cmd { return w.untracked(args...) },
		Between: func(context.Context) error {
			killed = true
			for state := range pending {
				for _, release := range append([]string{"orders"}, c.releases...) {
					if strings.Contains(w.statusesOf(release), state) {
						found = append(found, state)
						break
					}
				}
			}
			c.mend(w)
			w.expire()
			if c.next != nil {
				args = c.next
			}
			return nil
		},
		Check: func(ctx context.Context, next faultproxy.Run) error {
			if !killed && c.ends != 0 {
				return ended(next, c.ends)
			}
			err := w.converged(ctx, next, c)
			for _, state := range found {
				pending[state].Tried++
				if err == nil {
					pending[state].Passed++
				}
			}
			return err
		}}
}

func ended(r faultproxy.Run, want int) error {
	if r.Code != want {
		return fmt.Errorf("the run exited with %d, not %d", r.Code, want)
	}
	return nil
}

func (w *world) untracked(args ...string) *exec.Cmd {
	cmd := exec.Command("slipway-deploy", args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

// converged: what is wanted is deployed, once, and nothing half done is left.
func (w *world) converged(ctx context.Context, next faultproxy.Run, c scenario) error {
	if err := ended(next, 0); err != nil {
		return err
	}
	if len(c.releases) > 0 {
		// The same flags say what is wanted, whichever verb brought it about.
		args := append([]string{"diff", "--detailed-exitcode"}, applies[1:]...)
		if c.releases[0] != "orders" {
			args = append([]string{"diff", "--detailed-exitcode"}, setApply[1:]...)
		}
		diff := w.untracked(args...)
		var out bytes.Buffer
		diff.Stdout, diff.Stderr = &out, &out
		if err := diff.Run(); err != nil {
			return fmt.Errorf("there is a difference: %w\n%s", err, &out)
		}
	}
	for _, release := range c.releases {
		states := strings.Fields(w.statusesOf(release))
		if last := len(states) - 1; last < 0 || states[last] != "deployed" || strings.Count(strings.Join(states, " "), "deployed") != 1 || strings.Contains(strings.Join(states, " "), "pending") {
			return fmt.Errorf("history of %s: %v", release, states)
		}
	}
	list, err := w.client.AppsV1().Deployments(w.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(list.Items) != len(c.releases) {
		return fmt.Errorf("there are %d deployments", len(list.Items))
	}
	for _, d := range list.Items {
		if d.Status.ReadyReplicas != 1 {
			return fmt.Errorf("deployment %s is not ready", d.Name)
		}
	}
	leases, err := w.client.CoordinationV1().Leases(w.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, l := range leases.Items {
		// A run that finds nothing to do writes nothing, and a dead lease waits
		// for the next one that does.
		if l.Spec.RenewTime == nil || time.Since(l.Spec.RenewTime.Time) < 2*time.Minute || !strings.Contains(next.Output, "nothing was changed") {
			return fmt.Errorf("the lease %s is still there", l.Name)
		}
	}
	return nil
}
