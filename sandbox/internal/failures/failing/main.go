// Failing is a program that fails as its first argument says. The tests run it
// on a real node, to see what a kubelet makes of it.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail("usage: failing HOW [WHAT]")
	}
	var err error
	switch os.Args[1] {
	case "exit":
		var code int
		if code, err = strconv.Atoi(os.Args[2]); err == nil {
			fmt.Println("it ends with", code)
			os.Exit(code)
		}
	case "allocate":
		allocate()
	case "fill":
		err = fill(os.Args[2])
	case "serve":
		err = serve(os.Args[2:])
	default:
		err = more(os.Args[1], os.Args[2:])
	}
	if err != nil {
		fail(err)
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}

// allocate uses ever more memory.
func allocate() {
	var all [][]byte
	for {
		block := make([]byte, 8<<20)
		for i := range block {
			block[i] = 1
		}
		all = append(all, block)
		fmt.Println("megabytes:", 8*len(all))
	}
}

// fill writes a file of some megabytes into a folder, and stays until it is killed.
func fill(folder string) error {
	if err := os.WriteFile(filepath.Join(folder, "data"), make([]byte, 8<<20), 0o600); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGTERM)
	<-time.After(time.Hour)
	return nil
}

// serve answers every request with a status, once the time to start is over,
// and does not end when it is asked to.
func serve(args []string) error {
	status, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	start, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGTERM)
	<-time.After(start)
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
	})}
	return server.ListenAndServe()
}
