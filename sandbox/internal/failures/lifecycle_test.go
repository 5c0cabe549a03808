package failures

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/pkg/rollout"
)

// Failures that are asked for so many times pass, and the pod is ready then.
func TestHealsAfterSomeTimes(t *testing.T) {
	for _, s := range scenarios() {
		if s.kind == Evict || s.kind == SlowStart { // they have no times
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			d := s.deployment(true)
			maps.Copy(d.Spec.Template.Annotations, map[string]string{TimesAnnotation: "2", ForAnnotation: "0.2"})
			objects, ctx := c.apply(t, d), patience(t)
			want := map[Kind]int32{CrashLoop: 2, OOM: 2, Init: 2, Liveness: 2, StartError: 2}[s.kind]
			failed := false
			err := c.observe(ctx, func(p *corev1.Pod, _ *corev1.Event) bool {
				failed = failed || p.Status.StartTime != nil && !ready(p)
				return ready(p) && restarted(p) >= want
			})
			if err != nil || !failed {
				t.Fatalf("failed before %t: %v", failed, err)
			}
			if err := c.wait(ctx, objects, time.Second); err != nil {
				t.Error(err)
			}
			list, err := c.CoreV1().Pods(c.ns).List(ctx, metav1.ListOptions{})
			if err != nil || len(list.Items) != 1 || restarted(&list.Items[0]) != want {
				t.Errorf("%d pods, restarted %d times, want %d: %v", len(list.Items), restarted(&list.Items[0]), want, err)
			}
		})
	}
}

// restarted is how often the container of a pod was restarted that was most often.
func restarted(p *corev1.Pod) (n int32) {
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		n = max(n, s.RestartCount)
	}
	return n
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// A rollout without the annotation mends what failed, and the old pod goes.
func TestRolloutMends(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			ctx := patience(t)
			c.apply(t, s.deployment(true))
			if err := c.observe(ctx, func(p *corev1.Pod, _ *corev1.Event) bool { return p.Status.StartTime != nil }); err != nil {
				t.Fatal(err)
			}
			if err := c.wait(ctx, c.apply(t, s.deployment(false)), 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// A pod that fails is deleted as any other, without waiting.
func TestFailingPodIsDeleted(t *testing.T) {
	c := open(t)
	ctx := patience(t)
	pod := c.pod(t, "orders", map[string]string{Annotation: string(CrashLoop)})
	err := c.observe(ctx, func(p *corev1.Pod, _ *corev1.Event) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Pods(c.ns).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.deleted(ctx, pod); err != nil {
		t.Error(err)
	}
}

// A pod that runs fails once it is asked to, and heals when it is not any more.
func TestLivePodIsAsked(t *testing.T) {
	c := open(t)
	ctx := patience(t)
	c.pod(t, "orders", nil)
	is := func(reason string) func(p *corev1.Pod, _ *corev1.Event) bool {
		return func(p *corev1.Pod, _ *corev1.Event) bool {
			if reason == "" {
				return ready(p)
			}
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == reason
		}
	}
	if err := c.observe(ctx, is("")); err != nil {
		t.Fatal(err)
	}
	c.from.ResourceVersion = c.annotate(t, "orders", string(CrashLoop))
	if err := c.observe(ctx, is("CrashLoopBackOff")); err != nil {
		t.Fatal(err)
	}
	c.from.ResourceVersion = c.annotate(t, "orders", nil)
	if err := c.observe(ctx, is("")); err != nil {
		t.Error(err)
	}
}

// Only the container that is named fails, and the pod is not ready for it.
func TestNamedContainerFails(t *testing.T) {
	c := open(t)
	c.pod(t, "orders", map[string]string{Annotation: string(CrashLoop), ContainerAnnotation: "proxy"}, "proxy")
	err := c.observe(patience(t), func(p *corev1.Pod, _ *corev1.Event) bool {
		list := p.Status.ContainerStatuses
		return len(list) == 2 && list[0].Ready && list[0].RestartCount == 0 && list[1].RestartCount > 0 && list[1].State.Waiting != nil && !ready(p)
	})
	if err != nil {
		t.Error(err)
	}
}

// A job's pod that may not be restarted ends with its container; one that may
// be ends well once it is healed.
func TestJobsFail(t *testing.T) {
	for policy, want := range map[corev1.RestartPolicy]batchv1.JobConditionType{corev1.RestartPolicyNever: batchv1.JobFailed, corev1.RestartPolicyOnFailure: batchv1.JobComplete} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			c := open(t)
			ctx := patience(t)
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "migrate"}, Spec: batchv1.JobSpec{
				BackoffLimit: new(int32(0)),
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{Annotation: string(CrashLoop), TimesAnnotation: "1"}},
					Spec:       corev1.PodSpec{RestartPolicy: policy, Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/orders:1"}}},
				},
			}}
			if policy == corev1.RestartPolicyOnFailure {
				job.Spec.BackoffLimit = new(int32(3))
			}
			if _, err := c.BatchV1().Jobs(c.ns).Create(ctx, job, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			w, err := c.BatchV1().Jobs(c.ns).Watch(ctx, c.from)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			for e := range w.ResultChan() {
				j, ok := e.Object.(*batchv1.Job)
				if !ok {
					t.Fatal(e.Object)
				}
				for _, cond := range j.Status.Conditions {
					if cond.Type == batchv1.JobFailed || cond.Type == batchv1.JobComplete {
						if cond.Type != want {
							t.Errorf("the job is %s: %s", cond.Type, cond.Message)
						}
						return
					}
				}
			}
			t.Error(context.Cause(ctx))
		})
	}
}

