package netpolicy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// World is what the rules of a node follow from.
type World struct {
	Node       string // whose pods are guarded
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
	Policies   []*networkingv1.NetworkPolicy
}

// guard is what may reach a pod, or what it may reach: a pod without one is
// not isolated in that direction.
type guard struct {
	addr    netip.Addr
	allowed []string // matches of nft
}

// Compile returns the rules of the node in nft's language. They replace the
// rules of an earlier World in one step. The same World gives the same text.
func Compile(w World) (string, error) {
	c := newCompiler(w)
	guards := map[networkingv1.PolicyType][]guard{}
	for _, p := range c.pods {
		if p.Spec.NodeName != w.Node {
			continue
		}
		for _, d := range []direction{ingress, egress} {
			g, err := c.guard(p, d)
			if err != nil {
				return "", err
			}
			if g != nil {
				guards[d.kind] = append(guards[d.kind], *g)
			}
		}
	}
	return render(guards[networkingv1.PolicyTypeIngress], guards[networkingv1.PolicyTypeEgress]), nil
}

// direction is seen from the pod that a policy selects.
type direction struct {
	kind networkingv1.PolicyType
	peer string // what of a packet is the peer's address
}

var (
	ingress = direction{networkingv1.PolicyTypeIngress, "saddr"}
	egress  = direction{networkingv1.PolicyTypeEgress, "daddr"}
)

// pod is a pod with an address of its own in the pods' network.
type pod struct {
	*corev1.Pod
	addr netip.Addr
}

type compiler struct {
	pods       []pod // by address
	namespaces map[string]labels.Set
	policies   []*networkingv1.NetworkPolicy // by name
}

func newCompiler(w World) *compiler {
	byAddr := map[netip.Addr]pod{}
	for _, p := range w.Pods {
		addr, ok := address(p)
		// An address may be given out again before its last owner is gone.
		if old, taken := byAddr[addr]; ok && (!taken || younger(p, old.Pod)) {
			byAddr[addr] = pod{p, addr}
		}
	}
	c := &compiler{namespaces: map[string]labels.Set{}, policies: slices.Clone(w.Policies)}
	c.pods = slices.SortedFunc(maps.Values(byAddr), func(a, b pod) int { return a.addr.Compare(b.addr) })
	for _, n := range w.Namespaces {
		c.namespaces[n.Name] = n.Labels
	}
	slices.SortFunc(c.policies, func(a, b *networkingv1.NetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return c
}

func younger(a, b *corev1.Pod) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID)) > 0
}

