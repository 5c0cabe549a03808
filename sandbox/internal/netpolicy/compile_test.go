package netpolicy

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// policy reads the spec of a policy of the namespace shop.
func policy(t *testing.T, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "policy"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

func podAt(namespace, name, ip string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: "real-0", Containers: []corev1.Container{{Name: "app"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func port(name string, number int32, protocol corev1.Protocol) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{Name: name, ContainerPort: number, Protocol: protocol})
	}
}

// shop is a world with web and api in the namespace shop and scan in audit.
func shop(policies ...*networkingv1.NetworkPolicy) World {
	namespace := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name}}}
	}
	return World{
		Node:       "real-0",
		Namespaces: []*corev1.Namespace{namespace("shop"), namespace("audit")},
		Pods: []*corev1.Pod{
			podAt("shop", "web", "10.16.0.2"),
			podAt("shop", "api", "10.16.0.3", port("http", 8080, ""), port("metrics", 9090, ""), port("metrics", 9091, corev1.ProtocolUDP)),
			podAt("audit", "scan", "10.16.0.4", port("http", 8000, "")),
		},
		Policies: policies,
	}
}

// chains of the rules, without what every one of them has.
func chains(t *testing.T, w World) map[string][]string {
	t.Helper()
	rules, err := Compile(w)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	name := ""
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "chain "); ok {
			name = strings.TrimSuffix(rest, " {")
			out[name] = []string{}
			continue
		}
		if line == "}" {
			name = ""
		}
		if allowed, ok := strings.CutSuffix(line, "return"); ok && name != "" {
			out[name] = append(out[name], strings.TrimSpace(allowed))
		}
	}
	delete(out, "forward")
	delete(out, "input")
	for name, allowed := range out {
		if len(allowed) == 0 || !strings.HasSuffix(allowed[0], name[strings.Index(name, "-")+1:]) {
			t.Errorf("%s does not begin with the pod itself: %q", name, allowed)
			continue
		}
		out[name] = allowed[1:]
	}
	return out
}

