package netpolicy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// lab is a node and its pods as network namespaces. Each pod has a link of
// its own to the node, as the ptp plugin makes them. outside stands for the
// host at the other end of the node's link.
type lab struct {
	t      *testing.T
	node   netns.NsHandle
	places map[string]place
}

type place struct {
	ns   netns.NsHandle
	addr netip.Addr
}

const (
	nodeAddr    = "10.16.64.2"
	outsideAddr = "10.16.64.1"
	serviceAddr = "10.16.128.5" // leads to api, port 80 to 8080
)

// newLab makes the namespaces. Only root may.
func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("the rules are tried in the kernel as root")
		}
		t.Skip("needs root")
	}
	l := &lab{t: t, places: map[string]place{}}
	l.node = l.namespace()
	l.places["node"] = place{l.node, netip.MustParseAddr(nodeAddr)}
	l.link("outside", netip.MustParseAddr(outsideAddr))
	for _, p := range shop().Pods {
		l.link(p.Name, netip.MustParseAddr(p.Status.PodIP))
	}
	l.in(l.node, func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600),
			nft("table ip services { chain prerouting { type nat hook prerouting priority dstnat\n ip daddr "+serviceAddr+" tcp dport 80 dnat to 10.16.0.3:8080\n }\n }"))
	})
	return l
}

func nft(rules string) error { return Apply(context.Background(), rules) }

// in runs do with the thread in a namespace.
func (l *lab) in(ns netns.NsHandle, do func() error) {
	l.t.Helper()
	if err := inside(ns, do); err != nil {
		l.t.Fatal(err)
	}
}

// inside runs do on a thread that ends with it, so that no other goroutine is
// ever run in the namespace.
func inside(ns netns.NsHandle, do func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			result <- err
			return
		}
		result <- do()
	}()
	return <-result
}

func (l *lab) namespace() netns.NsHandle {
	l.t.Helper()
	made := make(chan netns.NsHandle, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.New()
		if err == nil {
			var lo netlink.Link
			if lo, err = netlink.LinkByName("lo"); err == nil {
				err = netlink.LinkSetUp(lo)
			}
		}
		if err != nil {
			l.t.Error(err)
		}
		made <- ns
	}()
	ns := <-made
	if l.t.Failed() {
		l.t.FailNow()
	}
	l.t.Cleanup(func() { ns.Close() })
	return ns
}

// link makes a namespace with a link to the node, which routes to it.
func (l *lab) link(name string, addr netip.Addr) {
	l.t.Helper()
	ns := l.namespace()
	l.places[name] = place{ns, addr}
	l.in(l.node, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}); err != nil {
			return err
		}
		return up(name, nodeAddr, addr.String()+"/32")
	})
	l.in(ns, func() error { return errors.Join(up("eth0", addr.String(), nodeAddr+"/32"), route("eth0", nodeAddr)) })
}

// up gives a link an address and a route to its other end.
func up(name, own, other string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err1 := netlink.ParseAddr(own + "/32")
	dst, err2 := netlink.ParseIPNet(other)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link),
		netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK, Src: net.ParseIP(own)}))
}

func route(name, gateway string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)})
}

// serve answers in a place what comes on a port.
func (l *lab) serve(where, network string, port int) {
	l.t.Helper()
	address := net.JoinHostPort("0.0.0.0", strconv.Itoa(port))
	var closer io.Closer
	l.in(l.places[where].ns, func() error {
		if network == "udp" {
			conn, err := new(net.ListenConfig).ListenPacket(l.t.Context(), "udp4", address)
			closer = conn
			if err == nil {
				go echo(conn)
			}
			return err
		}
		listener, err := new(net.ListenConfig).Listen(l.t.Context(), "tcp4", address)
		closer = listener
		if err == nil {
			go answer(listener)
		}
		return err
	})
	l.t.Cleanup(func() { closer.Close() })
}

func echo(conn net.PacketConn) {
	buf := make([]byte, 16)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(buf[:n], from) // the client asks again
	}
}

