package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/mark"
)

// proxied makes the world's program reach the cluster and AWS through proxies.
func (w *world) proxied() *faultproxy.Log {
	w.t.Helper()
	box := sandboxtest.Open(w.t)
	cluster, admin := box.Through(w.t, "nonprod", w.dir, faultproxy.Config{})
	w.kubeconfig = w.impersonating(admin)
	cloud, err := faultproxy.Start(faultproxy.Config{Part: faultproxy.AWS(), Upstream: box.AWS.Endpoint, Log: cluster.Log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(cloud.Close)
	w.t.Setenv("AWS_ENDPOINT_URL", cloud.URL)
	return cluster.Log
}

func (w *world) process(verb string) *exec.Cmd {
	cmd := exec.Command("slipway-backup", append(w.cluster(verb), w.common()...)...)
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "GITLAB_CI=", "CI_JOB_TOKEN=")
	return cmd
}

// TestKillSchedule kills a backup and a drill before and after each of their
// mutating calls. make test takes of each the call that sets Velero to work,
// which goes on without the program.
func TestKillSchedule(t *testing.T) {
	for _, c := range []struct {
		name, verb, sets string
		prepare          func(*world)
		between          func(*world) func(context.Context) error
		check            func(*world) func(context.Context, faultproxy.Run) error
	}{
		{"run-killed", "run", "create backups.velero.io", func(*world) {},
			func(*world) func(context.Context) error { return nextSecond },
			func(w *world) func(context.Context, faultproxy.Run) error { return w.backedUp }},
		{"drill-killed", "drill", "create restores.velero.io", func(w *world) {
			if code, _, log := w.slipway("", w.cluster("run")...); code != tool.OK {
				w.t.Fatalf("run ended %d\n%s", code, log)
			}
		},
			func(w *world) func(context.Context) error { return w.age },
			func(w *world) func(context.Context, faultproxy.Run) error { return w.drilled }},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := func(call faultproxy.Call) bool { return call.Mutates }
			if faultproxy.Sample(1) != 0 {
				is = func(call faultproxy.Call) bool { return call.Action == c.sets }
			}
			r, err := faultproxy.Schedule{Is: is, Progress: t.Logf, World: func(context.Context, int) (*faultproxy.World, error) {
				w := newWorld(t)
				c.prepare(w)
				return &faultproxy.World{Log: w.proxied(), Command: func() *exec.Cmd { return w.process(c.verb) }, Between: c.between(w), Check: c.check(w), Close: func() {}}, nil
			}}.Run(t.Context())
			faultproxy.Report(t, c.name, r, err)
		})
	}
}

// nextSecond waits for the clock: names carry the second of a run.
func nextSecond(ctx context.Context) error {
	now := time.Now()
	tick := time.NewTimer(now.Truncate(time.Second).Add(time.Second).Sub(now))
	defer tick.Stop()
	select {
	case <-tick.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// backedUp: the backup was taken and proven, and one that Velero finished
// without its run is a good one as well.
func (w *world) backedUp(ctx context.Context, next faultproxy.Run) error {
	if next.Code != tool.OK {
		return fmt.Errorf("the next run exited with %d", next.Code)
	}
	list, err := w.dynamic.Resource(schema.GroupVersionResource{Group: "velero.io", Version: "v1", Resource: "backups"}).Namespace("velero").
		List(ctx, metav1.ListOptions{LabelSelector: mark.Schedule + "=t-" + w.suffix})
	if err != nil {
		return err
	}
	if n := len(list.Items); n < 1 || n > 2 {
		return fmt.Errorf("there are %d backups", n)
	}
	for _, b := range list.Items {
		if phase, _, _ := unstructured.NestedString(b.Object, "status", "phase"); phase != "Completed" {
			return fmt.Errorf("backup %q is %q", b.GetName(), phase)
		}
	}
	return nil
}

// age makes what a killed drill left look as it does when its time to live is over.
func (w *world) age(ctx context.Context) error {
	past := time.Now().UTC().Add(-time.Minute).Format(mark.ExpiresForm)
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{mark.Expires: past}}})
	if err != nil {
		return err
	}
	restores := schema.GroupVersionResource{Group: "velero.io", Version: "v1", Resource: "restores"}
	namespaces := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	for _, name := range w.leftovers() {
		api := w.dynamic.Resource(namespaces).Namespace("")
		if _, err := w.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			api = w.dynamic.Resource(restores).Namespace("velero")
		}
		if _, err := api.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nextSecond(ctx)
}

// drilled: the next drill went through, and nothing is left of either.
func (w *world) drilled(_ context.Context, next faultproxy.Run) error {
	if next.Code != tool.Unproven { // no check of it proves data
		return fmt.Errorf("the next drill exited with %d", next.Code)
	}
	raw, err := os.ReadFile(filepath.Join(w.report(), "drill.json"))
	if err != nil {
		return err
	}
	var drill struct {
		CleanedUp bool
		Problems  []string
		Checks    []struct{ Name, Status string }
	}
	if err := json.Unmarshal(raw, &drill); err != nil {
		return err
	}
	if !drill.CleanedUp || len(drill.Problems) > 0 || fmt.Sprint(drill.Checks) != "[{ready green}]" {
		return fmt.Errorf("the next drill found %+v", drill)
	}
	if left := w.leftovers(); len(left) > 0 {
		return fmt.Errorf("left behind: %v", left)
	}
	return nil
}
