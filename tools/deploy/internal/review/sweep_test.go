package review

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
)

// TestSweepLeavesWhatIsRenewed: an app that is deployed to again after the
// sweep has listed it stays, and one that is not goes.
func TestSweepLeavesWhatIsRenewed(t *testing.T) {
	sb := sandboxtest.Open(t)
	unique := sb.Namespace(t, "nonprod")
	service := "s" + unique[strings.LastIndex(unique, "-")+1:]
	cluster, err := kube.New(kube.Config{Kubeconfig: sb.Clusters["nonprod"].Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	client := cluster.Clientset().CoreV1().Namespaces()
	app := func(mr string) App {
		return App{Service: service, Environment: unique, MR: mr, Namespace: service + "-mr-" + mr, StopAfter: time.Hour}
	}
	for _, mr := range []string{"1", "2"} {
		a := app(mr)
		if err := a.create(t.Context(), client, time.Now().Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Delete(context.Background(), a.Namespace, metav1.DeleteOptions{}) })
	}
	watcher := rollout.NewWatcher(cluster)
	defer watcher.Close()
	s := Sweep{Environment: unique, Now: time.Now(),
		Remover: Remover{Timeout: 5 * time.Minute, Deps: apply.Deps{Cluster: cluster, Watcher: watcher, Owner: owner.Owner{Kind: "person", User: "test"},
			Run: &tool.Run{Log: joblog.New(io.Discard, false), Report: report.New("slipway-deploy", "sweep", "test")}}},
		Namespace: func(service, mr string) string { return service + "-mr-" + mr },
		State: func(ctx context.Context, _, mr string) string {
			if mr == "1" {
				ns, err := client.Get(ctx, app(mr).Namespace, metav1.GetOptions{})
				if err == nil {
					err = app(mr).renew(ctx, client, ns, time.Now())
				}
				if err != nil {
					t.Error(err)
				}
			}
			return ""
		}}
	got, err := s.Run(t.Context())
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, f := range got {
		ns, err := client.Get(t.Context(), f.Namespace, metav1.GetOptions{})
		switch {
		case f.MR == "1" && (err != nil || f.Removed || ns.Status.Phase != corev1.NamespaceActive || !strings.Contains(f.Reason, "deployed to again")):
			t.Errorf("the renewed one: %+v, %v", f, err)
		case f.MR == "2" && (!apierrors.IsNotFound(err) || !f.Removed):
			t.Errorf("the forgotten one: %+v, %v", f, err)
		}
	}
}
