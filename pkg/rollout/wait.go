package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// DefaultStable is the stability window of a workload without minReadySeconds,
// where nobody asked for another.
const DefaultStable = 5 * time.Second

// ByWorkload is the stability window that follows from the workloads: those
// with minReadySeconds have it in their own rules, for the others it is DefaultStable.
const ByWorkload = time.Duration(-1)

// Options of a wait. Its deadline is that of the context.
type Options struct {
	// Stable is how long everything must stay ready, without a restart, before
	// the wait ends well: a pod that dies after it was ready gives no success.
	// Zero ends at once; ByWorkload is the default of each. minReadySeconds
	// count on their own, in the rules.
	Stable time.Duration
	// Completed asks that pods run to their end, as hooks do.
	Completed bool
	// Patient tells of crashes and of a controller's own deadline and waits on,
	// until the context ends: where everything comes up at once, as after a
	// restore, a service crashes until what it needs is there.
	Patient bool
	// Progress gets a line whenever the state changes.
	Progress func(line string)
	// Logs fetches logs, once there is a verdict to found on them.
	Logs LogReader
}

// Result is how a wait ended.
type Result struct {
	Objects  []State       `json:"objects"`
	Findings []Finding     `json:"findings,omitempty"`
	Took     time.Duration `json:"-"`
	Start    time.Time     `json:"-"`
	// Evidence is what is known of the objects that are not ready, where the
	// wait ended badly. Notes say what could not be read.
	Evidence []Evidence `json:"-"`
	Notes    []string   `json:"notes,omitempty"`
}

// Failure is the error of a wait that ended badly: its text is the sentence
// of the first finding.
type Failure struct {
	Finding Finding
	Timeout error // set where the time ran out; else the finding ended the wait
}

// Error returns the sentence.
func (f *Failure) Error() string {
	if f.Timeout != nil {
		return fmt.Sprintf("%v; %s", f.Timeout, f.Finding.Sentence())
	}
	return f.Finding.Sentence()
}

// Unwrap returns the timeout.
func (f *Failure) Unwrap() error { return f.Timeout }

// Wait waits by watch until the objects are ready and stay so. Each object
// names itself and, where known, the generation that was applied. A cause that
// cannot pass ends the wait within seconds, as a *Failure.
func Wait(ctx context.Context, cluster Cluster, objects []*unstructured.Unstructured, o Options) (Result, error) {
	w := NewWatcher(cluster)
	defer w.Close()
	return w.Wait(ctx, objects, o)
}

