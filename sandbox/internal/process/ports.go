package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// Ports gives each name a free port on loopback. A port that a name has
// already stays where taken says that its owner runs, or where it is free.
//
// Ports are free until somebody listens. So those that are given out are none
// that the kernel gives to connections, and no other sandbox is given them
// until what hold gets is closed.
func Ports(ctx context.Context, names []string, have map[string]int, taken func(name string) bool, hold func(io.Closer)) (map[string]int, error) {
	out := map[string]int{}
	var missing []string
	for _, name := range names {
		port, ok := have[name]
		if !ok || !taken(name) && reserve(ctx, port, hold) != nil {
			missing = append(missing, name)
			continue
		}
		out[name] = port
	}
	first, count := portRange()
	next := rand.IntN(count)
	for _, name := range missing {
		err := errors.New("there is none")
		for tried := 0; tried < count && err != nil && ctx.Err() == nil; tried++ {
			out[name] = first + next
			next = (next + 1) % count
			err = reserve(ctx, out[name], hold)
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, fmt.Errorf("finding a port for %q on 127.0.0.1 from %d to %d: %w", name, first, first+count-1, err)
		}
	}
	return out, nil
}

// reserve returns an error where the port is not free, or was given to another
// sandbox that has not used it yet.
func reserve(ctx context.Context, port int, hold func(io.Closer)) error {
	// A name that the kernel forgets with this process.
	name, err := new(net.ListenConfig).Listen(ctx, "unix", "@slipway-port-"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return errors.Join(err, name.Close())
	}
	hold(name)
	return l.Close()
}

// portRange is where ports are looked for: beside those that the kernel gives
// to connections, which would take them before a part listens.
func portRange() (first, count int) {
	const lowest, highest, enough = 10000, 65535, 1000
	var from, to int
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(raw), &from, &to)
	}
	switch {
	case err == nil && from-lowest >= enough:
		return lowest, from - lowest
	case err == nil && highest-to >= enough:
		return to + 1, highest - to
	}
	return lowest, highest - lowest + 1
}
