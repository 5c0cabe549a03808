package awsfront

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	orgtypes "github.com/aws/aws-sdk-go-v2/service/organizations/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// between stands between the front and moto. It does one call and keeps its
// answer back, or refuses it. It sees what comes to the front, too.
type between struct {
	moto *httputil.ReverseProxy

	mu      sync.Mutex
	call    string        // that ends the target, is the form's action, or begins method and path
	refuse  bool          // once
	done    chan struct{} // moto has done the call
	release chan struct{} // the answer goes on
	visits  chan visit    // gets the next request to the front; may be nil
}

// visit is a request to the front.
type visit struct {
	ctx  context.Context //nolint:containedctx // ended when the client has gone away
	over chan struct{}   // the front has done with it
}

func newBetween(t *testing.T) (*between, *bench) {
	x := &between{}
	b := newBench(t, func(c *Config) {
		target, err := url.Parse(c.MotoURL)
		if err != nil {
			t.Fatal(err)
		}
		x.moto = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
		server := httptest.NewServer(x)
		t.Cleanup(server.Close)
		c.MotoURL = server.URL
	})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := visit{r.Context(), make(chan struct{})}
		defer close(v.over)
		x.mu.Lock()
		if x.visits != nil {
			x.visits <- v
			x.visits = nil
		}
		x.mu.Unlock()
		b.front.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	b.url = front.URL
	return x, b
}

// next sets the call that is meant, once.
func (x *between) next(call string, refuse bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.call, x.refuse, x.done, x.release = call, refuse, make(chan struct{}), make(chan struct{})
}

// meant reports whether the request is the call that is meant.
func (x *between) meant(r *http.Request, body []byte) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	form, _ := url.ParseQuery(string(body))
	hit := x.call != "" && (strings.HasSuffix(r.Header.Get("X-Amz-Target"), "."+x.call) || form.Get("Action") == x.call || r.Method+" "+r.URL.Path == x.call)
	if hit {
		x.call = ""
	}
	return hit
}

// ServeHTTP lets moto do every call, whatever becomes of who asked.
func (x *between) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if !x.meant(r, body) {
		x.moto.ServeHTTP(w, r)
		return
	}
	if x.refuse {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer := httptest.NewRecorder()
	x.moto.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
	close(x.done)
	<-x.release
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// abandon makes the call with a client that goes away when moto has done its
// part, before the front hears of it, and returns when the front has ended.
func (x *between) abandon(t *testing.T, call string, do func(context.Context) error) {
	t.Helper()
	x.next(call, false)
	visits := make(chan visit, 1)
	x.mu.Lock()
	x.visits = visits
	x.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- do(ctx) }()
	select {
	case <-x.done:
	case err := <-ended:
		t.Fatalf("%s was not called: %v", call, err)
	}
	cancel()
	if <-ended == nil {
		t.Fatal("it was answered")
	}
	v := <-visits
	<-v.ctx.Done() // a front that gives up has given up before the answer comes
	close(x.release)
	<-v.over
}

// TestAccountsOutliveClients: an account is made once, and its request ends
// well, whoever asks meanwhile and goes away, and whichever step fails.
func TestAccountsOutliveClients(t *testing.T) {
	x, b := newBetween(t)
	b.account("first")
	client := organizations.NewFromConfig(b.adminConfig())
	create := func(name string) *string {
		t.Helper()
		out, err := client.CreateAccount(t.Context(), &organizations.CreateAccountInput{AccountName: &name, Email: aws.String(name + "@example.com")})
		if err != nil {
			t.Fatal(err)
		}
		return out.CreateAccountStatus.Id
	}
	status := func(id *string) (*orgtypes.CreateAccountStatus, error) {
		out, err := client.DescribeCreateAccountStatus(t.Context(), &organizations.DescribeCreateAccountStatusInput{CreateAccountRequestId: id})
		if err != nil {
			return nil, err
		}
		return out.CreateAccountStatus, nil
	}
	succeeds := func(id *string) {
		t.Helper()
		s, err := status(id)
		if err != nil || s.State != orgtypes.CreateAccountStateSucceeded {
			t.Fatalf("the request is %+v, %v", s, err)
		}
		b.in(*s.AccountId) // the role has its rights
	}
	id := create("second")
	x.abandon(t, "CreateAccount", func(ctx context.Context) error { _, err := client.ListRoots(ctx, nil); return err })
	succeeds(id)

	id = create("third")
	x.next("PutRolePolicy", true)
	if _, err := status(id); err == nil {
		t.Fatal("the rights were not refused")
	}
	succeeds(id)

	// A front that ended before it knew what moto had made.
	if _, err := b.front.moto.organizations(management).CreateAccount(t.Context(), &organizations.CreateAccountInput{AccountName: aws.String("fourth"), Email: aws.String("fourth@example.com")}); err != nil {
		t.Fatal(err)
	}
	succeeds(create("fourth"))
	list, err := client.ListAccounts(t.Context(), nil)
	if err != nil || len(list.Accounts) != 5 {
		t.Errorf("accounts: %+v, %v", list, err)
	}
	s, err := status(create("fourth"))
	if err != nil || s.FailureReason != orgtypes.CreateAccountFailureReasonEmailAlreadyExists {
		t.Errorf("with an address that is taken: %+v, %v", s, err)
	}
}

// TestProviderOutlivesClients: what moto has only as two calls is one.
func TestProviderOutlivesClients(t *testing.T) {
	x, b := newBetween(t)
	cfg := b.in(b.account("nonprod"))
	arn := b.provider(cfg)
	client := iam.NewFromConfig(cfg)
	x.abandon(t, "DeleteOpenIDConnectProvider", func(ctx context.Context) error {
		_, err := client.AddClientIDToOpenIDConnectProvider(ctx, &iam.AddClientIDToOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn, ClientID: aws.String("more")})
		return err
	})
	out, err := client.GetOpenIDConnectProvider(t.Context(), &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
	if err != nil || len(out.ClientIDList) != 2 {
		t.Errorf("the provider is %+v, %v", out, err)
	}
}

// TestBucketOutlivesClients: whose a bucket is, the front learns from moto's
// answer, which nobody may wait for.
func TestBucketOutlivesClients(t *testing.T) {
	x, b := newBetween(t)
	one := b.account("one")
	inOne, inTwo := b.in(one), b.in(b.account("two"))
	name := "nsflow-shared-" + one + "-" + testRegion + "-an"
	x.abandon(t, "PUT /"+name, func(ctx context.Context) error {
		_, err := s3.NewFromConfig(inOne, pathStyle).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name,
			CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: testRegion}})
		return err
	})
	list := func(cfg aws.Config) error {
		_, err := s3.NewFromConfig(cfg, pathStyle).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &name})
		return err
	}
	wantCode(t, list(inTwo), "AccessDenied")
	wantCode(t, list(inOne), "")
}
