// Package mototest starts an AWS emulator of a test's own: real moto, empty.
// SLIPWAY_MOTO_SERVER is its command line, which make test sets; without it a
// test skips, and with CI=true it fails.
package mototest

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Start returns the address of the emulator, which is stopped with the test.
func Start(t testing.TB) string {
	t.Helper()
	program := strings.Fields(os.Getenv("SLIPWAY_MOTO_SERVER"))
	if len(program) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("SLIPWAY_MOTO_SERVER is not set: run the tests with make test")
		}
		t.Skip("needs moto: run make test, or set SLIPWAY_MOTO_SERVER to the command line of moto_server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(program[0], append(program[1:], "-H", "127.0.0.1", "-p", port)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/moto-api/data.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			return "http://" + addr
		}
		select {
		case err := <-ended:
			t.Fatalf("moto ended before it answered: %v", err)
		case <-ctx.Done():
			t.Fatal("moto does not answer after a minute")
		case <-tick.C:
		}
	}
}