// TestCompile: what each policy allows the pods that it selects.
func TestCompile(t *testing.T) {
	for _, c := range []struct {
		name, spec string
		want       map[string][]string
	}{
		{"deny all that comes", `podSelector: {}`, map[string][]string{"in-10.16.0.2": {}, "in-10.16.0.3": {}}},
		{"one pod", `podSelector: {matchLabels: {app: api}}`, map[string][]string{"in-10.16.0.3": {}}},
		{"no pod", `podSelector: {matchLabels: {app: none}}`, map[string][]string{}},
		{"expressions", `podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}`, map[string][]string{"in-10.16.0.3": {}}},
		{"deny both ways", `{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress]}`, map[string][]string{"in-10.16.0.3": {}, "out-10.16.0.3": {}}},
		{"only what goes", `{podSelector: {matchLabels: {app: api}}, policyTypes: [Egress]}`, map[string][]string{"out-10.16.0.3": {}}},
		{"egress rules make it both", `{podSelector: {matchLabels: {app: api}}, egress: [{}]}`, map[string][]string{"in-10.16.0.3": {}, "out-10.16.0.3": {""}}},
		{"a type without its rules being listed", `{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress], egress: [{}]}`, map[string][]string{"in-10.16.0.3": {}}},
		{"allow all that comes", `{podSelector: {matchLabels: {app: api}}, ingress: [{}]}`, map[string][]string{"in-10.16.0.3": {""}}},
		{"pods of the namespace", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {}}]}]}`, map[string][]string{"in-10.16.0.3": {"ip saddr { 10.16.0.2, 10.16.0.3 }"}}},
		{"pods of other namespaces", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: audit}}}]}]}`, map[string][]string{"in-10.16.0.3": {"ip saddr 10.16.0.4"}}},
		{"pods of every namespace", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: {}}]}]}`, map[string][]string{"in-10.16.0.3": {"ip saddr { 10.16.0.2, 10.16.0.3, 10.16.0.4 }"}}},
		{"both selectors", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: scan}}}]}]}`, map[string][]string{"in-10.16.0.3": {"ip saddr 10.16.0.4"}}},
		{"either peer", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: 10.16.64.1/32}}]}]}`, map[string][]string{"in-10.16.0.3": {"ip saddr 10.16.0.2", "ip saddr 10.16.64.1/32"}}},
		{"peers that are nobody", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: scan}}}]}]}`, map[string][]string{"in-10.16.0.3": {}}},
		{"a block and what it leaves out", `{podSelector: {matchLabels: {app: api}}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.16.0.0/18, 10.16.0.0/24]}}]}], policyTypes: [Egress]}`, map[string][]string{"out-10.16.0.3": {"ip daddr 10.0.0.0/8 ip daddr != 10.16.0.0/18 ip daddr != 10.16.0.0/24"}}},
		{"everything but a block", `{podSelector: {matchLabels: {app: api}}, egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]}], policyTypes: [Egress]}`, map[string][]string{"out-10.16.0.3": {"ip daddr != 169.254.169.254/32"}}},
		{"a block is cut to its bits", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: 10.16.64.1/30}}]}]}`, map[string][]string{"in-10.16.0.3": {"ip saddr 10.16.64.0/30"}}},
		{"a block of IPv6", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: "::/0"}}]}]}`, map[string][]string{"in-10.16.0.3": {}}},
		{"ports", `{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 80}, {port: 53, protocol: UDP}, {port: 99, protocol: SCTP}]}]}`, map[string][]string{"in-10.16.0.3": {"tcp dport 80", "udp dport 53", "sctp dport 99"}}},
		{"a range of ports", `{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 80, endPort: 90}, {port: 100, endPort: 100}]}]}`, map[string][]string{"in-10.16.0.3": {"tcp dport 80-90", "tcp dport 100"}}},
		{"a protocol", `{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{protocol: UDP}]}]}`, map[string][]string{"in-10.16.0.3": {"meta l4proto udp"}}},
		{"peers and ports", `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}, {port: 81}]}]}`, map[string][]string{"in-10.16.0.3": {"ip saddr 10.16.0.2 tcp dport 80", "ip saddr 10.16.0.2 tcp dport 81"}}},
		{"a named port is the selected pod's", `{podSelector: {}, ingress: [{ports: [{port: http}, {port: metrics, protocol: UDP}]}]}`, map[string][]string{"in-10.16.0.2": {}, "in-10.16.0.3": {"tcp dport 8080", "udp dport 9091"}}},
		{"a named port is the reached pod's", `{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: http}]}]}`, map[string][]string{"out-10.16.0.2": {"ip daddr 10.16.0.3 tcp dport 8080", "ip daddr 10.16.0.4 tcp dport 8000"}}},
		{"a named port of whoever has it", `{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: metrics}]}]}`, map[string][]string{"out-10.16.0.2": {"ip daddr 10.16.0.3 tcp dport 9090"}}},
		{"a block has no named ports", `{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: http}]}]}`, map[string][]string{"out-10.16.0.2": {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := chains(t, shop(policy(t, c.spec)))
			if len(got) != len(c.want) {
				t.Errorf("chains %v, want %v", got, c.want)
			}
			for name, want := range c.want {
				if have, ok := got[name]; !ok || !slices.Equal(have, want) {
					t.Errorf("%s allows %q, want %q", name, have, want)
				}
			}
		})
	}
}