// address is the IPv4 address of a pod: the sandbox's pods have no other. A
// pod on the node's network is no pod to policies, and one that has ended has
// given its address back.
func address(p *corev1.Pod) (netip.Addr, bool) {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return netip.Addr{}, false
	}
	for _, ip := range append([]corev1.PodIP{{IP: p.Status.PodIP}}, p.Status.PodIPs...) {
		if addr, err := netip.ParseAddr(ip.IP); err == nil && addr.Is4() {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// guard returns nil where no policy isolates the pod in the direction.
func (c *compiler) guard(p pod, d direction) (*guard, error) {
	var g *guard
	for _, policy := range c.policies {
		if policy.Namespace != p.Namespace || !isolates(policy, d) {
			continue
		}
		selects, err := selector(&policy.Spec.PodSelector)
		if err != nil {
			return nil, fmt.Errorf("reading the policy %q: %w", policy.Namespace+"/"+policy.Name, err)
		}
		if !selects.Matches(labels.Set(p.Labels)) {
			continue
		}
		if g == nil {
			g = &guard{addr: p.addr, allowed: []string{d.match(p)}} // no pod is kept from itself
		}
		for _, r := range rules(policy, d) {
			allowed, err := c.matches(p, d, r)
			if err != nil {
				return nil, fmt.Errorf("reading the policy %q: %w", policy.Namespace+"/"+policy.Name, err)
			}
			g.allowed = append(g.allowed, allowed...)
		}
	}
	return g, nil
}

func isolates(policy *networkingv1.NetworkPolicy, d direction) bool {
	if len(policy.Spec.PolicyTypes) > 0 {
		return slices.Contains(policy.Spec.PolicyTypes, d.kind)
	}
	return d == ingress || len(policy.Spec.Egress) > 0
}

// rule is an ingress or an egress rule.
type rule struct {
	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

func rules(policy *networkingv1.NetworkPolicy, d direction) []rule {
	var out []rule
	if d == ingress {
		for _, r := range policy.Spec.Ingress {
			out = append(out, rule{r.From, r.Ports})
		}
		return out
	}
	for _, r := range policy.Spec.Egress {
		out = append(out, rule{r.To, r.Ports})
	}
	return out
}

// matches returns what a rule allows the pod p.
func (c *compiler) matches(p pod, d direction, r rule) ([]string, error) {
	peers, err := c.peers(p.Namespace, d, r.peers)
	if err != nil {
		return nil, err
	}
	if len(r.ports) == 0 {
		return peers.matches(d, ""), nil
	}
	var out []string
	for _, port := range r.ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		if port.Port == nil || port.Port.Type == intstr.Int {
			out = append(out, peers.matches(d, numbered(protocol, port))...)
			continue
		}
		// A name is one of the pod's that is reached.
		if d == ingress {
			for _, number := range named(p, port.Port.StrVal, protocol) {
				out = append(out, peers.matches(d, dport(protocol, number, nil))...)
			}
			continue
		}
		reached := peers.pods
		if peers.any {
			reached = c.pods
		}
		for _, to := range reached {
			for _, number := range named(to, port.Port.StrVal, protocol) {
				out = append(out, selection{pods: []pod{to}}.matches(d, dport(protocol, number, nil))...)
			}
		}
	}
	return out, nil
}

func numbered(protocol corev1.Protocol, port networkingv1.NetworkPolicyPort) string {
	if port.Port == nil {
		return "meta l4proto " + strings.ToLower(string(protocol))
	}
	return dport(protocol, port.Port.IntVal, port.EndPort)
}

func dport(protocol corev1.Protocol, port int32, end *int32) string {
	text := fmt.Sprintf("%s dport %d", strings.ToLower(string(protocol)), port)
	if end != nil && *end > port {
		text += fmt.Sprintf("-%d", *end)
	}
	return text
}

// named returns the numbers that the pod's containers give the name.
func named(p pod, name string, protocol corev1.Protocol) []int32 {
	var out []int32
	containers := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, port := range c.Ports {
			if port.Name == name && cmp.Or(port.Protocol, corev1.ProtocolTCP) == protocol {
				out = append(out, port.ContainerPort)
			}
		}
	}
	return out
}

// selection is the peers of a rule: anything, or pods and blocks of addresses.
type selection struct {
	any    bool
	pods   []pod
	blocks []string // matches
}

func (c *compiler) peers(namespace string, d direction, peers []networkingv1.NetworkPolicyPeer) (selection, error) {
	s := selection{any: len(peers) == 0}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			block, ok, err := blockMatch(peer.IPBlock, d)
			if err != nil {
				return s, err
			}
			if ok {
				s.blocks = append(s.blocks, block)
			}
			continue
		}
		chosen, err := c.choose(namespace, peer)
		if err != nil {
			return s, err
		}
		s.pods = append(s.pods, chosen...)
	}
	return s, nil
}

func (c *compiler) choose(namespace string, peer networkingv1.NetworkPolicyPeer) ([]pod, error) {
	if peer.PodSelector == nil && peer.NamespaceSelector == nil {
		return nil, nil
	}
	pods, namespaces := labels.Everything(), labels.Nothing()
	var err error
	if peer.PodSelector != nil {
		if pods, err = selector(peer.PodSelector); err != nil {
			return nil, err
		}
	}
	if peer.NamespaceSelector != nil {
		if namespaces, err = selector(peer.NamespaceSelector); err != nil {
			return nil, err
		}
	}
	var out []pod
	for _, p := range c.pods {
		there := p.Namespace == namespace
		if peer.NamespaceSelector != nil {
			set, known := c.namespaces[p.Namespace]
			there = known && namespaces.Matches(set)
		}
		if there && pods.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out, nil
}

// matches returns nft's matches for the peers, each of them with the match of
// a port after it.
func (s selection) matches(d direction, port string) []string {
	var out []string
	add := func(peer string) { out = append(out, strings.TrimSpace(peer+" "+port)) }
	if s.any {
		add("")
	}
	if len(s.pods) > 0 {
		add(d.match(s.pods...))
	}
	for _, b := range s.blocks {
		add(b)
	}
	return out
}

func (d direction) match(pods ...pod) string {
	var addrs []string
	for _, p := range pods {
		addrs = append(addrs, p.addr.String())
	}
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	if len(addrs) == 1 {
		return "ip " + d.peer + " " + addrs[0]
	}
	return "ip " + d.peer + " { " + strings.Join(addrs, ", ") + " }"
}

// blockMatch returns false for a block of IPv6 addresses, which no peer of the
// sandbox's pods has.
func blockMatch(b *networkingv1.IPBlock, d direction) (string, bool, error) {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return "", false, fmt.Errorf("reading the block %q: %w", b.CIDR, err)
	}
	if !cidr.Addr().Is4() {
		return "", false, nil
	}
	var text []string
	if cidr.Bits() > 0 {
		text = append(text, "ip "+d.peer+" "+cidr.Masked().String())
	}
	for _, e := range b.Except {
		except, err := netip.ParsePrefix(e)
		if err != nil {
			return "", false, fmt.Errorf("reading the block %q: %w", e, err)
		}
		text = append(text, "ip "+d.peer+" != "+except.Masked().String())
	}
	return strings.Join(text, " "), true, nil
}

func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	return metav1.LabelSelectorAsSelector(s)
}
