package failures

import (
	"context"
	"fmt"
	goruntime "runtime"

	webhookv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

const runtimeArch = goruntime.GOARCH

func jobSituations() []situation {
	never := batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: batchv1.PodFailurePolicyActionFailJob,
		OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}}}}
	return []situation{
		{name: "job-backoff-limit", shows: failed, label: fails(rollout.ClassJob, "app", "exit code 7", "BackoffLimitExceeded"), make: func(s *stage) {
			s.job("migrate", batchv1.JobSpec{BackoffLimit: new(int32(0))}, args("exit", "7"))
		}},
		{name: "job-deadline", shows: failed, label: fails(rollout.ClassJob, "", "DeadlineExceeded"), make: func(s *stage) {
			s.job("migrate", batchv1.JobSpec{ActiveDeadlineSeconds: new(int64(4))}, args("serve", "200", "1h"))
		}},
		{name: "job-failure-policy", shows: failed, label: fails(rollout.ClassJob, "app", "exit code 42", "PodFailurePolicy"), make: func(s *stage) {
			s.job("migrate", batchv1.JobSpec{PodFailurePolicy: &never}, args("exit", "42"))
		}},
		{name: "job-image-missing", shows: pulling, label: fails(rollout.ClassImage, "app", "does not exist"), make: func(s *stage) {
			s.job("migrate", batchv1.JobSpec{}, pulls(s.image[:len(s.image)-4]+"0000"))
		}},
		{name: "job-second-try", label: healthy, heals: true, make: func(s *stage) {
			s.job("migrate", batchv1.JobSpec{}, args("once", "/data", "end"), emptyDir(), func(p *corev1.PodSpec) { p.RestartPolicy = corev1.RestartPolicyOnFailure })
		}, shows: func(e rollout.Evidence) bool {
			return len(e.Pods) > 0 && len(e.Pods[0].Status.ContainerStatuses) > 0 && (e.Pods[0].Status.ContainerStatuses[0].State.Terminated != nil || e.Pods[0].Status.ContainerStatuses[0].RestartCount > 0)
		}},
		{name: "hook-pod", label: fails(rollout.ClassCrash, "app", "exit code 9"), make: func(s *stage) {
			t := s.pod("hook", args("exit", "9"), func(p *corev1.PodSpec) { p.RestartPolicy = corev1.RestartPolicyNever })
			p, err := s.Client.CoreV1().Pods(s.Namespace).Create(s.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "hook"}, Spec: t.Spec}, metav1.CreateOptions{})
			s.must(err)
			s.wanted("v1", "Pod", p)
		}, shows: func(e rollout.Evidence) bool {
			p, ok := e.Live.(*corev1.Pod)
			return ok && p.Status.Phase == corev1.PodFailed
		}},
	}
}

func limits(memory string) edit {
	return func(p *corev1.PodSpec) {
		p.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
	}
}

func refusalSituations() []situation {
	level := func(s *stage, patch string) {
		_, err := s.Client.CoreV1().Namespaces().Patch(s.Context(), s.Namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		s.must(err)
	}
	refuse := func(name string, l label, make func(*stage)) situation {
		return situation{name: name, shows: refused, label: l, make: make}
	}
	return []situation{
		refuse("refused-quota", fails(rollout.ClassAdmission, "", "exceeded quota: small"), func(s *stage) {
			s.quota("small", corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")})
			s.deployment("orders")
		}),
		refuse("refused-quota-asks", fails(rollout.ClassAdmission, "", "must specify", "limits.cpu"), func(s *stage) {
			s.quota("compute", corev1.ResourceList{corev1.ResourceLimitsCPU: resource.MustParse("1")})
			s.deployment("orders")
		}),
		refuse("refused-limit-range", fails(rollout.ClassAdmission, "", "maximum memory usage per Container is 64Mi"), func(s *stage) {
			_, err := s.Client.CoreV1().LimitRanges(s.Namespace).Create(s.Context(), &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "bounds"}, Spec: corev1.LimitRangeSpec{
				Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}}}}}, metav1.CreateOptions{})
			s.must(err)
			s.deployment("orders", limits("128Mi"))
		}),
		refuse("refused-pod-security", fails(rollout.ClassAdmission, "", "violates PodSecurity", "restricted"), func(s *stage) {
			level(s, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
			s.deployment("orders")
		}),
		refuse("refused-service-account", fails(rollout.ClassAdmission, "", `serviceaccount "orders" not found`), func(s *stage) {
			s.deployment("orders", func(p *corev1.PodSpec) { p.ServiceAccountName = "orders" })
		}),
		refuse("refused-priority", fails(rollout.ClassAdmission, "", "PriorityClass"), func(s *stage) {
			s.deployment("orders", func(p *corev1.PodSpec) { p.PriorityClassName = "gold" })
		}),
		refuse("refused-webhook-away", fails(rollout.ClassAdmission, "", "webhook", "connection refused"), func(s *stage) {
			s.webhook("https://127.0.0.1:1/")
			s.deployment("orders")
		}),
		refuse("refused-policy", fails(rollout.ClassAdmission, "", "denied", "images come from the company's registry"), func(s *stage) {
			s.policy("images come from the company's registry")
			s.deployment("orders")
		}),
		{name: "refused-stateful-set", shows: told("FailedCreate", ""), label: fails(rollout.ClassAdmission, "", "exceeded quota: one"), make: func(s *stage) {
			s.quota("one", corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")})
			s.statefulSet("orders", 2)
		}},
		{name: "refused-job", shows: told("FailedCreate", ""), label: fails(rollout.ClassAdmission, "", "exceeded quota: none"), make: func(s *stage) {
			s.quota("none", corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")})
			s.job("migrate", batchv1.JobSpec{})
		}},
	}
}

// webhook is asked about each pod of the namespace.
func (s *stage) webhook(url string) {
	s.Helper()
	hooks := s.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	fail, none, name := webhookv1.Fail, webhookv1.SideEffectClassNone, s.Namespace
	_, err := hooks.Create(s.Context(), &webhookv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []webhookv1.ValidatingWebhook{{
		Name: "images.example.com", FailurePolicy: &fail, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, ClientConfig: webhookv1.WebhookClientConfig{URL: &url},
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: name}}, Rules: podRules()}}}, metav1.CreateOptions{})
	s.must(err)
	s.Cleanup(func() { _ = hooks.Delete(context.Background(), name, metav1.DeleteOptions{}) })
}

