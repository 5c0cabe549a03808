package faultproxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// get makes one call without any retry.
func get(t *testing.T, client *http.Client, method, url string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp, string(raw), err
}

// counted is a part that answers with JSON, and how often it was asked.
func counted(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"name": "orders"}`))
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestDrops(t *testing.T) {
	for _, c := range []struct {
		fault faultproxy.Fault
		asked int32
		seen  int // status in the log
	}{{faultproxy.DropBefore(), 0, 0}, {faultproxy.DropAfter(), 1, 200}} {
		upstream, asked := counted(t)
		p := start(t, faultproxy.Config{Part: faultproxy.GitLab(), Upstream: upstream, Rules: []faultproxy.Rule{{Fault: c.fault}}})
		resp, _, err := get(t, http.DefaultClient, http.MethodPost, p.URL+"/x")
		if err == nil {
			t.Errorf("%s: answered %s", c.fault, resp.Status)
		}
		if asked.Load() != c.asked || p.Log.Calls()[0].Status != c.seen || p.Log.Calls()[0].Fault != c.fault.String() {
			t.Errorf("%s: the part was asked %d times; the log says %+v", c.fault, asked.Load(), p.Log.Calls())
		}
	}
}

func TestDelayHandsOn(t *testing.T) {
	upstream, asked := counted(t)
	p := start(t, faultproxy.Config{Part: faultproxy.GitLab(), Upstream: upstream, Rules: []faultproxy.Rule{{Match: faultproxy.Match{Nth: 1}, Fault: faultproxy.Delay(time.Millisecond)}, {Fault: faultproxy.Delay(time.Hour)}}})
	if _, body, err := get(t, http.DefaultClient, http.MethodGet, p.URL+"/x"); err != nil || body != `{"name": "orders"}` {
		t.Errorf("%q, %v", body, err)
	}
	// Close ends a call that waits.
	done := make(chan error, 1)
	go func() {
		resp, err := http.Get(p.URL + "/x") //nolint:noctx // ends with the proxy
		if err == nil {
			err = resp.Body.Close()
		}
		done <- err
	}()
	for tick := time.Tick(time.Millisecond); len(p.Log.Calls()) < 2; <-tick { //nolint:revive // until it has come
	}
	p.Close()
	if err := <-done; err == nil || asked.Load() != 1 {
		t.Errorf("the call went through: %v, asked %d times", err, asked.Load())
	}
}

func TestWrongBodies(t *testing.T) {
	upstream, asked := counted(t)
	for body, check := range map[faultproxy.Body]func(*http.Response, string, error) bool{
		faultproxy.Truncated: func(_ *http.Response, got string, err error) bool {
			return errors.Is(err, io.ErrUnexpectedEOF) && got == `{"name": `
		},
		faultproxy.Cut: func(_ *http.Response, got string, err error) bool { return err == nil && got == `{"name": ` },
		faultproxy.Garbage: func(r *http.Response, got string, err error) bool {
			return err == nil && !json.Valid([]byte(got)) && len(got) >= 18 && r.Header.Get("Content-Type") == "application/json"
		},
		faultproxy.Page: func(r *http.Response, got string, err error) bool {
			return err == nil && r.StatusCode == 200 && strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") && strings.Contains(got, "<html>")
		},
	} {
		asked.Store(0)
		f := faultproxy.WrongBody(body)
		p := start(t, faultproxy.Config{Part: faultproxy.GitLab(), Upstream: upstream, Rules: []faultproxy.Rule{{Fault: f}}})
		if resp, got, err := get(t, http.DefaultClient, http.MethodPost, p.URL+"/x"); !check(resp, got, err) || asked.Load() != 1 {
			t.Errorf("%s: %q, %v; the part was asked %d times", f, got, err, asked.Load())
		}
	}
	p := start(t, faultproxy.Config{Part: faultproxy.GitLab(), Upstream: upstream, Rules: []faultproxy.Rule{{Fault: faultproxy.WrongBody(faultproxy.Oversized)}}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != faultproxy.OversizedBy+18 {
		t.Errorf("oversized: %d bytes, %v", n, err)
	}
}

// TestUpstreamThatIsGone: no page of the proxy's own stands for a part.
func TestUpstreamThatIsGone(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	p := start(t, faultproxy.Config{Part: faultproxy.GitLab(), Upstream: s.URL})
	s.Close()
	resp, _, err := get(t, http.DefaultClient, http.MethodPost, p.URL+"/x")
	if err == nil {
		t.Errorf("answered %s", resp.Status)
	}
	if c := p.Log.Calls()[0]; !strings.Contains(c.Error, "refused") {
		t.Errorf("the log says %+v", c)
	}
}

// TestSignedRequestsStayValid: what arrives is signed again with the same key
// and time, and has the same signature.
func TestSignedRequestsStayValid(t *testing.T) {
	keys := aws.Credentials{AccessKeyID: "AKIAAAAAAAAAAAAAAAAA", SecretAccessKey: "secret"}
	checked := 0
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		checked++
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil {
			t.Error(err)
		}
		_, names, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
		names, _, _ = strings.Cut(names, ",")
		again := r.Clone(r.Context())
		again.URL.Scheme, again.URL.Host = "http", r.Host
		again.Header = http.Header{}
		for _, name := range strings.Split(names, ";") {
			if v := r.Header.Values(name); len(v) > 0 {
				again.Header[http.CanonicalHeaderKey(name)] = v
			}
		}
		err = v4.NewSigner().SignHTTP(r.Context(), keys, again, r.Header.Get("X-Amz-Content-Sha256"), "s3", "eu-central-1", at,
			func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if err != nil {
			t.Error(err)
		}
		if got, want := again.Header.Get("Authorization"), r.Header.Get("Authorization"); got != want {
			t.Errorf("%s %s is signed\n%s, and what arrived would be\n%s", r.Method, r.URL, want, got)
		}
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(upstream.Close)
	p := start(t, faultproxy.Config{Part: faultproxy.AWS(), Upstream: upstream.URL})
	client := s3.New(s3.Options{Region: "eu-central-1", BaseEndpoint: &p.URL, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")})
	for _, key := range []string{"plain", "a b/c+d=e;f%20g/ü"} {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: &key, Body: strings.NewReader("text"),
			ContentType: aws.String("text/plain; charset=utf-8"), Metadata: map[string]string{"a": "b  c"}}); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	if checked != 2 {
		t.Errorf("%d requests were checked", checked)
	}
}

// talk answers a request as an API server answers an exec, and goes on as say does.
func talk(t *testing.T, w http.ResponseWriter, say func(*bufio.ReadWriter)) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	_ = rw.Flush()
	say(rw)
}

// TestStreamsPass: a watch's events come one by one, and an upgraded
// connection is the client's and the part's own, both over TLS as a client, and
// where all bodies are spoilt.
func TestStreamsPass(t *testing.T) {
	next := make(chan string)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			for event := range next {
				_, _ = io.WriteString(w, event+"\n")
				_ = http.NewResponseController(w).Flush()
			}
			return
		}
		talk(t, w, func(rw *bufio.ReadWriter) {
			line, _ := rw.ReadString('\n')
			_, _ = rw.WriteString("echo " + line)
			_ = rw.Flush()
		})
	}))
	upstream.EnableHTTP2 = true
	upstream.StartTLS()
	t.Cleanup(upstream.Close)
	authority := x509.NewCertPool()
	authority.AddCert(upstream.Certificate())
	p := start(t, faultproxy.Config{Part: faultproxy.Kubernetes(), Upstream: upstream.URL, TLS: &tls.Config{RootCAs: authority, MinVersion: tls.VersionTLS12},
		Rules: []faultproxy.Rule{{Fault: faultproxy.WrongBody(faultproxy.Truncated)}}})

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(p.CA()) {
		t.Fatal("the proxy has no authority")
	}
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	t.Cleanup(client.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+"/api/v1/pods?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { next <- "one" }()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("the proxy speaks %s", resp.Proto)
	}
	events := bufio.NewReader(resp.Body)
	if line, err := events.ReadString('\n'); line != "one\n" { // before there is another
		t.Errorf("read %q, %v", line, err)
	}
	next <- "two"
	close(next)
	if line, err := events.ReadString('\n'); line != "two\n" {
		t.Errorf("read %q, %v", line, err)
	}

	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echo(t, conn)
	if calls := p.Log.Calls(); len(calls) != 2 || calls[0].Action != "watch pods" || calls[1].Action != "create pods/exec" || calls[1].Status != 101 {
		t.Errorf("the log says %+v", calls)
	}
}

// TestReplyBeforeTheRequestEnds: the part's reply and the client's body pass
// each other.
func TestReplyBeforeTheRequestEnds(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		half := make([]byte, 2)
		for range 2 {
			if _, err := io.ReadFull(r.Body, half); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, "got "+string(half)+"\n")
			_ = rc.Flush()
		}
	}))
	t.Cleanup(upstream.Close)
	p := start(t, faultproxy.Config{Part: faultproxy.GitLab(), Upstream: upstream.URL})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	reply := bufio.NewReader(resp.Body)
	if line, err := reply.ReadString('\n'); line != "got ab\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	if _, err := io.WriteString(conn, "cd"); err != nil {
		t.Fatal(err)
	}
	if line, err := reply.ReadString('\n'); line != "got cd\n" {
		t.Errorf("read %q, %v", line, err)
	}
}

func echo(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, execRequest); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("read %q, %v", line, err)
	}
}
