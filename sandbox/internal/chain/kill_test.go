package chain_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/slipway/slipway/sandbox/internal/chain"
)

// killed kills slipway-deploy with -9 while its release is pending-upgrade.
// The job must say FAIL, and the next pipeline must go through.
func killed(ctx context.Context, t *testing.T, c *chain.Chain) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Box.Clusters["nonprod"].Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// The watch stands before the push, so that the moment cannot be missed.
	w, err := client.CoreV1().Secrets("orders-dev").Watch(ctx, metav1.ListOptions{LabelSelector: "owner=helm,status=pending-upgrade"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	struck := make(chan int, 1)
	go func() {
		for range w.ResultChan() {
			if pid := deployProcess(t); pid > 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				struck <- pid
				return
			}
		}
		struck <- 0
	}()
	pipeline, err := c.Push(ctx, "orders", "orders: an upgrade that is killed", replace("values.yaml", "replicas: 1", "replicas: 3"))
	if err != nil {
		t.Fatal(err)
	}
	lines := &lockedBuffer{}
	defer func(out io.Writer) { c.Out = out }(c.Out)
	c.Out = io.MultiWriter(c.Out, lines)
	jobs, err := c.Follow(ctx, "orders", pipeline)
	if err != nil {
		t.Fatal(err)
	}
	w.Stop()
	if pid := <-struck; pid == 0 {
		t.Fatal("no slipway-deploy was met in the middle of an upgrade")
	}
	job, err := chain.Find(jobs, "deploy: [dev]")
	if err != nil {
		t.Fatal(err)
	}
	if want := "FAIL 137 nsflow/orders: deploy: [dev]\n"; job.Status != "failed" || !strings.Contains(lines.String(), want) {
		t.Fatalf("the job of the killed program is %s; the lines lack %q:\n%s", job.Status, want, lines)
	}
	pipeline, err = c.Push(ctx, "orders", "orders: the next pipeline", replace("values.yaml", "replicas: 1", "replicas: 2"))
	if err != nil {
		t.Fatal(err)
	}
	jobs, err = c.Follow(ctx, "orders", pipeline)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Green(ctx, jobs); err != nil {
		t.Errorf("the pipeline after the killed one: %v", err)
	}
	if job, err = chain.Find(jobs, "deploy: [dev]"); err != nil {
		t.Fatal(err)
	}
	if trace := c.Trace(ctx, job); !strings.Contains(trace, "it is marked failed, and the release goes on from there") {
		t.Errorf("the next job does not say what it met:\n%s", trace)
	}
}

// lockedBuffer keeps lines that are said from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// deployProcess finds the slipway-deploy that serves a job of the orders project.
func deployProcess(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Error(err)
		return 0
	}
	for _, path := range found {
		dir := filepath.Dir(path)
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || filepath.Base(strings.SplitN(string(cmdline), "\x00", 2)[0]) != "slipway-deploy" {
			continue
		}
		env, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(env), "CI_PROJECT_PATH=nsflow/orders\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			return pid
		}
	}
	return 0
}
