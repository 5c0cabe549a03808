package failures

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"gitlab.com/slipway/slipway/pkg/rollout"
)

// controllerSituations are about what a controller makes of its pods, and
// about several troubles at once.
func controllerSituations() []situation {
	stillOld := func(e rollout.Evidence) bool {
		return len(e.Earlier) > 0 && e.Live.(*appsv1.StatefulSet).Status.ObservedGeneration > 1
	}
	return []situation{
		{name: "evicted", shows: told("Evicted", ""), label: waits(rollout.ClassNode, "", "Evicted"), make: func(s *stage) {
			s.deployment("orders", args("fill", "/data"), mounted(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("1Mi"))}}))
		}},
		{name: "progress-deadline", label: fails(rollout.ClassProbe, "app", "progress deadline", "503"), make: func(s *stage) {
			s.deploy(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "orders"}, Spec: appsv1.DeploymentSpec{ProgressDeadlineSeconds: new(int32(6)),
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "orders"}}, Template: s.pod("orders", args("serve", "503", "0s"), answers(2))}})
		}, shows: func(e rollout.Evidence) bool {
			for _, c := range e.Live.(*appsv1.Deployment).Status.Conditions {
				if c.Reason == "ProgressDeadlineExceeded" {
					return true
				}
			}
			return false
		}},
		{name: "ordinal-stuck", shows: loops, label: fails(rollout.ClassCrash, "app", "does not find its shard"), make: func(s *stage) { s.statefulSet("orders", 2, args("ordinal", "1"), answers(0)) }},
		{name: "older-revision-stuck", shows: both(stillOld, loopsEarlier), label: fails(rollout.ClassStuck, "app", "orders-0", "delete"), make: func(s *stage) {
			s.statefulSet("orders", 1, args("exit", "3"))
			p := s.first("orders")
			s.Until(s.T, s.Namespace, p.Name, "it loops", func(p *corev1.Pod) bool { return loops(rollout.Evidence{Pods: []*corev1.Pod{p}}) })
			s.mendStatefulSet("orders")
		}},
		{name: "old-pods-crash", label: healthy, heals: true, shows: runs(0), make: func(s *stage) {
			d := s.deployment("orders", args("exit", "3"))
			p := s.first("orders")
			s.Until(s.T, s.Namespace, p.Name, "it loops", func(p *corev1.Pod) bool { return loops(rollout.Evidence{Pods: []*corev1.Pod{p}}) })
			s.must(retry.RetryOnConflict(retry.DefaultRetry, func() (err error) {
				if d, err = s.Client.AppsV1().Deployments(s.Namespace).Get(s.Context(), "orders", metav1.GetOptions{}); err != nil {
					return err
				}
				d.Spec.Template = s.pod("orders", args("serve", "200", "6s"), answers(0))
				d, err = s.Client.AppsV1().Deployments(s.Namespace).Update(s.Context(), d, metav1.UpdateOptions{})
				return err
			}))
			s.wanted("apps/v1", "Deployment", d)
		}},
		{name: "daemon-set-partly", shows: loops, label: fails(rollout.ClassCrash, "app", "exit code 3"), make: func(s *stage) {
			t := s.pod("agent", args("exit", "3"), func(p *corev1.PodSpec) { p.NodeSelector = nil })
			d, err := s.Client.AppsV1().DaemonSets(s.Namespace).Create(s.Context(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent"},
				Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}}, Template: t}}, metav1.CreateOptions{})
			s.must(err)
			s.wanted("apps/v1", "DaemonSet", d)
		}},
		{name: "two-causes", shows: both(pulling, loops), label: fails(rollout.ClassImage, "app", "does not exist"), make: func(s *stage) {
			s.deployment("orders", pulls(s.image[:len(s.image)-4]+"0000"), s.beside("proxy", "exit", "5"))
		}},
		{name: "database-and-client", shows: loops, label: label{Class: rollout.ClassImage, Workload: "postgres", Container: "app", Says: []string{"does not exist"}}, make: func(s *stage) {
			s.statefulSet("postgres", 1, pulls(s.image[:len(s.image)-4]+"0000"))
			s.deployment("orders", args("connect", "127.0.0.1:5432"))
		}},
		{name: "waits-for-database", label: healthy, heals: true, shows: func(e rollout.Evidence) bool { return e.Workload.Name == "orders" && runs(0)(e) }, make: func(s *stage) {
			_, err := s.Client.CoreV1().Services(s.Namespace).Create(s.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "postgres"},
				Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "postgres"}, Ports: []corev1.ServicePort{{Port: 8080}}}}, metav1.CreateOptions{})
			s.must(err)
			s.deployment("orders", args("await", "postgres."+s.Namespace+".svc:8080"), answers(0))
			s.statefulSet("postgres", 1, args("serve", "200", "12s"), answers(0))
		}},
		// Its first starts fail, since what it needs starts with it.
		{name: "crashes-until-database", label: healthy, heals: true, shows: func(e rollout.Evidence) bool { return e.Workload.Name == "orders" && is("CrashLoopBackOff", 1)(e) }, make: func(s *stage) {
			_, err := s.Client.CoreV1().Services(s.Namespace).Create(s.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "postgres"},
				Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "postgres"}, Ports: []corev1.ServicePort{{Port: 8080}}}}, metav1.CreateOptions{})
			s.must(err)
			s.deployment("orders", args("connect", "postgres."+s.Namespace+".svc:8080"))
			s.statefulSet("postgres", 1, args("serve", "200", "8s"), answers(0))
		}},
	}
}

// loopsEarlier is a pod of an older revision that crashes.
func loopsEarlier(e rollout.Evidence) bool { return loops(rollout.Evidence{Pods: e.Earlier}) }

func (s *stage) mendStatefulSet(name string) {
	s.Helper()
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		d, err := s.Client.AppsV1().StatefulSets(s.Namespace).Get(s.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		d.Spec.Template = s.pod(name)
		if d, err = s.Client.AppsV1().StatefulSets(s.Namespace).Update(s.Context(), d, metav1.UpdateOptions{}); err == nil {
			s.wanted("apps/v1", "StatefulSet", d)
		}
		return err
	}))
}
