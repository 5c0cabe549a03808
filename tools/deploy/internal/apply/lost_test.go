package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
	"gitlab.com/slipway/slipway/tools/deploy/internal/lease"
)

// TestCodesOfALostLease: only work that has changed nothing ends with the code
// of how the lease was lost.
func TestCodesOfALostLease(t *testing.T) {
	for _, c := range []struct {
		touched   bool
		code, end int
	}{
		{false, tool.Held, tool.Held}, {false, tool.Temporary, tool.Temporary},
		{true, tool.Held, tool.Broken}, {true, tool.Temporary, tool.Broken},
	} {
		cause := tool.Exit(c.code, fmt.Errorf("%w: no answer", lease.ErrLost))
		for _, work := range []error{
			fmt.Errorf("releasing: %w", cause),
			tool.Exit(tool.Cancelled, errors.Join(errors.New("not ready"), cause)), // a restore that was broken off
			context.Canceled,
		} {
			err := (&job{touched: c.touched}).lost(work, cause)
			if tool.CodeOf(err) != c.end || strings.Count(err.Error(), "no answer") != 1 || !strings.Contains(strings.Join(tool.HintsOf(err), ""), "run it again") {
				t.Errorf("touched %v, lost with %d: %v, code %d, want %d, hints %q", c.touched, c.code, err, tool.CodeOf(err), c.end, tool.HintsOf(err))
			}
		}
	}
}

// TestBeforeTheRelease: what was changed before a revision was stored, such as
// definitions of kinds, is nothing to put back, and no code may hide it.
func TestBeforeTheRelease(t *testing.T) {
	for _, code := range []int{tool.Failed, tool.Usage, tool.Refused} {
		err := tool.Exit(code, errors.New("spec.size"))
		if got := tool.CodeOf(beforeIt(helmrelease.Outcome{Changed: true}, err)); got != tool.Broken {
			t.Errorf("changed, code %d: %d", code, got)
		}
		if got := tool.CodeOf(beforeIt(helmrelease.Outcome{}, err)); got != code {
			t.Errorf("unchanged, code %d: %d", code, got)
		}
	}
}

// TestLeaseLostOverAHalfDoneRelease: whoever has the lease then, the release is
// half done, and a run that has no lease leaves it so.
func TestLeaseLostOverAHalfDoneRelease(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *kubernetes.Clientset, string, *faultproxy.Proxy){
		"the server is away": func(_ *testing.T, _ *kubernetes.Clientset, _ string, p *faultproxy.Proxy) { p.Close() },
		"another has it": func(t *testing.T, admin *kubernetes.Clientset, namespace string, _ *faultproxy.Proxy) {
			patch := []byte(`{"metadata":{"annotations":{"slipway.dev/owner":"{}"}}}`)
			if _, err := admin.CoordinationV1().Leases(namespace).Patch(t.Context(), lease.Name("orders"), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			sb := sandboxtest.Open(t)
			namespace, admin := sb.Namespace(t, "nonprod"), kubernetes.NewForConfigOrDie(sb.Rest(t, "nonprod"))
			p, kubeconfig := sb.Through(t, "nonprod", t.TempDir(), faultproxy.Config{})
			cluster, err := kube.New(kube.Config{Kubeconfig: kubeconfig})
			if err != nil {
				t.Fatal(err)
			}
			watcher := rollout.NewWatcher(cluster)
			defer watcher.Close()
			d := Deps{Run: &tool.Run{Log: joblog.New(io.Discard, false), Report: report.New("slipway-deploy", "apply", "test"), ReportDir: t.TempDir()},
				Cluster: cluster, Watcher: watcher, Owner: owner.Owner{Kind: "person", User: "test"}, LockTimeout: 10 * time.Second,
				Renew: 100 * time.Millisecond, Expiry: 5 * time.Second}
			request := Request{Spec: neverReady(t, namespace), Timeout: 5 * time.Minute, Restore: true, RemoveFirst: true}
			ended := make(chan error, 1)
			go func() {
				_, err := Release(t.Context(), d, request, d.Run.Step)
				ended <- err
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			pods, err := admin.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: "app=orders"})
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := <-pods.ResultChan(); !ok {
				t.Fatalf("no pod came; the release: %v", <-ended)
			}
			pods.Stop()
			lose(t, admin, namespace, p)
			if err = <-ended; tool.CodeOf(err) != tool.Broken || !errors.Is(err, lease.ErrLost) || !strings.Contains(strings.Join(tool.HintsOf(err), "\n"), "run it again") {
				t.Errorf("error %v, code %d, hints %q", err, tool.CodeOf(err), tool.HintsOf(err))
			}
			records, err := admin.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "name=orders,status=pending-install"})
			if err != nil || len(records.Items) != 1 {
				t.Errorf("%d pending records, error %v", len(records.Items), err)
			}
			if _, err := admin.AppsV1().Deployments(namespace).Get(t.Context(), "orders", metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// neverReady is a release whose pods no scheduler takes.
func neverReady(t *testing.T, namespace string) helmrelease.Spec {
	t.Helper()
	c := loaded(t, filepath.Join(t.TempDir(), "orders"), map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: orders\nversion: 1.0.0\n",
		"templates/workload.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec: {schedulerName: none, containers: [{name: app, image: example.com/app}]}
`})
	return helmrelease.Spec{Name: "orders", Namespace: namespace, Chart: c, Values: map[string]any{}}
}
