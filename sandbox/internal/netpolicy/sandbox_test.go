package netpolicy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"

	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

// site is a node of the sandbox with a client and a server in one namespace
// and a stranger in another.
type site struct {
	*nodetest.Node
	elsewhere *nodetest.Node
	server    *corev1.Pod
}

func newSite(t *testing.T, cluster string) *site {
	t.Helper()
	s := &site{Node: nodetest.Open(t, cluster), elsewhere: nodetest.Open(t, cluster)}
	server := s.Serving("server")
	// So that a probe that a policy cuts off is noticed.
	server.Spec.Containers[0].ReadinessProbe.TimeoutSeconds = 1
	for _, pod := range []*corev1.Pod{s.Serving("client"), server, s.elsewhere.Serving("stranger")} {
		s.Create(t, pod)
	}
	if _, err := s.Client.CoreV1().Services(s.Namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "server"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "server"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Ready(t, s.Namespace, "client")
	s.Ready(t, s.elsewhere.Namespace, "stranger")
	s.server = s.Ready(t, s.Namespace, "server")
	return s
}

// policy makes a policy in the server's namespace, for as long as the test.
func (s *site) policy(t *testing.T, name, spec string) {
	t.Helper()
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client.NetworkingV1().NetworkPolicies(s.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatalf("making the policy %q: %v", name, err)
	}
}

// byAddress and byName are how the server is reached.
func (s *site) byAddress() string { return "http://" + s.server.Status.PodIP + ":8080/" }
func (s *site) byName() string    { return "http://server." + s.Namespace + "/" }

func (s *site) client(ctx context.Context, argv ...string) error {
	_, err := s.Exec(ctx, s.Namespace, "client", append([]string{"/probe"}, argv...)...)
	return err
}

func (s *site) stranger(ctx context.Context, argv ...string) error {
	_, err := s.Exec(ctx, s.elsewhere.Namespace, "stranger", append([]string{"/probe"}, argv...)...)
	return err
}

// attempt is something that a policy lets through or not.
type attempt struct {
	what string
	try  func(ctx context.Context, argv ...string) error
	argv []string
}

func to(what string, try func(ctx context.Context, argv ...string) error, argv ...string) attempt {
	return attempt{what, try, argv}
}

// reach waits until all that is tried succeeds.
func reach(t *testing.T, all ...attempt) {
	t.Helper()
	atOnce(t, all, func(ctx context.Context, a attempt) error {
		if err := a.try(ctx, a.argv...); err != nil {
			return fmt.Errorf("%s is to be let through: %w", a.what, err)
		}
		return nil
	})
}

// areCutOff waits until all that is tried gets no answer at all. Any other end
// of the probe, or none of it, is no proof.
func areCutOff(t *testing.T, all ...attempt) {
	t.Helper()
	atOnce(t, all, func(ctx context.Context, a attempt) error {
		err := a.try(ctx, a.argv...)
		switch {
		case err == nil:
			return fmt.Errorf("%s is to be cut off and is let through", a.what)
		case strings.Contains(err.Error(), "probe: error:") && (strings.Contains(err.Error(), "deadline exceeded") || strings.Contains(err.Error(), "i/o timeout")):
			return nil
		default:
			return fmt.Errorf("%s is to be cut off and ends otherwise: %w", a.what, err)
		}
	})
}

func atOnce(t *testing.T, all []attempt, try func(context.Context, attempt) error) {
	t.Helper()
	nodetest.Retry(t, "under these policies", func(ctx context.Context) error {
		var group errgroup.Group
		for _, a := range all {
			group.Go(func() error { return try(ctx, a) })
		}
		return group.Wait()
	})
}

// A server is reached without a policy, by nobody under a policy that forbids
// all, and then by whom other policies allow, from its own and from another
// namespace. kubelet always reaches it.
func TestIngress(t *testing.T) {
	t.Parallel()
	for _, cluster := range []string{"nonprod", "prod"} {
		t.Run(cluster, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, cluster)
			client, byName := to("the client", s.client, "get", s.byAddress()), to("the client, by the Service,", s.client, "get", s.byName())
			stranger, strangerByName := to("the stranger", s.stranger, "get", s.byAddress()), to("the stranger, by the Service,", s.stranger, "get", s.byName())
			reach(t, client, byName, stranger, strangerByName)
			s.policy(t, "deny", `podSelector: {}`)
			areCutOff(t, client, byName, stranger, strangerByName)
			s.policy(t, "allow-client", `{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 8080}]}]}`)
			reach(t, client, byName)
			areCutOff(t, stranger, strangerByName)
			s.policy(t, "allow-namespace", `{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: `+s.elsewhere.Namespace+`}}}]}]}`)
			reach(t, stranger, strangerByName)

			// kubelet's probes, every second, went on all the time.
			now := s.Ready(t, s.Namespace, "server")
			for _, c := range now.Status.Conditions {
				if c.Type == corev1.PodReady && !c.LastTransitionTime.Equal(readySince(s.server)) {
					t.Errorf("the server was not ready for a while: %+v", now.Status.Conditions)
				}
			}
		})
	}
}

