package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// templateDigest is the annotation that stands in the caches for the template
// of a deployment's or a replica set's pods: by it the one finds the other.
const templateDigest = "slipway.dev/template-digest"

// slim drops what nobody reads and gives the kinds we judge their Go type once,
// when they come in. What an environment variable holds is dropped as well:
// evidence is made of these objects.
func slim(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	if u.GetKind() == "ControllerRevision" {
		// Its data may be large and is not read.
		c := &appsv1.ControllerRevision{ObjectMeta: slimMeta(metav1.ObjectMeta{Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(),
			Labels: u.GetLabels(), OwnerReferences: u.GetOwnerReferences(), ResourceVersion: u.GetResourceVersion()})}
		c.Revision, _, _ = unstructured.NestedInt64(u.Object, "revision")
		return c, nil
	}
	live, err := typed(u)
	if err != nil {
		return nil, err
	}
	switch o := live.(type) {
	case *corev1.Pod:
		o.ObjectMeta = slimMeta(o.ObjectMeta)
		o.Spec = slimPod(o.Spec)
		o.Status.HostIPs, o.Status.PodIPs = nil, nil
		for _, list := range [][]corev1.ContainerStatus{o.Status.InitContainerStatuses, o.Status.ContainerStatuses} {
			for i := range list {
				list[i].VolumeMounts, list[i].AllocatedResources, list[i].Resources, list[i].User = nil, nil, nil, nil
			}
		}
	case *corev1.Event:
		return slimEvent(o), nil
	case *appsv1.Deployment:
		err = slimTemplate(&o.ObjectMeta, &o.Spec.Template)
	case *appsv1.ReplicaSet:
		err = slimTemplate(&o.ObjectMeta, &o.Spec.Template)
	case *appsv1.StatefulSet:
		o.ObjectMeta, o.Spec.Template, o.Spec.VolumeClaimTemplates = slimMeta(o.ObjectMeta), corev1.PodTemplateSpec{}, nil
	case *appsv1.DaemonSet:
		o.ObjectMeta, o.Spec.Template = slimMeta(o.ObjectMeta), corev1.PodTemplateSpec{}
	case *batchv1.Job:
		o.ObjectMeta, o.Spec.Template = slimMeta(o.ObjectMeta), corev1.PodTemplateSpec{}
	case *corev1.PersistentVolumeClaim:
		o.ObjectMeta = slimMeta(o.ObjectMeta)
	case *unstructured.Unstructured:
		return slimCustom(o), nil
	}
	return live, err
}

// slimMeta keeps what identifies an object.
func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, Labels: m.Labels, OwnerReferences: m.OwnerReferences}
}

func slimPod(s corev1.PodSpec) corev1.PodSpec {
	out := corev1.PodSpec{RestartPolicy: s.RestartPolicy, NodeName: s.NodeName, NodeSelector: s.NodeSelector, SchedulerName: s.SchedulerName,
		ServiceAccountName: s.ServiceAccountName, TerminationGracePeriodSeconds: s.TerminationGracePeriodSeconds, Volumes: s.Volumes}
	out.InitContainers, out.Containers = slimContainers(s.InitContainers), slimContainers(s.Containers)
	return out
}

func slimContainers(list []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for _, c := range list {
		kept := corev1.Container{Name: c.Name, Image: c.Image, ImagePullPolicy: c.ImagePullPolicy, Resources: c.Resources, RestartPolicy: c.RestartPolicy,
			ReadinessProbe: c.ReadinessProbe, LivenessProbe: c.LivenessProbe, StartupProbe: c.StartupProbe, EnvFrom: c.EnvFrom}
		for _, e := range c.Env {
			kept.Env = append(kept.Env, corev1.EnvVar{Name: e.Name, ValueFrom: e.ValueFrom})
		}
		out = append(out, kept)
	}
	return out
}

func slimEvent(e *corev1.Event) *corev1.Event {
	return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: e.Name, Namespace: e.Namespace, UID: e.UID, ResourceVersion: e.ResourceVersion, CreationTimestamp: e.CreationTimestamp},
		InvolvedObject: corev1.ObjectReference{Kind: e.InvolvedObject.Kind, Name: e.InvolvedObject.Name, UID: e.InvolvedObject.UID, FieldPath: e.InvolvedObject.FieldPath},
		Reason:         e.Reason, Message: e.Message, Type: e.Type, Count: e.Count, Series: e.Series,
		FirstTimestamp: e.FirstTimestamp, LastTimestamp: e.LastTimestamp, EventTime: e.EventTime}
}

// slimTemplate puts a digest in a template's place.
func slimTemplate(m *metav1.ObjectMeta, t *corev1.PodTemplateSpec) error {
	own := t.Labels
	t.Labels = map[string]string{}
	for k, v := range own {
		if k != appsv1.DefaultDeploymentUniqueLabelKey {
			t.Labels[k] = v
		}
	}
	raw, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("reading the template of %s/%s: %w", m.Namespace, m.Name, err)
	}
	sum := sha256.Sum256(raw)
	*m = slimMeta(*m)
	m.Annotations = map[string]string{templateDigest: hex.EncodeToString(sum[:16])}
	*t = corev1.PodTemplateSpec{}
	return nil
}

// slimCustom keeps of an object without a rule of its own what the generic
// rules read. The rest may be large, and anybody's secret.
func slimCustom(u *unstructured.Unstructured) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind()}}
	out.SetName(u.GetName())
	out.SetNamespace(u.GetNamespace())
	out.SetUID(u.GetUID())
	out.SetResourceVersion(u.GetResourceVersion())
	out.SetGeneration(u.GetGeneration())
	status, _, _ := unstructured.NestedMap(u.Object, "status")
	for _, field := range []string{"conditions", "observedGeneration", "phase", "loadBalancer", "disruptionsAllowed", "expectedPods", "currentHealthy", "desiredHealthy"} {
		if v, ok := status[field]; ok {
			_ = unstructured.SetNestedField(out.Object, v, "status", field) // a fresh map takes every field
		}
	}
	if kind, ok, _ := unstructured.NestedString(u.Object, "spec", "type"); ok && u.GetKind() == "Service" {
		_ = unstructured.SetNestedField(out.Object, kind, "spec", "type")
	}
	return out
}
