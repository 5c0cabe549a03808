package awsfront

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// stopWithin is how long requests in flight may take once the front is told to
// stop.
const stopWithin = 5 * time.Second

// Serve answers on the listener until ctx ends, lets requests in flight end,
// and returns nil then.
func Serve(ctx context.Context, l net.Listener, f *Front) error {
	server := &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second, ErrorLog: f.proxyLog()}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving the AWS front: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if err != nil {
		return fmt.Errorf("stopping the AWS front: %w", err)
	}
	return nil
}
