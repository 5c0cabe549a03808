package node

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// What a relay forwards can be told from what the machine's own processes ask,
// and it forwards for its own network alone.
func TestRelay(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = io.WriteString(w, host)
	}))
	defer target.Close()
	address := func(from string) string {
		r, err := listenRelay(t.Context(), "127.0.0.1:0", strings.TrimPrefix(target.URL, "http://"), netip.MustParsePrefix(from))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		return "http://" + r.listener.Addr().String() + "/"
	}
	if host, err := get(t.Context(), address("127.0.0.0/8")); err != nil || host != "127.0.0.2" {
		t.Errorf("the target is asked from %q, %v", host, err)
	}
	if got, err := get(t.Context(), address("10.16.0.0/16")); err == nil {
		t.Errorf("another network gets %q", got)
	}
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}