// Policies of one pod add up, whatever order they come in.
func TestPoliciesAddUp(t *testing.T) {
	a := policy(t, `{podSelector: {}}`)
	b := policy(t, `{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 80}]}]}`)
	c := policy(t, `{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 80}]}, {ports: [{port: 81}]}]}`)
	a.Name, b.Name, c.Name = "a", "b", "c"
	elsewhere := policy(t, `{podSelector: {}, ingress: [{}]}`)
	elsewhere.Namespace = "audit"
	first, err := Compile(shop(a, b, c, elsewhere))
	if err != nil {
		t.Fatal(err)
	}
	w := shop(elsewhere, c, a, b)
	slices.Reverse(w.Pods)
	if second, err := Compile(w); err != nil || second != first {
		t.Errorf("in another order it is another text, %v:\n%s\n%s", err, first, second)
	}
	got := chains(t, w)
	if want := []string{"tcp dport 80", "tcp dport 81"}; !slices.Equal(got["in-10.16.0.3"], want) || len(got["in-10.16.0.2"]) != 0 {
		t.Errorf("chains %v", got)
	}
}

// Pods that are not what a policy speaks of.
func TestPodsThatAreLeftOut(t *testing.T) {
	all := policy(t, `{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`)
	w := shop(all)
	w.Pods = []*corev1.Pod{
		podAt("shop", "web", "10.16.0.2"),
		podAt("shop", "starting", ""),
		podAt("shop", "host", "10.16.64.2", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		podAt("shop", "done", "10.16.0.9", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		podAt("shop", "failed", "10.16.0.9", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		podAt("shop", "elsewhere", "10.0.0.5", func(p *corev1.Pod) { p.Spec.NodeName = "fake-0" }),
		podAt("shop", "six", "fd00::7"),
		podAt("shop", "both", "fd00::8", func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "fd00::8"}, {IP: "10.16.0.8"}} }),
	}
	got := chains(t, w)
	const peers = "ip saddr { 10.0.0.5, 10.16.0.2, 10.16.0.8 }"
	if len(got) != 2 || !slices.Equal(got["in-10.16.0.2"], []string{peers}) || !slices.Equal(got["in-10.16.0.8"], []string{peers}) {
		t.Errorf("chains %q", got)
	}
}

// An address is its youngest owner's.
func TestAddressThatIsGivenOutAgain(t *testing.T) {
	w := shop(policy(t, `{podSelector: {matchLabels: {app: old}}}`))
	old := podAt("shop", "old", "10.16.0.2")
	next := podAt("audit", "next", "10.16.0.2", func(p *corev1.Pod) { p.CreationTimestamp = metav1.Unix(100, 0) })
	for _, pods := range [][]*corev1.Pod{{old, next}, {next, old}} {
		w.Pods = pods
		if got := chains(t, w); len(got) != 0 {
			t.Errorf("the next owner is bound by the policy of the old one: %v", got)
		}
	}
}

// What cannot be read is an error that names the policy, and not an open door.
func TestPolicyThatCannotBeRead(t *testing.T) {
	for _, spec := range []string{
		`podSelector: {matchExpressions: [{key: app, operator: Like}]}`,
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: none}}]}]}`,
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [none]}}]}]}`,
		`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: app, operator: Like}]}}]}]}`,
	} {
		if _, err := Compile(shop(policy(t, spec))); err == nil || !strings.Contains(err.Error(), `"shop/policy"`) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// TestRender is the whole text, once.
func TestRender(t *testing.T) {
	got, err := Compile(shop(policy(t, `{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`)))
	if err != nil {
		t.Fatal(err)
	}
	const want = `table ip slipway-networkpolicy
delete table ip slipway-networkpolicy
table ip slipway-networkpolicy {
	chain out-10.16.0.3 {
		ip daddr 10.16.0.3 return
		counter drop
	}
	chain in-10.16.0.3 {
		ip saddr 10.16.0.3 return
		ip saddr 10.16.0.2 return
		counter drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ip saddr vmap { 10.16.0.3 : jump out-10.16.0.3 }
		ip daddr vmap { 10.16.0.3 : jump in-10.16.0.3 }
	}
	chain input {
		type filter hook input priority filter; policy accept;
		ct state established,related accept
		ip saddr vmap { 10.16.0.3 : jump out-10.16.0.3 }
	}
}
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