// Wait is the package's Wait over the watcher's shared informers.
func (w *Watcher) Wait(ctx context.Context, objects []*unstructured.Unstructured, o Options) (Result, error) {
	v, changed, end, err := w.begin(ctx, objects, o)
	if err != nil {
		return Result{}, err
	}
	defer end()
	for {
		next, over, err := v.look(time.Now())
		if over && err != nil && v.logs.fetch(ctx, v.wishes()) {
			continue // what the containers said may change the verdict
		}
		if over {
			return v.end(ctx, objects), err
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			cause := context.Cause(ctx)
			// A run that was told to end does not begin to read logs.
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && v.logs.fetch(context.WithoutCancel(ctx), v.wishes()) {
				_, _, _ = v.look(time.Now()) // once more, with what they said
			}
			err := v.timeout(cause)
			return v.end(ctx, objects), err
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Look judges the objects as they are now, without waiting for any of them.
// With o.Logs, what containers said is part of it.
func (w *Watcher) Look(ctx context.Context, objects []*unstructured.Unstructured, o Options) (Result, error) {
	v, _, end, err := w.begin(ctx, objects, o)
	if err != nil {
		return Result{}, err
	}
	defer end()
	v.start = time.Time{}        // events of any age tell something
	_, _, _ = v.look(time.Now()) // an error of it is among the findings
	if v.logs.fetch(ctx, v.wishes()) {
		_, _, _ = v.look(time.Now())
	}
	return v.end(ctx, objects), nil
}

// begin starts the informers that the objects need and waits for their lists.
func (w *Watcher) begin(ctx context.Context, objects []*unstructured.Unstructured, o Options) (v *wait, changed chan struct{}, end func(), err error) {
	targets, err := w.targets(objects)
	if err != nil {
		return nil, nil, nil, err
	}
	v = &wait{watcher: w, targets: targets, options: o, start: time.Now(), first: map[string]time.Time{}, logs: reader{o.Logs, map[wish]Log{}}}
	changed = make(chan struct{}, 1)
	var cancels []func()
	end = func() {
		for _, c := range cancels {
			c()
		}
	}
	for _, t := range targets {
		for _, f := range t.feeds() {
			cancels = append(cancels, f.subscribe(changed))
		}
	}
	for _, t := range targets {
		for _, f := range t.feeds() {
			select {
			case <-f.done:
			case <-ctx.Done():
				end()
				return nil, nil, nil, fmt.Errorf("listing for %s: %w", t.ref, errors.Join(context.Cause(ctx), f.trouble()))
			}
		}
		if err := t.feed.refused(); err != nil {
			end()
			return nil, nil, nil, fmt.Errorf("watching %s: %w", t.ref, err)
		}
	}
	return v, changed, end, nil
}

// wait is the state of one wait.
type wait struct {
	watcher *Watcher
	targets []target
	options Options
	start   time.Time
	result  Result
	logs    reader

	evidence  []Evidence           // of what is not ready
	first     map[string]time.Time // when a finding was first seen, by our own clock
	ready     bool                 // all was ready once
	lost      []Finding            // why it was not any more
	readyAt   time.Time
	signature string
	line      string
}

// idle is how long a look is valid when nothing changes and no moment is due.
const idle = time.Hour

// look judges everything anew. It returns when to look again at the latest.
func (v *wait) look(now time.Time) (next time.Duration, over bool, err error) {
	v.result.Objects, v.result.Findings, v.evidence = nil, nil, nil
	var signature strings.Builder
	ready, stable := 0, v.options.Stable
	for _, t := range v.targets {
		live := t.feed.get(t.ref.Namespace, t.ref.Name)
		e := Select(t.ref, live, t.related)
		e.Start = v.start
		ok, message := judge(e, t.wanted, v.options.Completed)
		v.result.Objects = append(v.result.Objects, State{t.ref, ok, message})
		sign(&signature, e.Pods)
		if v.options.Stable < 0 && !steady(live) {
			stable = DefaultStable
		}
		if ok {
			ready++
			continue
		}
		e.Logs = v.logs.of(e)
		v.evidence = append(v.evidence, e)
		if !stale(live, t.wanted) {
			v.result.Findings = append(v.result.Findings, v.options.spare(e, v.options.lenient(Diagnose(e)))...)
		}
	}
	rank(v.result.Findings)
	v.progress(ready)
	if ready == len(v.targets) {
		if v.readyAt.IsZero() || v.signature != signature.String() {
			v.ready, v.readyAt, v.signature = true, now, signature.String()
		}
		left := stable - now.Sub(v.readyAt)
		if !v.running() {
			left = 0 // nothing runs that could die again
		}
		return left, left <= 0, nil
	}
	v.readyAt = time.Time{}
	if v.ready {
		v.lost = v.result.Findings
	}
	return v.verdict(now)
}

// lenient makes what may pass by itself transient, where the wait is patient.
// More memory than a container may have does not come with time.
func (o Options) lenient(findings []Finding) []Finding {
	for i, f := range findings {
		if o.Patient && (f.Class == ClassCrash && !f.over || f.deadline) {
			findings[i].Transient = true
		}
	}
	return findings
}

// running reports whether pods are among what is waited for.
func (v *wait) running() bool {
	return slices.ContainsFunc(v.targets, func(t target) bool { return t.related.pods != nil })
}

// verdict finds the finding that ends the wait, or when one will.
func (v *wait) verdict(now time.Time) (next time.Duration, over bool, err error) {
	next = idle
	there := map[string]time.Time{}
	for _, f := range v.result.Findings {
		at, ok := v.first[f.key()]
		if f.Transient && !ok {
			continue // only what could end the wait is counted
		}
		if !ok {
			at = now
		}
		there[f.key()] = at
		if f.Transient {
			continue
		}
		left := f.Grace - now.Sub(at)
		if left <= 0 && !over {
			over, err = true, &Failure{Finding: f}
		}
		next = min(next, left)
	}
	v.first = there // a trouble that went away starts anew
	return next, over, err
}

// sign notes which pods there are and how often each was restarted.
func sign(b *strings.Builder, pods []*corev1.Pod) {
	var all []string
	for _, p := range pods {
		n := int32(0)
		for _, s := range p.Status.ContainerStatuses {
			n += s.RestartCount
		}
		all = append(all, fmt.Sprintf("%s:%d", p.UID, n))
	}
	slices.Sort(all)
	b.WriteString(strings.Join(all, ","))
}

func (v *wait) progress(ready int) {
	if v.options.Progress == nil {
		return
	}
	line := fmt.Sprintf("%d of %d ready", ready, len(v.targets))
	for _, s := range v.result.Objects {
		if !s.Ready {
			line += fmt.Sprintf("; %s: %s", s.Object, s.Message)
			break
		}
	}
	if line != v.line && len(v.targets) > 0 {
		v.line = line
		v.options.Progress(line)
	}
}

// timeout makes the error of a wait that ran out of time, with the best cause
// there is: where all is ready just now and did not stay so before, why.
func (v *wait) timeout(cause error) error {
	if !v.readyAt.IsZero() {
		v.result.Findings = v.lost
	}
	if len(v.result.Findings) > 0 {
		return &Failure{Finding: v.result.Findings[0], Timeout: cause}
	}
	for _, s := range v.result.Objects {
		if !s.Ready {
			return fmt.Errorf("waiting for %s: %s: %w", s.Object, s.Message, cause)
		}
	}
	return fmt.Errorf("waiting for everything to stay ready: %w", cause)
}

// steady reports whether a workload's own rules hold back until it was ready
// for a while.
func steady(live runtime.Object) bool {
	switch o := live.(type) {
	case *appsv1.Deployment:
		return o.Spec.MinReadySeconds > 0
	case *appsv1.StatefulSet:
		return o.Spec.MinReadySeconds > 0
	case *appsv1.DaemonSet:
		return o.Spec.MinReadySeconds > 0
	}
	return false
}

// wishes are the logs that would help to tell why.
func (v *wait) wishes() []wish {
	var out []wish
	for _, e := range v.evidence {
		out = append(out, wishes(e)...)
	}
	return out
}

// end completes the result: with the evidence of what is not ready, and with
// what is worth a warning.
func (v *wait) end(ctx context.Context, objects []*unstructured.Unstructured) Result {
	v.result.Took, v.result.Start = time.Since(v.start), v.start
	v.result.Evidence = v.evidence
	for _, t := range v.targets {
		for _, f := range t.feeds() {
			if err := f.refused(); err != nil && !slices.Contains(v.result.Notes, err.Error()) {
				v.result.Notes = append(v.result.Notes, err.Error())
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logTime)
	defer cancel()
	for _, e := range v.watcher.beside(ctx, objects) {
		if found := Diagnose(e); len(found) > 0 {
			v.result.Findings = append(v.result.Findings, found...)
			v.result.Evidence = append(v.result.Evidence, e)
		}
	}
	return v.result
}

// Objects reads the objects of a manifest, one or more YAML documents that
// were decoded, into the form Wait takes, each in the namespace given unless
// it names one.
func Objects(list []map[string]any, namespace string) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, 0, len(list))
	for _, m := range list {
		u := &unstructured.Unstructured{Object: m}
		if u.GetNamespace() == metav1.NamespaceNone {
			u.SetNamespace(namespace)
		}
		out = append(out, u)
	}
	return out
}
