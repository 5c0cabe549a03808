package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/tool"
)

func options(t *testing.T, ns string, job int64) Options {
	return Options{Namespace: ns, Release: "orders", Owner: owner.Owner{Kind: "job", Instance: "https://gitlab.example.com", Project: 77, Job: job},
		Wait: 30 * time.Second, Renew: 50 * time.Millisecond, Expiry: 400 * time.Millisecond, Log: t.Logf}
}

// slow are the options where renewals must go through, on a busy machine too.
func slow(t *testing.T, ns string, job int64) Options {
	o := options(t, ns, job)
	o.Renew, o.Expiry = 300*time.Millisecond, 3*time.Second
	return o
}

func open(t *testing.T) (*kube.Cluster, string) {
	t.Helper()
	sb := sandboxtest.Open(t)
	c, err := kube.New(kube.Config{Kubeconfig: sb.Clusters["nonprod"].Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	return c, sb.Namespace(t, "nonprod")
}

func TestLiveOwnerIsWaitedForAndHandsOver(t *testing.T) {
	c, ns := open(t)
	_, first, err := Acquire(t.Context(), c, slow(t, ns, 1))
	if err != nil {
		t.Fatal(err)
	}
	short := slow(t, ns, 2)
	short.Wait = 4 * time.Second // longer than the lease lives unrenewed
	if _, _, err := Acquire(t.Context(), c, short); tool.CodeOf(err) != tool.Held || !strings.Contains(fmt.Sprint(err), "job 1") {
		t.Fatalf("error %v (code %d), want held by job 1", err, tool.CodeOf(err))
	}
	got := make(chan error, 1)
	go func() {
		_, second, err := Acquire(t.Context(), c, slow(t, ns, 2))
		if err == nil && second.Former != nil {
			err = errors.New("it was taken over, not handed over")
		}
		if err == nil {
			err = second.Release(t.Context())
		}
		got <- err
	}()
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	list, err := c.Clientset().CoordinationV1().Leases(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("%d leases are left, error %v", len(list.Items), err)
	}
}

// TestDeadOwnerIsTakenOver: the lease's own clock is far ahead, which must not
// matter, since its silence is measured by ours.
func TestDeadOwnerIsTakenOver(t *testing.T) {
	c, ns := open(t)
	held, first, err := Acquire(t.Context(), c, options(t, ns, 1))
	if err != nil {
		t.Fatal(err)
	}
	first.Abandon()
	leases := c.Clientset().CoordinationV1().Leases(ns)
	l, err := leases.Get(t.Context(), Name("orders"), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ahead := metav1.NewMicroTime(time.Now().Add(time.Hour))
	l.Spec.RenewTime = &ahead
	if _, err := leases.Update(t.Context(), l, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	asked := options(t, ns, 2)
	asked.JobState = func(context.Context, owner.Owner) string { return "unknown" }
	if _, _, err := Acquire(t.Context(), c, asked); tool.CodeOf(err) != tool.Undecidable {
		t.Fatalf("error %v, want undecidable while GitLab does not know the job", err)
	}
	asked.JobState = func(context.Context, owner.Owner) string { return "failed" }
	_, second, err := Acquire(t.Context(), c, asked)
	if err != nil || second.Former == nil || second.Former.Job != 1 {
		t.Fatalf("former %+v, error %v", second, err)
	}
	defer second.Abandon()
	if held.Err() != nil {
		t.Error("a run that stopped renewing on purpose was told that it lost its lease")
	}
}

func TestLostLeaseEndsTheRun(t *testing.T) {
	c, ns := open(t)
	held, first, err := Acquire(t.Context(), c, options(t, ns, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Abandon()
	if err := c.Clientset().CoordinationV1().Leases(ns).Delete(t.Context(), Name("orders"), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if code := lost(t, held); code != tool.Temporary {
		t.Errorf("code %d: nobody holds it", code)
	}
}

// lost waits until a run loses its lease, and returns the exit code of why.
func lost(t *testing.T, held context.Context) int {
	t.Helper()
	select {
	case <-held.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the run goes on without its lease")
	}
	cause := context.Cause(held)
	if !errors.Is(cause, ErrLost) {
		t.Errorf("cause %v", cause)
	}
	return tool.CodeOf(cause)
}

// TestTakenLeaseIsHeld: only where another owner's name is on the lease, it is
// held by somebody.
func TestTakenLeaseIsHeld(t *testing.T) {
	c, ns := open(t)
	held, first, err := Acquire(t.Context(), c, slow(t, ns, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Abandon()
	patch := []byte(`{"metadata":{"annotations":{"` + annotation + `":"{\"kind\":\"job\",\"job\":2}"}}}`)
	if _, err := c.Clientset().CoordinationV1().Leases(ns).Patch(t.Context(), Name("orders"), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if code := lost(t, held); code != tool.Held {
		t.Errorf("code %d, want held", code)
	}
}

// TestUnreachableServerIsTemporary: a lease that cannot be renewed is lost, and
// nobody is known to hold it.
func TestUnreachableServerIsTemporary(t *testing.T) {
	_, ns := open(t)
	p, kubeconfig := sandboxtest.Open(t).Through(t, "nonprod", t.TempDir(), faultproxy.Config{})
	c, err := kube.New(kube.Config{Kubeconfig: kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	held, l, err := Acquire(t.Context(), c, options(t, ns, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Abandon()
	p.Close()
	if code := lost(t, held); code != tool.Temporary {
		t.Errorf("code %d, want temporary", code)
	}
}

// TestSilenceDecidesWhereGitLabIsNotAsked: an expired lease alone takes nothing
// from an owner who may live; an age of silence does, and the log says so.
func TestSilenceDecidesWhereGitLabIsNotAsked(t *testing.T) {
	c, ns := open(t)
	_, first, err := Acquire(t.Context(), c, options(t, ns, 1))
	if err != nil {
		t.Fatal(err)
	}
	first.Abandon()
	var said []string
	second := options(t, ns, 2)
	second.Log = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	_, l, err := Acquire(t.Context(), c, second)
	if err != nil || l.Former == nil || l.Former.Job != 1 {
		t.Fatalf("former %+v, error %v", l, err)
	}
	defer l.Abandon()
	held, taken := -1, -1
	for i, line := range said {
		switch {
		case strings.Contains(line, "counts as ended after "+owner.AgeLimit(second.Expiry).String()+" of silence"):
			held = i
		case strings.Contains(line, "taking release orders over") && strings.Contains(line, "the lease and this age limit decide"):
			taken = i
		}
	}
	if held < 0 || taken < held {
		t.Errorf("it was said:\n%s", strings.Join(said, "\n"))
	}
}

// TestPersonDecidesBeforeTheAgeLimit: of an owner whose lease has expired, and
// of whom GitLab says nothing, a person may say that it has ended.
func TestPersonDecidesBeforeTheAgeLimit(t *testing.T) {
	c, ns := open(t)
	_, first, err := Acquire(t.Context(), c, options(t, ns, 1))
	if err != nil {
		t.Fatal(err)
	}
	first.Abandon()
	decided := options(t, ns, 2)
	decided.Decided, decided.Owner.User = true, "ada"
	var said string
	decided.Log = func(format string, args ...any) { said += fmt.Sprintf(format, args...) + "\n" }
	_, l, err := Acquire(t.Context(), c, decided)
	if err != nil || l.Former == nil {
		t.Fatalf("former %+v, error %v", l, err)
	}
	defer l.Abandon()
	if !strings.Contains(said, "counts as ended after "+owner.AgeLimit(decided.Expiry).String()+" of silence; ada says that it has ended") {
		t.Errorf("it was said:\n%s", said)
	}
}

// TestLostReplyIsNoLostLease: the server took a renewal and its reply was
// lost, so that our own write stands in the way of the next one.
func TestLostReplyIsNoLostLease(t *testing.T) {
	c, ns := open(t)
	o := options(t, ns, 1)
	o.Renew = time.Hour // this test renews itself
	_, l, err := Acquire(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	write := func(change func(map[string]string)) {
		t.Helper()
		next, err := l.client.Get(t.Context(), l.current.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now := metav1.NowMicro()
		next.Spec.RenewTime = &now
		change(next.Annotations)
		if _, err := l.client.Update(t.Context(), next, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	write(func(map[string]string) {})
	if err := l.renewOnce(t.Context(), time.Minute); err != nil {
		t.Errorf("after our own write: %v", err)
	}
	if err := l.renewOnce(t.Context(), time.Minute); err != nil {
		t.Errorf("and the renewal after that: %v", err)
	}
	write(func(a map[string]string) { a[annotation] = `{"kind":"job","job":2}` })
	if err := l.renewOnce(t.Context(), time.Minute); err == nil {
		t.Error("another owner's lease was renewed as ours")
	}
	l.Abandon()
}