// answer sends back what it gets, until the client has had enough.
func answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // the client sees what it does not get
		}()
	}
}

// dial connects from a place, and sees an answer.
func (l *lab) dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := inside(l.places[from].ns, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, ask(ctx, conn)
}

func ask(ctx context.Context, conn net.Conn) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	buf := make([]byte, 5)
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, buf)
	return err
}

// patience is how long something that is to be let through may take;
// impatience, how long one waits for what is to be dropped. That it was
// dropped the rules tell, which count.
const (
	patience   = 20 * time.Second
	impatience = 300 * time.Millisecond
)

// flow is a connection that may be tried.
type flow struct {
	from, to string // names of places; "service" for the Service
	network  string
	port     int
}

func (f flow) String() string {
	return fmt.Sprintf("%s>%s/%s/%d", f.from, f.to, f.network, f.port)
}

func (l *lab) address(f flow) string {
	addr := serviceAddr
	if f.to != "service" {
		addr = l.places[f.to].addr.String()
	}
	return net.JoinHostPort(addr, strconv.Itoa(f.port))
}

// try expects that the flow is let through, or that it is dropped.
func (l *lab) try(f flow, through bool) error {
	wait := impatience
	if through {
		wait = patience
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), wait)
	defer cancel()
	conn, err := l.dial(ctx, f.from, f.network, l.address(f))
	if conn != nil {
		conn.Close()
	}
	switch {
	case through && err != nil:
		return fmt.Errorf("%s is to be let through: %w", f, err)
	case !through && err == nil:
		return fmt.Errorf("%s is to be dropped and is let through", f)
	case !through && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s is to be dropped and ends with: %w", f, err)
	}
	return nil
}

// dropped is the number of packets that the rules have dropped so far.
func (l *lab) dropped() int {
	l.t.Helper()
	var out []byte
	l.in(l.node, func() (err error) {
		out, err = exec.CommandContext(l.t.Context(), "nft", "list", "table", "ip", Table).CombinedOutput()
		return err
	})
	total := 0
	for line := range strings.Lines(string(out)) {
		var packets, bytes int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "counter packets %d bytes %d drop", &packets, &bytes); err == nil {
			total += packets
		}
	}
	return total
}

// flows are all that the tests try.
func flows() []flow {
	return []flow{
		{"web", "api", "tcp", 8080}, {"web", "api", "tcp", 9090}, {"web", "api", "udp", 9091},
		{"scan", "api", "tcp", 8080}, {"outside", "api", "tcp", 8080}, {"node", "api", "tcp", 8080},
		{"web", "service", "tcp", 80}, {"scan", "service", "tcp", 80}, {"outside", "service", "tcp", 80},
		{"api", "web", "tcp", 8080}, {"api", "scan", "tcp", 8000}, {"api", "outside", "tcp", 443}, {"api", "node", "tcp", 10250},
		{"web", "scan", "tcp", 8000}, {"scan", "web", "tcp", 8080},
	}
}

func (l *lab) serveAll() {
	for _, s := range []flow{
		{"", "api", "tcp", 8080}, {"", "api", "tcp", 9090}, {"", "api", "udp", 9091}, {"", "web", "tcp", 8080},
		{"", "scan", "tcp", 8000}, {"", "outside", "tcp", 443}, {"", "node", "tcp", 10250},
	} {
		l.serve(s.to, s.network, s.port)
	}
}

