package faultproxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// The reply to the second POST is lost, though the part has done the call.
func Example() {
	done := 0
	gitlab := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { done++ }))
	defer gitlab.Close()
	proxy, err := faultproxy.Start(faultproxy.Config{Part: faultproxy.GitLab(), Upstream: gitlab.URL, Rules: []faultproxy.Rule{
		{Match: faultproxy.Match{Method: "POST", Nth: 2}, Fault: faultproxy.DropAfter()},
	}})
	if err != nil {
		panic(err)
	}
	for range 2 {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, proxy.URL+"/api/v4/projects/7/deployments", nil)
		if err != nil {
			panic(err)
		}
		resp, err := http.DefaultClient.Do(req)
		fmt.Println("failed:", err != nil)
		if err == nil {
			_ = resp.Body.Close()
		}
	}
	proxy.Close()
	fmt.Println("done:", done)
	for _, c := range proxy.Log.Mutating() {
		fmt.Printf("%d %s %q\n", c.Seq, c, c.Fault)
	}
	// Output:
	// failed: false
	// failed: true
	// done: 2
	// 1 gitlab POST (POST /api/v4/projects/7/deployments) ""
	// 2 gitlab POST (POST /api/v4/projects/7/deployments) "drop after"
}
