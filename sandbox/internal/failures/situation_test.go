package failures

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

// situation is something that is made to happen on the real node, and what a
// person who made it says of it. The diagnosis engine is tested with what the
// cluster showed then, and has no say in the label.
type situation struct {
	name  string
	make  func(*stage)
	shows func(rollout.Evidence) bool // that it has happened
	label
	heals bool // it must get ready in the end, as it comes
}

// label is what is true of a situation.
type label struct {
	Healthy   bool     `json:"healthy,omitempty"` // it must not be called failed
	Class     string   `json:"class,omitempty"`
	Workload  string   `json:"workload,omitempty"` // its name, where there are several
	Container string   `json:"container,omitempty"`
	Says      []string `json:"says,omitempty"`  // pieces of the sentence
	Waits     bool     `json:"waits,omitempty"` // it is told and waited for
}

func fails(class, container string, says ...string) label {
	return label{Class: class, Container: container, Says: says}
}

func waits(class, container string, says ...string) label {
	return label{Class: class, Container: container, Says: says, Waits: true}
}

var healthy = label{Healthy: true}

// stage is a namespace where a situation is made.
type stage struct {
	*testing.T
	*nodetest.Node
	image    string // of the program that fails, in the sandbox's registry
	registry string // one that answers pulls with what its repositories are called
	objects  []*unstructured.Unstructured
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// wanted notes an object as one that is waited for.
func (s *stage) wanted(apiVersion, kind string, o metav1.Object) {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	u.SetName(o.GetName())
	u.SetNamespace(o.GetNamespace())
	u.SetGeneration(o.GetGeneration())
	s.objects = slices.DeleteFunc(s.objects, func(have *unstructured.Unstructured) bool {
		return have.GetName() == u.GetName() && have.GetKind() == kind
	})
	s.objects = append(s.objects, u)
}

type edit = func(*corev1.PodSpec)

// pod is a template of one container called app, for the real node, which runs
// and is well unless an edit says otherwise.
func (s *stage) pod(name string, edits ...edit) corev1.PodTemplateSpec {
	spec := corev1.PodSpec{AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "app", Image: s.image, Args: []string{"serve", "200", "0s"}}}}
	nodetest.OnNode(&spec)
	for _, e := range edits {
		e(&spec)
	}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: spec}
}

func (s *stage) deployment(name string, edits ...edit) *appsv1.Deployment {
	s.Helper()
	return s.deploy(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, Template: s.pod(name, edits...)}})
}

func (s *stage) deploy(d *appsv1.Deployment) *appsv1.Deployment {
	s.Helper()
	d, err := s.Client.AppsV1().Deployments(s.Namespace).Create(s.Context(), d, metav1.CreateOptions{})
	s.must(err)
	s.wanted("apps/v1", "Deployment", d)
	return d
}

func (s *stage) statefulSet(name string, replicas int32, edits ...edit) *appsv1.StatefulSet {
	s.Helper()
	return s.keep(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.StatefulSetSpec{Replicas: &replicas, ServiceName: name,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, Template: s.pod(name, edits...)}})
}

func (s *stage) keep(d *appsv1.StatefulSet) *appsv1.StatefulSet {
	s.Helper()
	d, err := s.Client.AppsV1().StatefulSets(s.Namespace).Create(s.Context(), d, metav1.CreateOptions{})
	s.must(err)
	s.wanted("apps/v1", "StatefulSet", d)
	return d
}