// TestKernel sets the rules of policies in a kernel, and tries every flow:
// those that are named are dropped, all others are let through.
func TestKernel(t *testing.T) {
	l := newLab(t)
	l.serveAll()
	toAPI := []string{"web>api/tcp/8080", "web>api/tcp/9090", "web>api/udp/9091", "scan>api/tcp/8080", "outside>api/tcp/8080", "web>service/tcp/80", "scan>service/tcp/80", "outside>service/tcp/80"}
	fromAPI := []string{"api>web/tcp/8080", "api>scan/tcp/8000", "api>outside/tcp/443", "api>node/tcp/10250"}
	except := func(all []string, allowed ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(allowed, s) })
	}
	for _, c := range []struct {
		name    string
		specs   []string
		dropped []string
	}{
		{"no policy", nil, nil},
		{"deny all that comes", []string{`podSelector: {matchLabels: {app: api}}`}, toAPI},
		{"a peer is allowed", []string{`podSelector: {matchLabels: {app: api}}`, `{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`},
			except(toAPI, "web>api/tcp/8080", "web>api/tcp/9090", "web>api/udp/9091", "web>service/tcp/80")},
		{"a namespace is allowed", []string{`{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: audit}}}]}]}`},
			except(toAPI, "scan>api/tcp/8080", "scan>service/tcp/80")},
		{"a named port is allowed", []string{`{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: http}, {port: metrics, protocol: UDP}]}]}`},
			[]string{"web>api/tcp/9090"}},
		{"a range is allowed to a block", []string{`{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: {cidr: 10.16.0.0/16, except: [10.16.64.0/24, 10.16.0.4/32]}}], ports: [{port: 9000, endPort: 9100}]}]}`},
			except(toAPI, "web>api/tcp/9090")},
		{"deny all that goes", []string{`{podSelector: {matchLabels: {app: api}}, policyTypes: [Egress]}`}, fromAPI},
		{"a pod and a block may be reached", []string{`{podSelector: {matchLabels: {app: api}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: scan}}}], ports: [{port: http}]}, {to: [{ipBlock: {cidr: 10.16.64.1/32}}]}]}`},
			except(fromAPI, "api>scan/tcp/8000", "api>outside/tcp/443")},
		{"a Service is reached where its pods are", []string{`{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 8080}]}]}`},
			[]string{"web>api/tcp/9090", "web>api/udp/9091", "web>scan/tcp/8000"}},
		{"both ends have to agree", []string{`podSelector: {matchLabels: {app: api}}`, `{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{}]}`}, toAPI},
		{"no policy again", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := shop()
			for i, spec := range c.specs {
				p := policy(t, spec)
				p.Name += strconv.Itoa(i)
				w.Policies = append(w.Policies, p)
			}
			rules, err := Compile(w)
			if err != nil {
				t.Fatal(err)
			}
			l.in(l.node, func() error { return nft(rules) })
			var all sync.WaitGroup
			for _, f := range flows() {
				through := !slices.Contains(c.dropped, f.String())
				all.Go(func() {
					if err := l.try(f, through); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n := l.dropped(); n < len(c.dropped) || len(c.dropped) == 0 && n > 0 {
				t.Errorf("the rules dropped %d packets of %d flows", n, len(c.dropped))
			}
		})
	}
}

// A connection that was allowed goes on when a policy forbids new ones.
func TestConnectionsGoOn(t *testing.T) {
	l := newLab(t)
	l.serveAll()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f := flow{"web", "api", "tcp", 8080}
	conn, err := l.dial(ctx, f.from, f.network, l.address(f))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rules, err := Compile(shop(policy(t, `podSelector: {}`)))
	if err != nil {
		t.Fatal(err)
	}
	l.in(l.node, func() error { return nft(rules) })
	if err := ask(ctx, conn); err != nil {
		t.Errorf("the connection does not go on: %v", err)
	}
	if err := l.try(f, false); err != nil {
		t.Error(err)
	}
}

// Rules that the kernel refuses leave those that were there, and tell why.
func TestRulesThatAreRefused(t *testing.T) {
	l := newLab(t)
	rules, err := Compile(shop(policy(t, `podSelector: {}`)))
	if err != nil {
		t.Fatal(err)
	}
	l.in(l.node, func() error { return nft(rules) })
	err = inside(l.node, func() error { return nft(strings.Replace(rules, "counter drop", "counter fly", 1)) })
	if err == nil || !strings.Contains(err.Error(), "fly") {
		t.Errorf("the error is %v", err)
	}
	l.serveAll()
	if err := l.try(flow{"web", "api", "tcp", 8080}, false); err != nil {
		t.Error(err)
	}
}
