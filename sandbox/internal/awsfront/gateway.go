package awsfront

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Gateway is the S3 gateway that holds the buckets with a prefix. They are
// made behind the front's back, which must be told whose they are.
type Gateway struct {
	Endpoint, AccessKey, SecretKey, Region string
	BucketPrefix                           string
	Account                                string // that owns the buckets
	Policy                                 string // of the buckets, as PutBucketPolicy takes it; "": none
}

// check reads the address and refuses what S3 would not take for a bucket.
func (g Gateway) check() (*url.URL, error) {
	u, err := url.Parse(g.Endpoint)
	if err != nil || u.Host == "" || g.BucketPrefix == "" || len(g.Account) != 12 {
		return nil, fmt.Errorf("reading the gateway's address %q: a URL, a bucket prefix and an account of 12 digits are needed", g.Endpoint)
	}
	if g.Policy == "" {
		return u, nil
	}
	policy, err := readPolicy(g.Policy, true)
	if err == nil {
		err = bucketsOwn(policy, g.BucketPrefix)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the policy of the gateway's buckets: %w", err)
	}
	return u, nil
}

func (f *Front) ofGateway(bucket string) bool {
	return f.gateway != nil && strings.HasPrefix(bucket, f.cfg.Gateway.BucketPrefix)
}

// serveGateway passes a call on whose rights were judged. The gateway knows one
// account and no policies: what it would answer on them is not AWS's.
func (f *Front) serveGateway(c *call) {
	switch c.action {
	case "CreateBucket":
		if c.caller.Account != f.cfg.Gateway.Account {
			c.fail(refuse(http.StatusConflict, "BucketAlreadyExists", "The requested bucket name is not available."))
			return
		}
	case "GetBucketPolicy":
		f.gatewayPolicy(c)
		return
	case "PutBucketPolicy", "DeleteBucketPolicy":
		c.fail(refuse(http.StatusNotImplemented, "NotImplemented", "the policy of the gateway's buckets is part of the front's configuration"))
		return
	}
	f.passToGateway(c)
}

func (f *Front) gatewayPolicy(c *call) {
	if f.cfg.Gateway.Policy == "" {
		c.fail(refuse(http.StatusNotFound, "NoSuchBucketPolicy", "The bucket policy does not exist"))
		return
	}
	c.w.Header().Set("Content-Type", "application/json")
	if _, err := io.WriteString(c.w, f.cfg.Gateway.Policy); err != nil {
		c.fail(internal(err))
	}
}

func (f *Front) passToGateway(c *call) {
	if strings.HasPrefix(c.r.Header.Get(hashHeader), "STREAMING-AWS4") {
		c.fail(refuse(http.StatusNotImplemented, "NotImplemented", "uploads signed chunk by chunk cannot be passed on to the gateway"))
		return
	}
	f.gateway.ServeHTTP(c.w, c.r.WithContext(context.WithValue(c.r.Context(), callKey{}, c)))
}
