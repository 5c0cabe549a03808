package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Network is a cluster's addresses, 10.N.0.0/16:
//
//	10.N.0.0/18    pods
//	10.N.64.0/30   the link: .1 is the host's end, .2 the node's
//	10.N.128.0/17  Services: .0.1 is the API server, .0.10 the name server
type Network struct {
	N int `json:"n"`
}

func (n Network) addr(c, d byte) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n.N), c, d}) }

// All is the whole of the network.
func (n Network) All() netip.Prefix { return netip.PrefixFrom(n.addr(0, 0), 16) }

// Pods is the range of pod addresses.
func (n Network) Pods() netip.Prefix { return netip.PrefixFrom(n.addr(0, 0), 18) }

// Services is the range of Service addresses.
func (n Network) Services() netip.Prefix { return netip.PrefixFrom(n.addr(128, 0), 17) }

// Host is the host's end of the link, where pods reach the host.
func (n Network) Host() netip.Addr { return n.addr(64, 1) }

// Node is the node's own address.
func (n Network) Node() netip.Addr { return n.addr(64, 2) }

// APIServer is the address of the Service `kubernetes`.
func (n Network) APIServer() netip.Addr { return n.addr(128, 1) }

// DNS is the address of the cluster's name server.
func (n Network) DNS() netip.Addr { return n.addr(128, 10) }

func (n Network) String() string { return n.All().String() }

// linkBits is the length of the link's prefix.
const linkBits = 30

// FreeNetwork finds a network that is free and that skip does not refuse. seed
// says where to begin, so that two sandboxes try different ones first.
func FreeNetwork(seed string, skip func(Network) bool) (Network, error) {
	const first, count = 16, 224
	start := int(sha256.Sum256([]byte(seed))[0])
	for i := range count {
		n := Network{first + (start+i)%count}
		free, err := n.Free("")
		if err != nil {
			return Network{}, err
		}
		if free && !skip(n) {
			return n, nil
		}
	}
	return Network{}, errors.New("finding a free network 10.N.0.0/16: the host has addresses or routes in all of them")
}

// Free tells whether no address or route of the host overlaps the network,
// those of the link called except aside.
func (n Network) Free(except string) (bool, error) {
	taken, err := hostPrefixes(except)
	if err != nil {
		return false, err
	}
	return !overlaps(n.All(), taken), nil
}

func overlaps(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if t.Overlaps(p) {
			return true
		}
	}
	return false
}

// hostPrefixes are the host's addresses and the targets of its routes, the
// default route aside.
func hostPrefixes(except string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	own := -1
	if link, err := netlink.LinkByName(except); err == nil {
		own = link.Attrs().Index
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("listing the host's addresses: %w", err)
	}
	for _, a := range addrs {
		if a.LinkIndex != own {
			out = appendPrefix(out, a.IPNet)
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("listing the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.LinkIndex != own {
			out = appendPrefix(out, r.Dst)
		}
	}
	return out, nil
}

func appendPrefix(list []netip.Prefix, n *net.IPNet) []netip.Prefix {
	if n == nil {
		return list
	}
	a, ok := netip.AddrFromSlice(n.IP.To4())
	bits, _ := n.Mask.Size()
	if !ok || bits == 0 {
		return list
	}
	return append(list, netip.PrefixFrom(a, bits).Masked())
}

func ipNet(a netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, 32)}
}

// nodeLink is what the node calls its end of the link.
const nodeLink = "eth0"

// RemoveLink removes a node's link where it is still there: the kernel clears
// a namespace away some time after its last process.
func RemoveLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing the link %q: %w", name, err)
	}
	return nil
}

// addLink makes the link between the host and the namespace of a process, and
// the host's routes over it. It goes with the namespace.
func addLink(name string, pid int, n Network) error {
	if err := RemoveLink(name); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: nodeLink, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("making the link %q: %w", name, err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding the link %q: %w", name, err)
	}
	if err := bringUp(link, n.Host()); err != nil {
		return err
	}
	for _, p := range []netip.Prefix{n.Pods(), n.Services()} {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p.Addr(), p.Bits()), Gw: n.Node().AsSlice(), Src: n.Host().AsSlice()}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("adding the route to %s over %q: %w", p, name, err)
		}
	}
	return nil
}

func bringUp(link netlink.Link, a netip.Addr) error {
	name := link.Attrs().Name
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a, linkBits)}); err != nil {
		return fmt.Errorf("giving %q the address %s: %w", name, a, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bringing %q up: %w", name, err)
	}
	return nil
}

// joinNetwork brings the node's links up, inside its namespace.
func joinNetwork(n Network) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	link, err := netlink.LinkByName(nodeLink)
	if err != nil {
		return fmt.Errorf("finding %q: %w", nodeLink, err)
	}
	if err := bringUp(link, n.Node()); err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: n.Host().AsSlice()}); err != nil {
		return fmt.Errorf("adding the node's default route: %w", err)
	}
	return nil
}

// relayAddress is where a relay's connections come from on the host's loopback,
// which tells a server what pods ask from what the machine's own processes do.
var relayAddress = net.IPv4(127, 0, 0, 2)

// relay forwards connections of a cluster's network from the host's end of the
// link to a port of the host's loopback.
type relay struct {
	listener net.Listener
	target   string
	from     netip.Prefix
}

func listenRelay(ctx context.Context, address, target string, from netip.Prefix) (*relay, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for pods on %s: %w", address, err)
	}
	return &relay{l, target, from}, nil
}

func (r *relay) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { r.listener.Close() })
	defer stop()
	for {
		c, err := r.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting connections from pods on %s: %w", r.listener.Addr(), err)
		}
		// Other machines may have a route to the link's address.
		if remote := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); !r.from.Contains(remote) {
			c.Close()
			continue
		}
		go r.forward(ctx, c.(*net.TCPConn))
	}
}

// forward copies both ways until both ends are closed. A target that does not
// answer is a closed connection for the pod, as it would be without the relay.
func (r *relay) forward(ctx context.Context, pod *net.TCPConn) {
	defer pod.Close()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: relayAddress}}
	c, err := dialer.DialContext(ctx, "tcp", r.target)
	if err != nil {
		return
	}
	host := c.(*net.TCPConn)
	defer host.Close()
	stop := context.AfterFunc(ctx, func() { host.Close(); pod.Close() })
	defer stop()
	var both sync.WaitGroup
	pipe := func(to, from *net.TCPConn) {
		_, err := io.Copy(to, from)
		if errors.Is(to.CloseWrite(), net.ErrClosed) || err != nil {
			to.Close()
			from.Close()
		}
	}
	both.Go(func() { pipe(host, pod) })
	both.Go(func() { pipe(pod, host) })
	both.Wait()
}