func readySince(p *corev1.Pod) *metav1.Time {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return &c.LastTransitionTime
		}
	}
	return nil
}

// A namespace that may reach nothing but the name server, as a drill's does:
// not itself, not another namespace, the API server, the node or the host.
func TestEgress(t *testing.T) {
	t.Parallel()
	s := newSite(t, "nonprod")
	away := s.Ready(t, s.elsewhere.Namespace, "stranger")
	api, err := s.Client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(s.Sandbox.Registry.Address, ":")
	outside := to("another namespace", s.client, "get", "http://"+away.Status.PodIP+":8080/")
	within := to("the namespace itself", s.client, "get", s.byAddress())
	registry := to("the registry", s.client, "get", "http://"+s.Host+":"+port+"/v2/")
	server := to("the API server", s.client, "get", "https://"+api.Spec.ClusterIP+"/")
	node := to("the node", s.client, "get", "http://"+s.Address+":10250/")
	name := to("a name", s.client, "resolve", "server."+s.Namespace+".svc.cluster.local")
	reach(t, outside, within, registry, name)
	// kubelet and the API server answer what was not asked right.
	for _, a := range []attempt{node, server} {
		nodetest.Retry(t, a.what+" answers", func(ctx context.Context) error {
			if err := a.try(ctx, a.argv...); err == nil || !strings.Contains(err.Error(), "400") && !strings.Contains(err.Error(), "certificate") {
				return fmt.Errorf("the answer is %w", err)
			}
			return nil
		})
	}

	s.policy(t, "deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`)
	areCutOff(t, outside, within, registry, server, node, name)

	s.policy(t, "dns", `{podSelector: {}, policyTypes: [Egress], egress: [{
		to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}],
		ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]}]}`)
	reach(t, name)
	areCutOff(t, outside, within, registry, server, node)

	s.policy(t, "within", `{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]}`)
	reach(t, within, to("the namespace itself, by name,", s.client, "get", s.byName()))
	areCutOff(t, outside)
}

// A pod is guarded from its first packet on: what it does at once is cut off
// as well.
func TestNewPodIsGuarded(t *testing.T) {
	t.Parallel()
	s := newSite(t, "nonprod")
	s.policy(t, "deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`)
	away := s.Ready(t, s.elsewhere.Namespace, "stranger")
	outside := "http://" + away.Status.PodIP + ":8080/"
	areCutOff(t, to("another namespace", s.client, "get", outside))
	var names []string
	for i := range 3 {
		pod := s.Probe(fmt.Sprintf("hasty-%d", i), "get", outside)
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		s.Create(t, pod)
		names = append(names, pod.Name)
	}
	for _, name := range names {
		pod := s.Until(t, s.Namespace, name, "it has ended", func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
		})
		if log := s.Logs(t, s.Namespace, name); pod.Status.Phase != corev1.PodFailed || !strings.Contains(log, "deadline exceeded") {
			t.Errorf("%s: %s: %s", name, pod.Status.Phase, log)
		}
	}
}