func podRules() []webhookv1.RuleWithOperations {
	return []webhookv1.RuleWithOperations{{Operations: []webhookv1.OperationType{webhookv1.Create}, Rule: webhookv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}}
}

// policy denies each pod of the namespace.
func (s *stage) policy(message string) {
	s.Helper()
	admission, name := s.Client.AdmissionregistrationV1(), s.Namespace
	_, err := admission.ValidatingAdmissionPolicies().Create(s.Context(), &webhookv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: webhookv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &webhookv1.MatchResources{ResourceRules: []webhookv1.NamedRuleWithOperations{{RuleWithOperations: podRules()[0]}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: name}}},
		Validations: []webhookv1.Validation{{Expression: "false", Message: message}}}}, metav1.CreateOptions{})
	s.must(err)
	s.Cleanup(func() {
		_ = admission.ValidatingAdmissionPolicies().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	_, err = admission.ValidatingAdmissionPolicyBindings().Create(s.Context(), &webhookv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: webhookv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: name, ValidationActions: []webhookv1.ValidationAction{webhookv1.Deny}}}, metav1.CreateOptions{})
	s.must(err)
	s.Cleanup(func() {
		_ = admission.ValidatingAdmissionPolicyBindings().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	nodetest.Retry(s.T, "the policy denies", func(ctx context.Context) error {
		t := s.pod("probe")
		_, err := s.Client.CoreV1().Pods(s.Namespace).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}, Spec: t.Spec}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil {
			return fmt.Errorf("a pod may be made")
		}
		return nil
	})
}

func placeSituations() []situation {
	place := func(name string, l label, e edit) situation {
		return situation{name: name, shows: unplaced, label: l, make: func(s *stage) { s.deployment("orders", e) }}
	}
	cpu := func(p *corev1.PodSpec) {
		p.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4000")}
	}
	return []situation{
		place("unplaced-cpu", fails(rollout.ClassSchedule, "", "Insufficient cpu"), cpu),
		place("unplaced-selector", fails(rollout.ClassSchedule, "", "node affinity/selector"), func(p *corev1.PodSpec) { p.NodeSelector["disk"] = "ssd" }),
		place("unplaced-taint", fails(rollout.ClassSchedule, "", "taint"), func(p *corev1.PodSpec) { p.Tolerations = nil }),
		{name: "unplaced-anti-affinity", shows: unplaced, label: fails(rollout.ClassSchedule, "", "anti-affinity"), make: func(s *stage) {
			s.deploy(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "orders"}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(2)),
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "orders"}}, Template: s.pod("orders", func(p *corev1.PodSpec) {
					p.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
						LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "orders"}}, TopologyKey: corev1.LabelHostname}}}}
				})}})
		}},
		{name: "autoscaler-at-work", label: healthy, shows: both(unplaced, told("TriggeredScaleUp", "")), make: func(s *stage) {
			s.deployment("orders", cpu)
			p := s.first("orders")
			// As the cluster autoscaler says it: the sandbox has none.
			_, err := s.Client.CoreV1().Events(s.Namespace).Create(s.Context(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{GenerateName: "scale-"}, Type: corev1.EventTypeNormal, Reason: "TriggeredScaleUp",
				Message: "pod triggered scale-up: [{workers 2->3 (max: 5)}]", InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: s.Namespace, Name: p.Name, UID: p.UID},
				Source: corev1.EventSource{Component: "cluster-autoscaler"}, FirstTimestamp: metav1.Now(), LastTimestamp: metav1.Now(), Count: 1}, metav1.CreateOptions{})
			s.must(err)
		}},
	}
}

