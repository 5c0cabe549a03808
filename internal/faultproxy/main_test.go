package faultproxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// TestMain makes the test binary the programs that the schedules kill.
func TestMain(m *testing.M) {
	if program := os.Getenv("FAULTPROXY_PROGRAM"); program != "" {
		if err := run(program, os.Getenv("FAULTPROXY_URL")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run is a program that makes two things. The careful one looks first and
// names what it makes; the careless one does neither. Another makes nothing,
// and runs a command in a pod.
func run(program, url string) error {
	if program == "exec" {
		return upgrade(strings.TrimPrefix(url, "http://"))
	}
	for _, name := range []string{"a", "b"} {
		if program == "careful" {
			there, err := call(http.MethodGet, url+"/"+name)
			if err != nil {
				return err
			}
			if there != "" {
				continue
			}
			if _, err := call(http.MethodPut, url+"/"+name); err != nil {
				return err
			}
			continue
		}
		if _, err := call(http.MethodPost, url+"/"+name); err != nil {
			return err
		}
	}
	fmt.Println("done")
	return nil
}

// upgrade runs a command in a pod.
func upgrade(address string) error {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, execRequest); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%v, %w", resp, err)
	}
	if _, err := io.WriteString(conn, "ls\n"); err != nil {
		return err
	}
	_, err = io.ReadAll(r)
	return err
}

const execRequest = "POST /api/v1/namespaces/a/pods/b/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"

func call(method, url string) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	raw, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	return string(raw), err
}

// store is a part that keeps how often each path was made.
type store struct {
	mu   sync.Mutex
	made map[string]int
}

// ServeHTTP answers GET with nothing where a path was not made.
func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method != http.MethodGet {
		s.made[strings.Trim(r.URL.Path, "/")]++
	}
	if n := s.made[strings.Trim(r.URL.Path, "/")]; n > 0 {
		fmt.Fprint(w, n)
	}
}

func (s *store) count() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for k, v := range s.made {
		out[k] = v
	}
	return out
}

func start(t testing.TB, c faultproxy.Config) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}
