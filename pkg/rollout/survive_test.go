package rollout

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// line is the way to the API server, which the test cuts and mends.
type line struct {
	http.RoundTripper

	mu      sync.Mutex
	away    bool
	open    map[*body]bool
	expired map[string]bool // watches that were told once that their version is too old
	expire  bool
	watched chan string
}

// body is a reply that the line can cut.
type body struct {
	io.ReadCloser
	of *line
}

func (b *body) Close() error {
	b.of.mu.Lock()
	delete(b.of.open, b)
	b.of.mu.Unlock()
	return b.ReadCloser.Close()
}

func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	watch := r.URL.Query().Get("watch") == "true"
	l.mu.Lock()
	away, expire := l.away, l.expire && watch && !l.expired[r.URL.Path]
	if expire {
		l.expired[r.URL.Path] = true
	}
	l.mu.Unlock()
	switch {
	case away:
		return nil, syscall.ECONNREFUSED
	case expire:
		gone := `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old resource version","reason":"Expired","code":410}}` + "\n"
		return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(gone))}, nil
	}
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil && watch {
		b := &body{resp.Body, l}
		resp.Body = b
		l.mu.Lock()
		l.open[b] = true
		l.mu.Unlock()
		select {
		case l.watched <- r.URL.Path:
		default:
		}
	}
	return resp, err
}

// cut ends all watches; with away, nothing gets through until it is over.
func (l *line) cut(away bool) {
	l.mu.Lock()
	l.away = away
	open := l.open
	l.open = map[*body]bool{}
	l.mu.Unlock()
	for b := range open {
		_ = b.ReadCloser.Close()
	}
}

func openThrough(t *testing.T, change func(*rest.Config)) (real, string) {
	t.Helper()
	c, ns := open(t)
	rc := sandboxtest.Open(t).Rest(t, "nonprod")
	change(rc)
	var err error
	if c.dyn, err = dynamic.NewForConfig(rc); err != nil {
		t.Fatal(err)
	}
	return c, ns
}

// held makes a deployment whose pods the test itself makes ready, and waits for
// it in the background.
func held(ctx context.Context, t *testing.T, c real, ns string) (ended chan error) {
	t.Helper()
	d, err := c.AppsV1().Deployments(ns).Create(ctx, workload(true), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() {
		_, err := Wait(ctx, c, wanted(ns, d.Generation), Options{})
		ended <- err
	}()
	return ended
}

// play makes the status of the deployment's first pod what is given.
func play(ctx context.Context, c real, ns string, status corev1.PodStatus) error {
	w, err := c.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{LabelSelector: "app=orders"})
	if err != nil {
		return err
	}
	defer w.Stop()
	for ev := range w.ResultChan() {
		if p, ok := ev.Object.(*corev1.Pod); ok {
			p.Status = status
			if _, err := c.CoreV1().Pods(ns).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err == nil {
				return nil
			}
		}
	}
	return context.Cause(ctx)
}

var isReady = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}

// A wait goes on through watches that drop, a version that is too old, and an
// API server that is away: it sees what happened meanwhile.
func TestWaitSurvives(t *testing.T) {
	for name, trouble := range map[string]func(*line, func()){
		"dropped watches": func(l *line, meanwhile func()) { l.cut(false); meanwhile() },
		"server away": func(l *line, meanwhile func()) {
			l.cut(true)
			meanwhile()
			l.cut(false)
		},
		"version too old": func(l *line, meanwhile func()) {
			l.mu.Lock()
			l.expire = true
			l.mu.Unlock()
			l.cut(false)
			meanwhile()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &line{open: map[*body]bool{}, expired: map[string]bool{}, watched: make(chan string, 64)}
			c, ns := openThrough(t, func(rc *rest.Config) {
				rc.Wrap(func(rt http.RoundTripper) http.RoundTripper { l.RoundTripper = rt; return l })
			})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			ended := held(ctx, t, c, ns)
			for seen := range l.watched {
				if strings.HasSuffix(seen, "/pods") {
					break // the wait is up
				}
			}
			trouble(l, func() {
				if err := play(ctx, c, ns, isReady); err != nil {
					t.Error(err)
				}
			})
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// Who may not read events and pods' logs is told less, and waits all the same.
func TestMissingRights(t *testing.T) {
	c, ns := openThrough(t, func(rc *rest.Config) { rc.Impersonate.UserName = "looker" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	may := []rbacv1.PolicyRule{{APIGroups: []string{"apps"}, Resources: []string{"deployments", "replicasets"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch"}}}
	if _, err := c.RbacV1().Roles(ns).Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "looker"}, Rules: may}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "looker"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "looker", APIGroup: rbacv1.GroupName}},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "looker"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	d, err := c.AppsV1().Deployments(ns).Create(ctx, workload(true), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := play(ctx, c, ns, corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{waiting("ErrImagePull", "not found")}}); err != nil {
			t.Error(err)
		}
	}()
	got, err := Wait(ctx, c, wanted(ns, d.Generation), Options{Logs: func(context.Context, string, string, string, bool) (string, error) {
		return "", errors.New("pods/log is forbidden")
	}})
	var failure *Failure
	if !errors.As(err, &failure) || failure.Finding.Class != ClassImage {
		t.Errorf("error %v, want the image's finding", err)
	}
	if len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "events is forbidden") {
		t.Errorf("notes %q", got.Notes)
	}
	if len(got.Evidence) != 1 || len(got.Evidence[0].Pods) != 1 {
		t.Errorf("evidence %+v", got.Evidence)
	}
}

// The window follows from the workloads where nobody asked for another.
func TestStableByWorkload(t *testing.T) {
	if steady(&appsv1.Deployment{}) || !steady(&appsv1.Deployment{Spec: appsv1.DeploymentSpec{MinReadySeconds: 3}}) {
		t.Error("minReadySeconds are not seen")
	}
}