// first waits for a pod of a workload.
func (s *stage) first(app string) (pod corev1.Pod) {
	s.Helper()
	nodetest.Retry(s.T, "there is a pod of "+app, func(ctx context.Context) error {
		list, err := s.Client.CoreV1().Pods(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err == nil && len(list.Items) == 0 {
			err = fmt.Errorf("there is none")
		}
		if err == nil {
			pod = list.Items[0]
		}
		return err
	})
	return pod
}

func claim(name string, class *string, mode corev1.PersistentVolumeAccessMode, volume string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: class, VolumeName: volume,
		AccessModes: []corev1.PersistentVolumeAccessMode{mode}, Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}}}}
}

func volumeSituations() []situation {
	claimed := func(name, says string, class string, shows func(rollout.Evidence) bool) situation {
		return situation{name: name, shows: shows, label: fails(rollout.ClassVolume, "", says), make: func(s *stage) {
			_, err := s.Client.CoreV1().PersistentVolumeClaims(s.Namespace).Create(s.Context(), claim("orders-data", &class, corev1.ReadWriteOnce, ""), metav1.CreateOptions{})
			s.must(err)
			s.deployment("orders", mounted(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "orders-data"}}))
		}}
	}
	mount := func(name string, says []string, source corev1.VolumeSource) situation {
		return situation{name: name, shows: told("FailedMount", ""), label: fails(rollout.ClassVolume, "", says...), make: func(s *stage) { s.deployment("orders", mounted(source)) }}
	}
	other := corev1.LocalObjectReference{Name: "settings"}
	return []situation{
		claimed("volume-no-class", "orders-data", "", both(unplaced, told("FailedBinding", ""))),
		claimed("volume-unknown-class", `"gold" not found`, "gold", both(unplaced, told("ProvisioningFailed", ""))),
		mount("mount-missing-config-map", []string{`configmap "missing" not found`}, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "missing"}}}),
		mount("mount-missing-secret", []string{`secret "orders-tls" not found`}, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "orders-tls"}}),
		mount("mount-missing-key", []string{"app.conf"}, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: other, Items: []corev1.KeyToPath{{Key: "app.conf", Path: "app.conf"}}}}),
		mount("mount-missing-host-path", []string{"/no/such/folder"}, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/no/such/folder", Type: new(corev1.HostPathDirectory)}}),
		{name: "volume-absent-claim", shows: unplaced, label: fails(rollout.ClassVolume, "", `"orders-data" not found`), make: func(s *stage) {
			s.deployment("orders", mounted(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "orders-data"}}))
		}},
		{name: "volume-wrong-mode", shows: both(unplaced, told("VolumeMismatch", "")), label: fails(rollout.ClassVolume, "", "orders-data", "access"), make: func(s *stage) {
			volumes := s.Client.CoreV1().PersistentVolumes()
			_, err := volumes.Create(s.Context(), &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}, Spec: corev1.PersistentVolumeSpec{
				Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp"}}}}, metav1.CreateOptions{})
			s.must(err)
			s.Cleanup(func() { _ = volumes.Delete(context.Background(), s.Namespace, metav1.DeleteOptions{}) })
			_, err = s.Client.CoreV1().PersistentVolumeClaims(s.Namespace).Create(s.Context(), claim("orders-data", new(""), corev1.ReadWriteMany, s.Namespace), metav1.CreateOptions{})
			s.must(err)
			s.deployment("orders", mounted(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "orders-data"}}))
		}},
		{name: "volume-stateful-set", shows: both(unplaced, told("ProvisioningFailed", "")), label: fails(rollout.ClassVolume, "", `"gold" not found`), make: func(s *stage) {
			s.keep(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "orders"}, Spec: appsv1.StatefulSetSpec{ServiceName: "orders", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "orders"}},
				Template: s.pod("orders", func(p *corev1.PodSpec) {
					p.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
				}),
				VolumeClaimTemplates: []corev1.PersistentVolumeClaim{*claim("data", new("gold"), corev1.ReadWriteOnce, "")}}})
		}},
	}
}
