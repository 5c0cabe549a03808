// Command probe is what the sandbox's tests run in pods: a server, a client
// and a webhook in one static program.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const usage = `usage: probe VERB
  serve ADDRESS              answer with the pod's name
  webhook ADDRESS CERT KEY   a validating webhook that refuses objects with the annotation probe/refuse
  get URL                    print what a server answers
  api PATH                   print what the API server answers to the pod's service account
  resolve NAME               print the addresses of a name
  write FILE TEXT            write a file, synced to the disk, and then serve on :8080
  read FILE                  print a file`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case verb == "serve" && len(args) == 2:
		return serve(ctx, args[1], http.HandlerFunc(who), "", "")
	case verb == "webhook" && len(args) == 4:
		return serve(ctx, args[1], http.HandlerFunc(admit), args[2], args[3])
	case verb == "get" && len(args) == 2:
		return get(ctx, args[1])
	case verb == "api" && len(args) == 2:
		return api(ctx, args[1])
	case verb == "resolve" && len(args) == 2:
		return resolve(ctx, args[1])
	case verb == "write" && len(args) == 3:
		if err := write(args[1], args[2]); err != nil {
			return err
		}
		return serve(ctx, ":8080", http.HandlerFunc(who), "", "")
	case verb == "read" && len(args) == 2:
		raw, err := os.ReadFile(args[1])
		fmt.Print(string(raw))
		return err
	}
	return errors.New(usage)
}

func serve(ctx context.Context, address string, handler http.Handler, cert, key string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", l.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if cert != "" {
		err = server.ServeTLS(l, cert, key)
	} else {
		err = server.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func who(w http.ResponseWriter, r *http.Request) {
	name, _ := os.Hostname()
	fmt.Printf("%s %s\n", r.Method, r.URL.Path)
	fmt.Fprintln(w, name)
}

// admit answers an AdmissionReview, of which it knows what it needs.
func admit(w http.ResponseWriter, r *http.Request) {
	var review struct {
		Request struct {
			UID    string `json:"uid"`
			Name   string `json:"name"`
			Object struct {
				Metadata struct {
					Annotations map[string]string `json:"annotations"`
				} `json:"metadata"`
			} `json:"object"`
		} `json:"request"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	why, refuse := review.Request.Object.Metadata.Annotations["probe/refuse"]
	fmt.Printf("asked about %s, refused %t\n", review.Request.Name, refuse)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // a client that is gone needs no answer
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"response": map[string]any{"uid": review.Request.UID, "allowed": !refuse, "status": map[string]any{"message": why}},
	})
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return show(http.DefaultTransport, req)
}

// api asks the API server by its Service, as clients in a cluster do.
func api(ctx context.Context, path string) error {
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token, err1 := os.ReadFile(account + "token")
	ca, err2 := os.ReadFile(account + "ca.crt")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://kubernetes.default.svc"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	return show(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, req)
}

func show(transport http.RoundTripper, req *http.Request) error {
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	return nil
}

func resolve(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, name)
	for _, a := range addrs {
		fmt.Println(a)
	}
	return err
}

// write leaves a file that outlives a crash of the machine.
func write(path, text string) error {
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}
