package rollout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// What is read of logs at a verdict is bounded: lines and bytes of each, pods
// of each workload, and the time that all of it may take.
const (
	logLines = int64(200)
	logBytes = 16 << 10
	logPods  = 3
	logTime  = 10 * time.Second
)

// LogReader fetches the end of what a container said, in its run or in the one before.
type LogReader func(ctx context.Context, namespace, pod, container string, previous bool) (string, error)

// Logs reads them from the cluster.
func Logs(client kubernetes.Interface) LogReader {
	return func(ctx context.Context, namespace, pod, container string, previous bool) (string, error) {
		lines := logLines
		rc, err := client.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container, Previous: previous, TailLines: &lines}).Stream(ctx)
		if err != nil {
			return "", fmt.Errorf("reading the log of pod %q: %w", pod, err)
		}
		text, err := end(rc, logBytes)
		return text, errors.Join(err, rc.Close())
	}
}

// end reads to the end and keeps the last bytes, from the start of a line.
func end(r io.Reader, size int) (string, error) {
	var kept []byte
	chunk := make([]byte, 32<<10)
	for {
		n, err := r.Read(chunk)
		kept = append(kept, chunk[:n]...)
		if cut := len(kept) - size; cut > 0 {
			if i := bytes.IndexByte(kept[cut:], '\n'); i >= 0 && cut+i+1 < len(kept) {
				cut += i + 1
			}
			kept = append(kept[:0], kept[cut:]...)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return string(kept), err
		}
	}
}

// wish is a log that would help.
type wish struct {
	namespace, pod, container string
	uid                       string
	previous                  bool
	restarts                  int32
}

// wishes are the logs of the containers that are not well, of the first pods
// of the workload.
func wishes(e Evidence) []wish {
	var out []wish
	pods := slices.Clone(e.Pods)
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	n := 0
	for _, p := range pods {
		before := len(out)
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			done := s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
			if s.Ready || done && s.RestartCount == 0 {
				continue
			}
			w := wish{e.Workload.Namespace, p.Name, s.Name, string(p.UID), false, s.RestartCount}
			if s.State.Running != nil || s.State.Terminated != nil {
				out = append(out, w)
			}
			if w.previous = true; s.LastTerminationState.Terminated != nil || s.RestartCount > 0 {
				out = append(out, w)
			}
		}
		if len(out) > before {
			n++
		}
		if n == logPods {
			break
		}
	}
	return out
}

// reader keeps the logs that a wait has read, so that none is read twice.
type reader struct {
	read LogReader
	have map[wish]Log
}

// fetch reads the logs that are not there yet, at once, and reports whether
// there were any.
func (r *reader) fetch(ctx context.Context, all []wish) bool {
	if r.read == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, logTime)
	defer cancel()
	var missing []wish
	for _, w := range all {
		if _, ok := r.have[w]; !ok && !slices.Contains(missing, w) {
			missing = append(missing, w)
		}
	}
	logs := make([]Log, len(missing))
	var running sync.WaitGroup
	for i, w := range missing {
		running.Go(func() {
			l := Log{Pod: w.pod, Container: w.container, Previous: w.previous}
			text, err := r.read(ctx, w.namespace, w.pod, w.container, w.previous)
			if l.Text = text; err != nil && text == "" {
				l.Missing = err.Error()
			}
			logs[i] = l
		})
	}
	running.Wait()
	for i, w := range missing {
		r.have[w] = logs[i]
	}
	return len(missing) > 0
}

// of are the logs that were read for the evidence's containers as they are now.
func (r *reader) of(e Evidence) []Log {
	var out []Log
	for _, w := range wishes(e) {
		if l, ok := r.have[w]; ok {
			out = append(out, l)
		}
	}
	return out
}
