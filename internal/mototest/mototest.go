// Package mototest starts an AWS emulator of a test's own: real moto, empty.
// SLIPWAY_MOTO_SERVER is its command line, which make test sets; without it a
// test skips, and with CI=true it fails.
package mototest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// The port may be somebody else's by the time that moto takes it.
	const tries = 3
	for try := 1; ; try++ {
		address, err := start(t, program)
		if err == nil {
			return address
		}
		if !errors.Is(err, errEnded) || try == tries {
			t.Fatal(err)
		}
		t.Log(err)
	}
}

var errEnded = errors.New("moto ended before it answered")

// start starts the emulator on a port that is free, and waits until it answers.
func start(t testing.TB, program []string) (string, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(program[0], append(program[1:], "-H", "127.0.0.1", "-p", port)...)
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var end error
	ended := make(chan struct{})
	go func() { end = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended: // another may answer on its port
			return "", fmt.Errorf("%w: %w", errEnded, end)
		case <-ctx.Done():
			return "", errors.New("moto does not answer after a minute")
		case <-tick.C:
		}
		if answers(ctx, "http://"+addr+"/moto-api/data.json") {
			return "http://" + addr, nil
		}
	}
}

// answers tells whether moto does at the address, and no other server.
func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var data map[string]any
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&data) == nil
}
