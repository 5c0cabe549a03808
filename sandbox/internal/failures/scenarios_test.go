package failures

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"gitlab.com/slipway/slipway/pkg/rollout"
)

// scenario is a failure of a deployment of one pod.
type scenario struct {
	name        string // of its files
	kind        Kind
	annotations map[string]string // beside the kind
	change      func(*corev1.PodSpec)
	args        []string // of the program that fails so on a real node; nil: no real node can be made to
	lasts       string   // a piece of the state that every real node shows; those between may be too short

	// What the product says of it: its class, a piece of the sentence, whether
	// it ends the wait before the deadline. No class: it waits until all is well.
	class, says string
	early       bool
}

func scenarios() []scenario {
	return []scenario{
		{name: "image-pull", kind: ImagePull, args: none, lasts: "waiting ImagePullBackOff", class: rollout.ClassImage, says: "does not exist in the registry", early: true},
		{name: "image-name", kind: ImageName, args: none, lasts: "waiting InvalidImageName", change: image("registry.example.com/orders::1"), class: rollout.ClassImage, says: `"registry.example.com/orders::1" is not valid`, early: true},
		{name: "config", kind: Config, args: none, lasts: "waiting CreateContainerConfigError", change: env, class: rollout.ClassConfig, says: "couldn't find key url in ConfigMap", early: true},
		{name: "mount", kind: Mount, args: none, lasts: "waiting ContainerCreating", change: volume, class: rollout.ClassVolume, says: `configmap "missing" not found`, early: true},
		{name: "start-error", kind: StartError, args: none, lasts: "waiting CrashLoopBackOff", change: command, class: rollout.ClassConfig, says: `exec: "/app/missing"`, early: true},
		{name: "crash-loop", kind: CrashLoop, args: []string{"exit", "3"}, lasts: "waiting CrashLoopBackOff", annotations: map[string]string{ExitCodeAnnotation: "3"}, class: rollout.ClassCrash, says: "ended with exit code 3 (Error)", early: true},
		{name: "oom", kind: OOM, args: []string{"allocate"}, lasts: "waiting CrashLoopBackOff", change: limit, class: rollout.ClassMemory, says: "more memory than its limit of 64Mi", early: true},
		{name: "init", kind: Init, args: []string{"exit", "1"}, lasts: "waiting CrashLoopBackOff", change: initial, class: rollout.ClassCrash, says: `container "migrate" of`, early: true},
		{name: "liveness", kind: Liveness, args: []string{"serve", "500", "0s"}, lasts: "waiting CrashLoopBackOff", change: liveness, class: rollout.ClassCrash, says: "ended with exit code 137 (Error)", early: true},
		{name: "slow-start", kind: SlowStart, args: []string{"serve", "200", "3s"}, lasts: "ready true", annotations: map[string]string{ForAnnotation: "3"}, change: readiness},
		{name: "not-ready", kind: NotReady, args: []string{"serve", "503", "0s"}, lasts: "running, ready false", change: answered, class: rollout.ClassProbe, says: "Readiness probe failed: HTTP probe failed with statuscode: 503"},
		{name: "evict-volume", kind: Evict, args: []string{"fill", "/scratch"}, lasts: "pod Failed Evicted", annotations: map[string]string{AfterAnnotation: "2"}, change: scratch, class: rollout.ClassNode, says: `Evicted Usage of EmptyDir volume "scratch" exceeds the limit "1Mi"`},
		{name: "evict", kind: Evict, annotations: map[string]string{AfterAnnotation: "2"}, class: rollout.ClassNode, says: "Evicted The node was low on resource: memory"},
	}
}

// none is for what fails before its program runs.
var none = []string{"exit", "0"}

// deployment is the workload of the scenario; with fail it asks for the failure.
func (s scenario) deployment(fail bool) *appsv1.Deployment {
	labels := map[string]string{"app": "orders"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "orders"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(bool),
			Containers:                   []corev1.Container{{Name: "app", Image: "registry.example.com/orders:1"}},
		}},
	}}
	if s.change != nil {
		s.change(&d.Spec.Template.Spec)
	}
	if fail {
		d.Spec.Template.Annotations = map[string]string{Annotation: string(s.kind)}
		maps.Copy(d.Spec.Template.Annotations, s.annotations)
	}
	return d
}

func image(name string) func(*corev1.PodSpec) {
	return func(p *corev1.PodSpec) { p.Containers[0].Image = name }
}

func command(p *corev1.PodSpec) { p.Containers[0].Command = []string{"/app/missing"} }

func env(p *corev1.PodSpec) {
	p.Containers[0].Env = []corev1.EnvVar{{Name: "URL", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "url",
	}}}}
}

func volume(p *corev1.PodSpec) {
	p.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "missing"},
	}}}}
	p.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "settings", MountPath: "/settings"}}
}

func limit(p *corev1.PodSpec) {
	p.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
}

func initial(p *corev1.PodSpec) {
	p.InitContainers = []corev1.Container{{Name: "migrate", Image: p.Containers[0].Image}}
}

func probe(delay int32) *corev1.Probe {
	return &corev1.Probe{
		InitialDelaySeconds: delay, PeriodSeconds: 1, FailureThreshold: 1,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(8080)}},
	}
}

func readiness(p *corev1.PodSpec) { p.Containers[0].ReadinessProbe = probe(0) }

// answered are probes that come when the program listens.
func answered(p *corev1.PodSpec) { p.Containers[0].ReadinessProbe = probe(2) }

func liveness(p *corev1.PodSpec) {
	p.Containers[0].LivenessProbe = probe(2)
	p.TerminationGracePeriodSeconds = new(int64(1))
}

func scratch(p *corev1.PodSpec) {
	p.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("1Mi"))}}}}
	p.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
}
