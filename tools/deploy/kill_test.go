package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// TestKillSchedule kills an installation, an upgrade, and an upgrade that fails
// and is put back, before and after each of their mutating calls. Once the
// lease is old, the next run goes through, and nothing is left of the dead one.
func TestKillSchedule(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*world)
		ends    int // the run that is left alone
	}{
		{"install-killed", func(*world) {}, 0},
		{"upgrade-killed", func(w *world) {
			w.run(0, "apply", "--environment", "dev")
			w.values("greeting: two")
		}, 0},
		{"restore-killed", func(w *world) {
			w.run(0, "apply", "--environment", "dev")
			w.failPulls()
			w.values("greeting: broken\nscheduler: none")
		}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := faultproxy.Schedule{Sample: faultproxy.Sample(3), Seed: 1, Progress: t.Logf,
				World: func(context.Context, int) (*faultproxy.World, error) {
					w := newWorld(t)
					c.prepare(w)
					log, killed := w.proxied(), false
					return &faultproxy.World{Log: log, Close: func() {},
						Command: func() *exec.Cmd { return w.untracked("apply", "--environment", "dev") },
						Between: func(context.Context) error {
							killed = true
							w.values("greeting: mended")
							w.expire()
							return nil
						},
						Check: func(ctx context.Context, next faultproxy.Run) error {
							if !killed && c.ends != 0 {
								return ended(next, c.ends)
							}
							return w.converged(ctx, next)
						}}, nil
				}}.Run(t.Context())
			faultproxy.Report(t, c.name, r, err)
		})
	}
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
func (w *world) converged(ctx context.Context, next faultproxy.Run) error {
	if err := ended(next, 0); err != nil {
		return err
	}
	var out bytes.Buffer
	diff := w.untracked("diff", "--environment", "dev", "--detailed-exitcode")
	diff.Stdout, diff.Stderr = &out, &out
	if err := diff.Run(); err != nil {
		return fmt.Errorf("there is a difference: %w\n%s", err, &out)
	}
	states := strings.Fields(w.statuses())
	if last := len(states) - 1; last < 0 || states[last] != "deployed" || strings.Count(w.statuses(), "deployed") != 1 || strings.Contains(w.statuses(), "pending") {
		return fmt.Errorf("history: %v", states)
	}
	list, err := w.client.AppsV1().Deployments(w.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(list.Items) != 1 || list.Items[0].Status.ReadyReplicas != 1 {
		return fmt.Errorf("there are %d deployments", len(list.Items))
	}
	if _, err := w.client.CoordinationV1().Leases(w.namespace).Get(ctx, "slipway-orders", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("the lease is still there: %w", err)
	}
	return nil
}
