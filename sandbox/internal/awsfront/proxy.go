package awsfront

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// callKey carries the call to the proxies' hooks.
type callKey struct{}

// passOn sends the call to moto, into its target account.
func (f *Front) passOn(c *call) {
	ctx := c.r.Context()
	if f.outlives(c) {
		var done context.CancelFunc
		ctx, done = detached(ctx)
		defer done()
	}
	f.motoProxy.ServeHTTP(c.w, c.r.WithContext(context.WithValue(ctx, callKey{}, c)))
}

// hide turns the absence of an object into a refusal, for those who may not
// list the bucket.
func hide(resp *http.Response) error {
	c, ok := resp.Request.Context().Value(callKey{}).(*call)
	if !ok || !c.hides || resp.StatusCode != http.StatusNotFound {
		return nil
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	raw := []byte(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
	resp.StatusCode, resp.Status = http.StatusForbidden, "403 Forbidden"
	resp.Header = http.Header{"Content-Type": {"application/xml"}}
	if c.r.Method == http.MethodHead {
		raw = nil
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	return nil
}

func (f *Front) newMotoProxy(target *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(target)
			pr.Out.Host = pr.In.Host // moto builds addresses from it
			pr.Out.Header.Del(accountHeader)
			if c, ok := pr.In.Context().Value(callKey{}).(*call); ok {
				pr.Out.Header.Set(accountHeader, c.target)
			}
		},
		ModifyResponse: f.learn,
		Transport:      &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
		FlushInterval:  -1,
		ErrorLog:       f.proxyLog(),
		ErrorHandler:   badGateway("moto"),
	}
}

// newGatewayProxy signs anew with the gateway's key: the gateway knows no AWS
// sessions. The declared hash stays, so the gateway still checks the body.
func (f *Front) newGatewayProxy(target *url.URL, signer *v4.Signer) *httputil.ReverseProxy {
	g := f.cfg.Gateway
	creds := aws.Credentials{AccessKeyID: g.AccessKey, SecretAccessKey: g.SecretKey}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, ErrorLog: f.proxyLog(), ErrorHandler: badGateway("the S3 gateway"), ModifyResponse: hide}
	proxy.Rewrite = func(pr *httputil.ProxyRequest) {
		pr.SetURL(target)
		pr.Out.Host = target.Host
		for name := range pr.Out.Header {
			if name == "Authorization" || name == "X-Amz-Security-Token" || name == "X-Amz-Date" || name == accountHeader {
				delete(pr.Out.Header, name)
			}
		}
		query := pr.Out.URL.Query()
		for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token"} {
			query.Del(name)
		}
		pr.Out.URL.RawQuery = query.Encode()
		if pr.Out.Header.Get(hashHeader) == "" {
			pr.Out.Header.Set(hashHeader, unsigned)
		}
	}
	proxy.Transport = &signing{signer: signer, creds: creds, region: g.Region, now: f.now,
		next: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32}}
	return proxy
}

// signing signs last of all, when the proxy has set every header.
type signing struct {
	signer *v4.Signer
	creds  aws.Credentials
	region string
	now    func() time.Time
	next   http.RoundTripper
}

// RoundTrip signs a copy of the request and sends it.
func (s *signing) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	// The proxy's own headers may be changed on the way by net/http; S3 needs
	// only its own signed.
	forwarded := http.Header{}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Accept-Encoding", "Te", "Connection"} {
		if v, ok := out.Header[name]; ok {
			forwarded[name] = v
			delete(out.Header, name)
		}
	}
	if err := s.signer.SignHTTP(r.Context(), s.creds, out, out.Header.Get(hashHeader), "s3", s.region, s.now()); err != nil {
		return nil, err
	}
	for name, v := range forwarded {
		out.Header[name] = v
	}
	return s.next.RoundTrip(out)
}

func (f *Front) proxyLog() *log.Logger {
	if f.cfg.Log != nil {
		return f.cfg.Log
	}
	return log.New(io.Discard, "", 0)
}

func badGateway(what string) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, "the sandbox cannot reach "+what+": "+err.Error(), http.StatusBadGateway)
	}
}

// learn keeps the access keys that IAM gives to users, and forgets those that
// it takes back, so that the front knows whom a later signature belongs to.
func (f *Front) learn(resp *http.Response) error {
	c, ok := resp.Request.Context().Value(callKey{}).(*call)
	if ok && c.service == "s3" {
		return errors.Join(f.learnBucket(resp, c), hide(resp))
	}
	if !ok || c.service != "iam" || resp.StatusCode != http.StatusOK || !strings.HasSuffix(c.action, "AccessKey") {
		return nil
	}
	key := c.form.Get("AccessKeyId")
	switch c.action {
	case "DeleteAccessKey", "UpdateAccessKey":
		refused := f.store.change(func(d *data) *apiError {
			id, ok := d.Keys[key]
			switch {
			case !ok || id.Permanent || id.Account != c.caller.Account:
			case c.action == "DeleteAccessKey":
				delete(d.Keys, key)
			default:
				id.Disabled = c.form.Get("Status") != "Active"
				d.Keys[key] = id
			}
			return nil
		})
		if refused != nil {
			return refused
		}
		return nil
	case "CreateAccessKey":
		return f.learnKey(resp, c)
	}
	return nil
}

// learnBucket keeps whose a bucket is, since bucket names are everybody's.
func (f *Front) learnBucket(resp *http.Response, c *call) error {
	if resp.StatusCode >= 300 || c.action != "CreateBucket" && c.action != "DeleteBucket" {
		return nil
	}
	bucket := bucketOf(c.r.URL)
	refused := f.store.change(func(d *data) *apiError {
		if c.action == "CreateBucket" {
			d.Buckets[bucket] = c.caller.Account
			return nil
		}
		delete(d.Buckets, bucket)
		delete(d.Policies, bucket)
		return nil
	})
	if refused != nil {
		return refused
	}
	return nil
}

func (f *Front) learnKey(resp *http.Response, c *call) error {
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	var made struct {
		UserName string `xml:"CreateAccessKeyResult>AccessKey>UserName"`
		ID       string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret   string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	if err := xml.Unmarshal(raw, &made); err != nil {
		return err
	}
	user, err := f.userIdentity(resp.Request.Context(), c.caller.Account, made.UserName)
	if err != nil {
		return err
	}
	user.Secret = made.Secret
	if refused := f.store.change(func(d *data) *apiError { d.Keys[made.ID] = user; return nil }); refused != nil {
		return refused
	}
	return nil
}
