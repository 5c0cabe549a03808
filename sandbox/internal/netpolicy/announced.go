package netpolicy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// announced are the addresses of pods whose networks were just made, which
// the API server learns only after they have started.
type announced struct {
	mu    sync.Mutex
	byUID map[types.UID]*claim
}

// claim is a pod's address, as the pod's network was made with it.
type claim struct {
	addr netip.Addr
	set  chan struct{} // is closed once the rules are
	once sync.Once
}

func newAnnounced() *announced { return &announced{byUID: map[types.UID]*claim{}} }

func (a *announced) add(uid types.UID, addr netip.Addr) *claim {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := &claim{addr: addr, set: make(chan struct{})}
	a.byUID[uid] = c
	return c
}

// apply gives pods the addresses that were announced, in a slice of its own,
// and returns whose those are. Claims of pods that are gone are forgotten.
func (a *announced) apply(pods []*corev1.Pod) ([]*corev1.Pod, []*claim) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*corev1.Pod
	var found []*claim
	there := map[types.UID]bool{}
	for _, p := range pods {
		there[p.UID] = true
		if c, ok := a.byUID[p.UID]; ok {
			with := *p // the cache's own is not changed
			with.Status.PodIP, with.Status.PodIPs = c.addr.String(), nil
			p, found = &with, append(found, c)
		}
		out = append(out, p)
	}
	for uid, c := range a.byUID {
		select {
		case <-c.set:
			if !there[uid] {
				delete(a.byUID, uid)
			}
		default: // the cache does not know it yet
		}
	}
	return out, found
}

// serve answers announcements until ctx ends. tell makes the rules anew.
func (a *announced) serve(ctx context.Context, l net.Listener, tell func()) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listening for new pods: %w", err)
		}
		go func() {
			defer conn.Close()
			var got answer
			if err := a.wait(ctx, conn, tell); err != nil {
				got.Problem = err.Error()
			}
			_ = json.NewEncoder(conn).Encode(got) // who has gone away tries again
		}()
	}
}

// wait returns once the rules of the pod that is announced are set.
func (a *announced) wait(ctx context.Context, conn io.Reader, tell func()) error {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	var pod announcement
	if err := json.NewDecoder(io.LimitReader(conn, 4096)).Decode(&pod); err != nil {
		return fmt.Errorf("reading the announcement: %w", err)
	}
	addr, err := netip.ParseAddr(pod.Address)
	if err != nil {
		return fmt.Errorf("reading the announcement: %w", err)
	}
	if pod.UID == "" {
		return errors.New("reading the announcement: it has no pod's uid")
	}
	c := a.add(types.UID(pod.UID), addr)
	tell()
	select {
	case <-c.set:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("its rules are not set: %w", context.Cause(ctx))
	}
}
