package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// more are the ways to fail that say something before they do.
func more(how string, args []string) error {
	switch how {
	case "say":
		for _, line := range args[1:] {
			fmt.Fprintln(os.Stderr, line)
		}
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "panic":
		serveOrders(nil)
	case "panic-with":
		panic(fmt.Errorf("reading the price list: %s", args[0]))
	case "need":
		if os.Getenv(args[0]) == "" {
			fmt.Println("orders 1.4.2 is starting")
			return fmt.Errorf("reading the configuration: environment variable %s is not set", args[0])
		}
	case "connect":
		fmt.Println("orders 1.4.2 is starting")
		if _, err := net.DialTimeout("tcp", args[0], 5*time.Second); err != nil {
			return fmt.Errorf("opening the database: %w", err)
		}
		return serve([]string{"200", "0s"})
	case "await":
		for {
			if _, err := net.DialTimeout("tcp", args[0], time.Second); err == nil {
				return serve([]string{"200", "0s"})
			} else {
				fmt.Println("waiting for the database:", err)
			}
			<-time.After(time.Second)
		}
	case "kill":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "late":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		<-time.After(d)
		return fmt.Errorf("it ran for %s and gives up", d)
	case "once":
		return once(args)
	case "ordinal":
		if name := os.Getenv("HOSTNAME"); strings.HasSuffix(name, "-"+args[0]) {
			return fmt.Errorf("%s does not find its shard", name)
		}
		return serve([]string{"200", "0s"})
	case "registry":
		return registry(args[0], args[1])
	}
	return fmt.Errorf("no such way to fail: %q", how)
}

type orders struct{ next *orders }

// serveOrders reads through a nil pointer.
func serveOrders(o *orders) { fmt.Println("orders 1.4.2 is starting", o.next) }

// once fails the first time that it runs with a folder, and then serves, or
// ends well where a third argument says so.
func once(args []string) error {
	mark := filepath.Join(args[0], "mark")
	if _, err := os.Stat(mark); err != nil {
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			return err
		}
		return fmt.Errorf("the cache is not there yet")
	}
	if len(args) > 1 {
		return nil
	}
	return serve([]string{"200", "3s"})
}

// registry answers pulls with the status that the repository is called by, and
// those of the repository flaky, after the first, as another registry does.
func registry(address, upstream string) error {
	to, err := url.Parse("http://" + upstream)
	if err != nil {
		return err
	}
	var asked atomic.Int32
	proxy := httputil.NewSingleHostReverseProxy(to)
	server := &http.Server{Addr: address, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
		fmt.Println(r.Method, r.URL.Path)
		code, err := strconv.Atoi(name)
		switch {
		case name == "flaky" && asked.Add(1) <= 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case name == "flaky":
			_, what, _ := strings.Cut(rest, "/") // after the name of the repository
			r.URL.Path, r.Host = "/v2/tests/failing/"+what, upstream
			proxy.ServeHTTP(w, r)
		case err != nil:
			w.WriteHeader(http.StatusOK) // the API's root
		default:
			if code == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			}
			w.WriteHeader(code)
		}
	})}
	return server.ListenAndServe()
}
