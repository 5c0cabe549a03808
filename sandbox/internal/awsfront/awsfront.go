// Package awsfront stands between the programs under test and moto. It says no
// where AWS says no: unknown keys, wrong signatures, expired sessions, roles
// whose trust policy does not name the caller. It answers what moto lacks (EKS
// access entries, trails into another account's bucket), counts every call,
// and passes the rest on.
package awsfront

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coreos/go-oidc/v3/oidc"
)

// Config is what the front stands on.
type Config struct {
	MotoURL           string            // http://127.0.0.1:P
	Region            string            // of global calls of the front's own
	Issuers           map[string]string // issuer URL to the address of its JWKS
	Clusters          []Cluster
	Gateway           Gateway
	ManagementAccount string
	AdminAccessKey    string // 20 capitals and digits; empty: made by Seed and kept in StateFile
	AdminSecretKey    string
	StateFile         string
	Log               *log.Logger      // nil: the proxy's errors are not logged
	Now               func() time.Time // nil: time.Now
}

// Cluster is an EKS cluster that stands outside moto.
type Cluster struct {
	Name        string // of the EKS cluster
	AccountName string // of the Organizations account it belongs to
	Region      string
	Version     string // of Kubernetes, as EKS writes it: 1.37
	Endpoint    string
	CAFile      string // PEM; until it exists the cluster is CREATING
}

// Gateway is the S3 gateway that holds the buckets with a prefix.
type Gateway struct {
	Endpoint, AccessKey, SecretKey, Region string
	BucketPrefix                           string
}

// Front is the handler. It is safe for concurrent use.
type Front struct {
	cfg       Config
	store     *store
	moto      *moto
	motoProxy *httputil.ReverseProxy
	gateway   *httputil.ReverseProxy
	issuers   map[string]*oidc.IDTokenVerifier
	counter   counter
	creating  sync.Mutex // account creation: look, then create
	now       func() time.Time
}

// New checks the configuration and reads the state file, if there is one.
func New(cfg Config) (*Front, error) {
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	target, err := url.Parse(cfg.MotoURL)
	if err != nil || target.Host == "" {
		return nil, fmt.Errorf("reading moto's address %q: not a URL", cfg.MotoURL)
	}
	if cfg.StateFile == "" || cfg.Region == "" || len(cfg.ManagementAccount) != 12 {
		return nil, errors.New("reading the front's configuration: state file, region and a management account of 12 digits are needed")
	}
	if cfg.AdminAccessKey != "" && (!keyPattern(cfg.AdminAccessKey) || cfg.AdminSecretKey == "") {
		return nil, errors.New("reading the front's configuration: the access key has 20 capitals or digits, and a secret")
	}
	f := &Front{cfg: cfg, now: now, issuers: map[string]*oidc.IDTokenVerifier{}}
	if f.store, err = openStore(cfg.StateFile, now); err != nil {
		return nil, err
	}
	f.moto = newMoto(cfg.MotoURL, cfg.Region)
	f.motoProxy = f.newMotoProxy(target)
	if cfg.Gateway.Endpoint != "" {
		u, err := url.Parse(cfg.Gateway.Endpoint)
		if err != nil || u.Host == "" || cfg.Gateway.BucketPrefix == "" {
			return nil, fmt.Errorf("reading the gateway's address %q: a URL and a bucket prefix are needed", cfg.Gateway.Endpoint)
		}
		f.gateway = f.newGatewayProxy(u, v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }))
	}
	for issuer, jwks := range cfg.Issuers {
		// The key set outlives every request: it keeps keys and fetches them
		// again when a token names one that it does not know.
		keys := oidc.NewRemoteKeySet(context.Background(), jwks)
		f.issuers[issuer] = oidc.NewVerifier(issuer, keys, &oidc.Config{SkipClientIDCheck: true, Now: now})
	}
	return f, nil
}

func keyPattern(s string) bool {
	return len(s) == 20 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// ServeHTTP answers or passes on one request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/_slipway/") {
		f.serveOwn(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/moto-api") {
		http.Error(w, "moto's own interface is not reachable through the front", http.StatusNotFound)
		return
	}
	c, refused := readCall(w, r)
	if refused != nil {
		c.fail(refused)
		return
	}
	if c.sig == nil && c.service == "sts" && c.action == "AssumeRoleWithWebIdentity" {
		account, _, _ := roleARN(c.form.Get("RoleArn"))
		f.counter.add(c.service, c.action, account)
		f.assumeWithWebIdentity(c)
		return
	}
	refused = f.authenticate(c)
	f.counter.add(c.service, c.action, c.caller.Account)
	if refused != nil {
		c.fail(refused)
		return
	}
	f.route(c)
}

// route sends an authenticated call where it is answered. Permission policies
// of the caller are not evaluated.
func (f *Front) route(c *call) {
	switch c.service {
	case "sts":
		f.serveSTS(c)
		return
	case "eks":
		if f.serveEKS(c) {
			return
		}
	case "cloudtrail":
		if f.serveTrails(c) {
			return
		}
	case "organizations":
		if f.serveOrganizations(c) {
			return
		}
	case "kms":
		if refused := f.useForeignKey(c); refused != nil {
			c.fail(refused)
			return
		}
	case "s3":
		if f.gateway != nil && strings.HasPrefix(bucketOf(c.r.URL), f.cfg.Gateway.BucketPrefix) {
			if strings.HasPrefix(c.r.Header.Get(hashHeader), "STREAMING-AWS4") {
				c.fail(refuse(http.StatusNotImplemented, "NotImplemented", "uploads signed chunk by chunk cannot be passed on to the gateway"))
				return
			}
			f.gateway.ServeHTTP(c.w, c.r)
			return
		}
		if f.servePolicy(c) {
			return
		}
	}
	f.passOn(c)
}

// serveOwn answers the front's own addresses, which are not AWS's.
func (f *Front) serveOwn(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	path := strings.TrimPrefix(r.URL.Path, "/_slipway/")
	switch {
	case r.Method == http.MethodGet && path == "health":
		if err := f.moto.alive(r.Context()); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "down", "message": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	case r.Method == http.MethodGet && path == "calls":
		writeJSON(w, http.StatusOK, f.counter.report())
	case r.Method == http.MethodPost && path == "calls/reset":
		f.counter.reset()
		writeJSON(w, http.StatusOK, f.counter.report())
	case r.Method == http.MethodPost && strings.HasPrefix(path, "eks/") && strings.HasSuffix(path, "/authenticate"):
		f.authenticateToken(w, r, strings.TrimSuffix(strings.TrimPrefix(path, "eks/"), "/authenticate"))
	default:
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no such address of the front: " + r.Method + " " + r.URL.Path})
	}
}
