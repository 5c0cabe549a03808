package process

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// Ports gives each name a free port on loopback. A port that a name has
// already stays where taken says that its owner runs, or where it is free.
func Ports(ctx context.Context, names []string, have map[string]int, taken func(name string) bool) (map[string]int, error) {
	out := map[string]int{}
	var open []net.Listener // until all are found, so that no two are the same
	defer func() {
		for _, l := range open {
			l.Close()
		}
	}()
	listen := func(port int) (int, error) {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return 0, err
		}
		open = append(open, l)
		return l.Addr().(*net.TCPAddr).Port, nil
	}
	var missing []string
	for _, name := range names {
		port, ok := have[name]
		if ok && !taken(name) {
			_, err := listen(port)
			ok = err == nil
		}
		if ok {
			out[name] = port
		} else {
			missing = append(missing, name)
		}
	}
	for _, name := range missing {
		port, err := listen(0)
		if err != nil {
			return nil, fmt.Errorf("finding a port for %q on 127.0.0.1: %w", name, err)
		}
		out[name] = port
	}
	return out, nil
}
