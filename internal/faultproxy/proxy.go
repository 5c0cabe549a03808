package faultproxy

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"time"
)

// Config is a proxy before one part.
type Config struct {
	Part     Part
	Upstream string // http://HOST:PORT or https://HOST:PORT
	// TLS is how an https upstream is reached: its authority, and where it holds
	// a client certificate, as whom every call is made.
	TLS   *tls.Config
	Rules []Rule
	Seed  uint64
	Log   *Log // of all proxies of one world; nil makes one of its own
}

// Proxy is a running proxy.
type Proxy struct {
	// URL is where it listens: loopback, with the upstream's scheme.
	URL string
	Log *Log

	part   Part
	rules  *rules
	server *httptest.Server
	base   context.Context //nolint:containedctx // ends with the proxy
	end    context.CancelFunc
	next   *httputil.ReverseProxy
}

// Start starts a proxy, and names all that is wrong with its rules.
func Start(c Config) (*Proxy, error) {
	upstream, err := url.Parse(c.Upstream)
	if err != nil || upstream.Host == "" || upstream.Scheme != "http" && upstream.Scheme != "https" {
		return nil, fmt.Errorf("starting a fault proxy: %q is no address of an HTTP part", c.Upstream)
	}
	if c.Part.describe == nil {
		return nil, errors.New("starting a fault proxy: it has no part")
	}
	p := &Proxy{part: c.Part, Log: c.Log}
	if p.Log == nil {
		p.Log = &Log{}
	}
	if p.rules, err = compile(c.Rules, c.Seed); err != nil {
		return nil, fmt.Errorf("starting a fault proxy: %w", err)
	}
	// HTTP/1.1 alone, since what is upgraded (exec, port-forward) exists in no
	// other version; compression is the client's own affair.
	transport := &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Second, MaxIdleConnsPerHost: 32,
		TLSClientConfig: c.TLS.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	p.next = &httputil.ReverseProxy{
		Rewrite:        func(pr *httputil.ProxyRequest) { rewrite(pr, upstream) },
		Transport:      transport,
		FlushInterval:  -1, // watches and logs flow as they come
		ModifyResponse: p.answered,
		ErrorHandler:   p.failed,
		ErrorLog:       log.New(io.Discard, "", 0), // the calls say what went wrong
	}
	var end context.CancelFunc
	p.base, end = context.WithCancel(context.Background())
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.BaseContext = func(net.Listener) context.Context { return p.base }
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.EnableHTTP2 = true
	p.end = func() { end(); transport.CloseIdleConnections() }
	if upstream.Scheme == "https" {
		p.server.StartTLS()
	} else {
		p.server.Start()
	}
	p.URL = p.server.URL
	return p, nil
}

// CA returns the PEM of the authority that clients check the proxy with, nil
// where it speaks plain HTTP.
func (p *Proxy) CA() []byte {
	if p.server.Certificate() == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// Close ends the proxy, and every call that is on its way through it.
func (p *Proxy) Close() {
	p.end()
	p.server.CloseClientConnections()
	p.server.Close()
}

// rewrite sends the request on as it came: what a client signed (the host, the
// query, the headers) must reach the part byte by byte.
func rewrite(pr *httputil.ProxyRequest, upstream *url.URL) {
	pr.Out.URL.Scheme, pr.Out.URL.Host = upstream.Scheme, upstream.Host
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	pr.Out.Host = pr.In.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[name]; ok {
			pr.Out.Header[name] = v
		}
	}
}

// exchange is one call on its way through the proxy.
type exchange struct {
	kept  *Call // in the log
	call  Call
	fault Fault
}

type exchangeKey struct{}

// ServeHTTP applies what the rules and the log's trap say of a call.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Else the server takes the rest of the request's body away as soon as the
	// reply begins, also from a transport that is just about to see its end, and
	// cuts the reply off.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		panic(http.ErrAbortHandler)
	}
	x := &exchange{call: p.part.describe(r)}
	x.call.Part, x.call.Method, x.call.Host, x.call.Path = p.part.Name, r.Method, r.Host, r.URL.Path
	x.fault = p.rules.pick(x.call, r)
	x.call.Fault = x.fault.String()
	x.kept = p.Log.arrive(x.call)
	if x.call.Mutates {
		defer p.Log.land()
	}
	if p.Log.hold(r.Context(), x.kept, false) {
		panic(http.ErrAbortHandler)
	}
	switch x.fault.kind {
	case dropBefore:
		panic(http.ErrAbortHandler)
	case delay:
		if !wait(r.Context(), x.fault.delay) {
			panic(http.ErrAbortHandler)
		}
	case throttle, status:
		reply := p.part.refuse(r, x.fault)
		p.Log.refused(x.kept, reply.status)
		reply.write(w)
		return
	}
	ctx := context.WithValue(r.Context(), exchangeKey{}, x)
	if x.call.Mutates {
		// A part does what it was sent, also when nobody waits for its reply.
		whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(p.base, cancel)()
		ctx = whole
	}
	p.next.ServeHTTP(w, r.WithContext(ctx))
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errDropped = errors.New("the reply is dropped")

// answered sees the part's reply before the client does.
func (p *Proxy) answered(resp *http.Response) error {
	x, _ := resp.Request.Context().Value(exchangeKey{}).(*exchange)
	p.Log.answered(x.kept, resp.StatusCode)
	lost := x.fault.kind == dropAfter
	if x.call.Mutates && (lost || p.Log.trapped(x.kept)) && resp.StatusCode != http.StatusSwitchingProtocols {
		// Read to the end: what a part does while it answers is done as well.
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
	}
	if p.Log.hold(resp.Request.Context(), x.kept, true) || lost {
		return errDropped
	}
	return x.fault.spoil(resp)
}

// failed closes the connection: a part that cannot be reached sends no page.
func (p *Proxy) failed(_ http.ResponseWriter, r *http.Request, err error) {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	if !errors.Is(err, errDropped) {
		p.Log.broken(x.kept, err)
	}
	panic(http.ErrAbortHandler)
}
