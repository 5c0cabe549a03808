// Package awsfront stands between the programs under test and moto. It says no
// where AWS says no: unknown keys, wrong signatures, expired sessions, roles
// whose trust policy does not name the caller. It answers what moto lacks (EKS
// access entries, trails into another account's bucket), counts every call,
// and passes the rest on.
package awsfront

import (
	"cmp"
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
	Settings          Settings         // how it behaves until it is told otherwise
	Log               *log.Logger      // nil: what it has to say is not logged
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

// Front is the handler. It is safe for concurrent use.
type Front struct {
	cfg       Config
	store     *store
	moto      *moto
	motoProxy *httputil.ReverseProxy
	gateway   *httputil.ReverseProxy
	issuers   map[string]*oidc.IDTokenVerifier
	counter   counter
	views     views
	settings  settings
	throttle  throttle
	faults    faults
	creating  sync.Mutex // Organizations: accounts come into being between two calls
	now       func() time.Time

	operations map[string]operation
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
	f := &Front{cfg: cfg, now: now, issuers: map[string]*oidc.IDTokenVerifier{}, operations: operations()}
	f.counter.operations, f.throttle.limits = f.operations, limits()
	f.settings.put(cfg.Settings)
	if f.store, err = openStore(cfg.StateFile, now); err != nil {
		return nil, err
	}
	f.moto = newMoto(cfg.MotoURL, cfg.Region)
	f.motoProxy = f.newMotoProxy(target)
	if cfg.Gateway.Endpoint != "" {
		u, err := cfg.Gateway.check()
		if err != nil {
			return nil, err
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
	f.serve(&watched{ResponseWriter: w}, r)
}

// serve answers a call of AWS's, and keeps what became of it.
func (f *Front) serve(w *watched, r *http.Request) {
	c, refused := readCall(w, r)
	if refused != nil {
		f.counter.add(Event{Time: f.now().UTC(), Service: cmp.Or(c.service, "unknown"), Action: cmp.Or(c.action, "unknown"), Status: refused.status, Code: refused.code, Outcome: outcomeRefused})
		c.fail(refused)
		return
	}
	web := c.sig == nil && c.service == "sts" && c.action == "AssumeRoleWithWebIdentity"
	if web {
		c.caller.Account, _, _ = roleARN(c.form.Get("RoleArn"))
	} else {
		refused = f.authenticate(c)
	}
	c.target = c.caller.Account
	sequence := f.counter.add(Event{Time: f.now().UTC(), Service: c.service, Action: c.action, Account: c.caller.Account, Principal: c.caller.ARN})
	var fault Fault
	givenUp := false // by the client, before anything was done
	defer func() {   // a lost reply ends by a panic
		f.counter.update(sequence, func(e *Event) {
			e.Status, e.Code, e.Fault, e.Resources, e.Outcome = w.status, w.code(), fault.Kind, c.resources, w.outcome()
			switch {
			case fault.Kind == faultLostReply:
				e.Outcome = outcomeNoReply
			case fault.Kind == faultLostRequest || givenUp:
				e.Outcome = outcomeNoCall
			}
		})
	}()
	if refused == nil {
		refused = f.checkRate(c)
	}
	if refused != nil {
		c.fail(refused)
		return
	}
	fault, _ = f.faults.strike(c)
	switch fault.Kind {
	case faultError:
		c.fail(fault.answer(c.service))
		return
	case faultDelay:
		if givenUp = !wait(r.Context(), time.Duration(fault.Delay)); givenUp {
			return
		}
	case faultLostRequest:
		panic(http.ErrAbortHandler)
	case faultLostReply:
		w.ResponseWriter = nowhere{http.Header{}}
	}
	if web {
		f.assumeWithWebIdentity(c)
	} else {
		f.route(c)
	}
	if fault.Kind == faultLostReply {
		panic(http.ErrAbortHandler) // closes the connection
	}
}

// wait waits, unless the client goes away first.
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

// route judges an authenticated call and sends it where it is answered.
func (f *Front) route(c *call) {
	refused := f.authorize(c)
	if refused == nil {
		refused = f.checkWrite(c)
	}
	if refused != nil {
		c.fail(refused)
		return
	}
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
		if mutates, _ := f.counter.mutating(c.service, c.action); mutates {
			f.passChange(c, memberships)
			return
		}
	case "iam":
		f.serveIAM(c)
		return
	case "s3":
		var refused *apiError
		if c.hides, refused = f.hidesAbsence(c); refused != nil {
			c.fail(refused)
			return
		}
		if f.ofGateway(bucketOf(c.r.URL)) {
			f.serveGateway(c)
			return
		}
		if f.servePolicy(c) {
			return
		}
	}
	f.passOn(c)
}
