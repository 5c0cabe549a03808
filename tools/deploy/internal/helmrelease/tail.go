package helmrelease

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	helmkube "helm.sh/helm/v3/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"gitlab.com/slipway/slipway/pkg/kube"
)

// The bounds of a hook's log in ours, and of the wait for its last lines.
const (
	longestLine = 32 << 10
	mostLines   = 5000
	mostResumes = 5
	lastLines   = 3 * time.Second
)

// tail follows the logs of the pods of hooks until it is told to stop. It then
// waits a moment for what has been written and not yet been read.
func (c *client) tail(list helmkube.ResourceList) (stop func(), err error) {
	objects, err := objectsOf(list)
	if err != nil || c.tell == nil {
		return func() {}, err
	}
	streams, cut := context.WithCancel(c.ctx)
	watching, end := context.WithCancel(streams)
	var all []*hookLog
	var watches sync.WaitGroup
	for _, o := range objects {
		t := &hookLog{hook: o.GetName(), namespace: o.GetNamespace(), client: c.cluster.Clientset(), line: c.tell, pods: podsOf(o), seen: map[string]bool{}}
		all = append(all, t)
		watches.Go(func() { t.watch(watching, streams, c.cluster) })
	}
	return func() {
		end()
		watches.Wait()
		timer := time.AfterFunc(lastLines, cut)
		defer timer.Stop()
		for _, t := range all {
			t.last(streams)
			t.running.Wait()
		}
		cut()
	}, nil
}

// podsOf selects the pods of a hook: those of a Job, or the hook itself.
func podsOf(o *unstructured.Unstructured) metav1.ListOptions {
	if o.GetKind() == "Pod" {
		return metav1.ListOptions{FieldSelector: "metadata.name=" + o.GetName()}
	}
	return metav1.ListOptions{LabelSelector: "batch.kubernetes.io/controller-uid=" + string(o.GetUID())}
}

// hookLog is the log of one hook's pods.
type hookLog struct {
	hook, namespace string
	pods            metav1.ListOptions
	client          kubernetes.Interface
	line            func(string)
	running         sync.WaitGroup

	mu    sync.Mutex
	seen  map[string]bool // containers that are followed, by pod and restart
	lines int
}

func (t *hookLog) watch(ctx, streams context.Context, cluster *kube.Cluster) {
	err := cluster.UntilList(ctx, corev1.SchemeGroupVersion.WithResource("pods"), t.namespace, t.pods, func(list []*unstructured.Unstructured) (bool, error) {
		for _, u := range list {
			var p corev1.Pod
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
				return false, err
			}
			t.follow(streams, &p)
		}
		return false, nil
	})
	if ctx.Err() == nil {
		t.print("", fmt.Sprintf("(its log is not shown: %v)", err))
	}
}

// last takes up the containers that the watch has not told of before the hook
// had ended.
func (t *hookLog) last(ctx context.Context) {
	list, err := t.client.CoreV1().Pods(t.namespace).List(ctx, t.pods)
	if err != nil {
		return // they are gone, and their end has been told
	}
	for i := range list.Items {
		t.follow(ctx, &list.Items[i])
	}
}

// follow starts with each container of a pod once it has begun to run.
func (t *hookLog) follow(ctx context.Context, p *corev1.Pod) {
	all := append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...)
	for _, s := range all {
		if s.State.Running == nil && s.State.Terminated == nil {
			continue
		}
		key := fmt.Sprintf("%s/%s/%d", p.UID, s.Name, s.RestartCount)
		t.mu.Lock()
		known := t.seen[key]
		t.seen[key] = true
		t.mu.Unlock()
		if known {
			continue
		}
		name := ""
		if len(all) > 1 {
			name = "/" + s.Name
		}
		t.running.Go(func() { t.stream(ctx, p.Name, s.Name, name) })
	}
}

// stream copies the log of a container until the container has ended. A
// connection that breaks off is taken up where it was.
func (t *hookLog) stream(ctx context.Context, pod, container, name string) {
	var at time.Time
	for range mostResumes {
		o := &corev1.PodLogOptions{Container: container, Follow: true, Timestamps: true}
		if !at.IsZero() {
			since := metav1.NewTime(at)
			o.SinceTime = &since
		}
		rc, err := t.client.CoreV1().Pods(t.namespace).GetLogs(pod, o).Stream(ctx)
		if err == nil {
			err = t.copy(rc, name, &at)
			_ = rc.Close()
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		if at.IsZero() {
			t.print(name, fmt.Sprintf("(no log: %v)", err))
			return
		}
	}
}

func (t *hookLog) copy(r io.Reader, name string, at *time.Time) error {
	in, read := bufio.NewReaderSize(r, longestLine), *at
	for {
		raw, long, err := in.ReadLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		stamp, text, _ := strings.Cut(string(raw), " ")
		for rest := long; rest; {
			// A part of it could be a part of a secret, which nobody would know.
			text = "(a line that is too long is left out)"
			if _, rest, err = in.ReadLine(); err != nil {
				return err
			}
		}
		when, err := time.Parse(time.RFC3339Nano, stamp)
		switch {
		case err != nil:
			t.print(name, string(raw))
		case when.After(read): // else it was read before the connection broke
			*at = when
			t.print(name, text)
		}
	}
}

func (t *hookLog) print(container, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.lines++; {
	case t.lines <= mostLines:
		t.line("hook " + t.hook + container + " | " + text)
	case t.lines == mostLines+1:
		t.line(fmt.Sprintf("hook %s | (more than %d lines: the rest is left out)", t.hook, mostLines))
	}
}