// Who asks for what there is not is told so, all at once, and the pod does not run.
func TestBadRequestIsTold(t *testing.T) {
	c := open(t)
	c.pod(t, "orders", map[string]string{Annotation: string(OOM), TimesAnnotation: "0", ContainerAnnotation: "db"})
	err := c.observe(patience(t), func(p *corev1.Pod, e *corev1.Event) bool {
		return e != nil && e.Reason == "BadFailureRequest" && e.Type == corev1.EventTypeWarning && p.Status.Phase == corev1.PodPending &&
			strings.Contains(e.Message, `"0" is no number from 1 to 3600`) && strings.Contains(e.Message, `no container "db"`)
	})
	if err != nil {
		t.Error(err)
	}
}

// What the registry says can be chosen, and the product reads it.
func TestMessageIsChosen(t *testing.T) {
	c := open(t)
	s := scenario{kind: ImagePull, annotations: map[string]string{MessageAnnotation: "pull access denied, 401 Unauthorized"}, class: rollout.ClassImage, says: "the registry refuses the credentials", early: true}
	checkFailure(t, s, c.wait(patience(t), c.apply(t, s.deployment(true)), 0), nil)
}

// No node and no quota: the scheduler and the admission of the cluster itself
// refuse, and the product says so.
func TestRefusalsOfTheClusterItself(t *testing.T) {
	for _, r := range []struct {
		name, class, says string
		early             bool
	}{
		{name: "unschedulable", class: rollout.ClassSchedule, says: "Insufficient cpu"},
		{name: "quota", class: rollout.ClassAdmission, says: "exceeded quota: small", early: true},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			ctx, deadline := patience(t), errors.New("the deadline is over")
			s := scenario{class: r.class, says: r.says, early: r.early}
			d := s.deployment(false)
			requests := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4000")}
			d.Spec.Template.Spec.Containers[0].Resources.Requests = requests
			if r.name == "quota" {
				quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse("1")}}}
				if _, err := c.CoreV1().ResourceQuotas(c.ns).Create(ctx, quota, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			objects := c.apply(t, d)
			if !r.early {
				if err := c.observe(ctx, func(_ *corev1.Pod, e *corev1.Event) bool { return e != nil && e.Reason == "FailedScheduling" }); err != nil {
					t.Fatal(err)
				}
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, short, deadline)
				defer cancel()
			}
			checkFailure(t, s, c.wait(ctx, objects, 0), deadline)
		})
	}
}

// pod makes a pod with the container app and others.
func (c cluster) pod(t *testing.T, name string, annotations map[string]string, others ...string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
	for _, n := range append([]string{"app"}, others...) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: n, Image: "registry.example.com/" + n + ":1"})
	}
	pod, err := c.CoreV1().Pods(c.ns).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// annotate sets the pod's annotation, or takes it off where value is nil, and
// returns the version of the pod since then.
func (c cluster) annotate(t *testing.T, name string, value any) string {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{Annotation: value}}})
	if err != nil {
		t.Fatal(err)
	}
	pod, err := c.CoreV1().Pods(c.ns).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod.ResourceVersion
}

// deleted waits until the pod is gone.
func (c cluster) deleted(ctx context.Context, pod *corev1.Pod) error {
	w, err := c.CoreV1().Pods(c.ns).Watch(ctx, c.from)
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if p, ok := e.Object.(*corev1.Pod); ok && p.UID == pod.UID && e.Type == "DELETED" {
			return nil
		}
	}
	return context.Cause(ctx)
}