// job makes a job of pods that are not started anew where they fail.
func (s *stage) job(name string, spec batchv1.JobSpec, edits ...edit) {
	s.Helper()
	spec.Template = s.pod(name, append([]edit{func(p *corev1.PodSpec) { p.RestartPolicy = corev1.RestartPolicyNever }}, edits...)...)
	j, err := s.Client.BatchV1().Jobs(s.Namespace).Create(s.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
	s.must(err)
	s.wanted("batch/v1", "Job", j)
}

func (s *stage) quota(name string, hard corev1.ResourceList) {
	s.Helper()
	_, err := s.Client.CoreV1().ResourceQuotas(s.Namespace).Create(s.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{})
	s.must(err)
	nodetest.Retry(s.T, "the quota is taken up", func(ctx context.Context) error {
		q, err := s.Client.CoreV1().ResourceQuotas(s.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && len(q.Status.Hard) == 0 {
			err = fmt.Errorf("it has no state")
		}
		return err
	})
}

// Edits of a pod.

func args(list ...string) edit { return func(p *corev1.PodSpec) { p.Containers[0].Args = list } }

func pulls(image string) edit { return func(p *corev1.PodSpec) { p.Containers[0].Image = image } }

// beside adds a container.
func (s *stage) beside(name string, list ...string) edit {
	return func(p *corev1.PodSpec) {
		p.Containers = append(p.Containers, corev1.Container{Name: name, Image: s.image, Args: list})
	}
}

// before adds an init container.
func (s *stage) before(name string, policy *corev1.ContainerRestartPolicy, list ...string) edit {
	return func(p *corev1.PodSpec) {
		p.InitContainers = append(p.InitContainers, corev1.Container{Name: name, Image: s.image, Args: list, RestartPolicy: policy})
	}
}

func mounted(source corev1.VolumeSource) edit {
	return func(p *corev1.PodSpec) {
		p.Volumes = append(p.Volumes, corev1.Volume{Name: "data", VolumeSource: source})
		p.Containers[0].VolumeMounts = append(p.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	}
}

func emptyDir() edit { return mounted(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}) }

// What shows that something has happened.

// is reports whether a container of a pod is in a state with a reason, after
// some restarts.
func is(reason string, restarts int32) func(rollout.Evidence) bool {
	return func(e rollout.Evidence) bool {
		return slices.ContainsFunc(e.Pods, func(p *corev1.Pod) bool {
			return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
				w := c.State.Waiting
				return w != nil && w.Reason == reason && c.RestartCount >= restarts
			})
		})
	}
}

// loops is a crash loop that waits for its second back-off.
var loops = is("CrashLoopBackOff", 2)

// pulling is a pull that failed.
func pulling(e rollout.Evidence) bool {
	return is("ErrImagePull", 0)(e) || is("ImagePullBackOff", 0)(e)
}

// runs is a container that runs, after some restarts, and is not ready.
func runs(restarts int32) func(rollout.Evidence) bool {
	return func(e rollout.Evidence) bool {
		return slices.ContainsFunc(e.Pods, func(p *corev1.Pod) bool {
			return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
				return c.State.Running != nil && !c.Ready && c.RestartCount >= restarts
			})
		})
	}
}

// told is an event of a reason, and with a text.
func told(reason, text string) func(rollout.Evidence) bool {
	return func(e rollout.Evidence) bool {
		return slices.ContainsFunc(e.Events, func(ev *corev1.Event) bool { return ev.Reason == reason && strings.Contains(ev.Message, text) })
	}
}

func both(a, b func(rollout.Evidence) bool) func(rollout.Evidence) bool {
	return func(e rollout.Evidence) bool { return a(e) && b(e) }
}

// refused is a replica set that may not make its pods.
func refused(e rollout.Evidence) bool {
	return slices.ContainsFunc(e.ReplicaSets, func(rs *appsv1.ReplicaSet) bool {
		return slices.ContainsFunc(rs.Status.Conditions, func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure })
	})
}

// unplaced is a pod that no node takes.
func unplaced(e rollout.Evidence) bool {
	return slices.ContainsFunc(e.Pods, func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Reason == corev1.PodReasonUnschedulable })
	})
}

// failed is a job that has failed.
func failed(e rollout.Evidence) bool {
	j, ok := e.Live.(*batchv1.Job)
	return ok && slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue
	})
}
