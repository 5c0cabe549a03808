package faultproxy_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// refusing is a proxy whose part must not be reached.
func refusing(t *testing.T, part faultproxy.Part, f faultproxy.Fault) string {
	t.Helper()
	var reached atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(upstream.Close)
	t.Cleanup(func() {
		if reached.Load() > 0 {
			t.Error("the part was reached")
		}
	})
	return start(t, faultproxy.Config{Part: part, Upstream: upstream.URL, Rules: []faultproxy.Rule{{Fault: f}}}).URL
}

// awsCode returns the code that the SDK read out of an error.
func awsCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// TestClientsUnderstandTheRefusals: the real clients read each refusal as what
// it stands for, and so retry it as they would.
func TestClientsUnderstandTheRefusals(t *testing.T) {
	cloud := func(url string) aws.Config {
		return aws.Config{Region: "eu-central-1", BaseEndpoint: &url, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
			Credentials: credentials.NewStaticCredentialsProvider("AKIAAAAAAAAAAAAAAAAA", "secret", "")}
	}
	for _, c := range []struct {
		name  string
		fault faultproxy.Fault
		codes [4]string // iam, kms, eks, s3
	}{
		{"throttle", faultproxy.Throttle(time.Second), [4]string{"Throttling", "ThrottlingException", "ThrottlingException", "SlowDown"}},
		{"500", faultproxy.Status(500), [4]string{"InternalFailure", "InternalFailure", "InternalFailure", "InternalError"}},
		{"503", faultproxy.Status(503), [4]string{"ServiceUnavailable", "ServiceUnavailable", "ServiceUnavailable", "ServiceUnavailable"}},
	} {
		cfg := cloud(refusing(t, faultproxy.AWS(), c.fault))
		_, e1 := iam.NewFromConfig(cfg).GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("r")})
		_, e2 := kms.NewFromConfig(cfg).ListKeys(t.Context(), &kms.ListKeysInput{})
		_, e3 := eks.NewFromConfig(cfg).DescribeCluster(t.Context(), &eks.DescribeClusterInput{Name: aws.String("c")})
		_, e4 := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
		if got := [4]string{awsCode(e1), awsCode(e2), awsCode(e3), awsCode(e4)}; got != c.codes {
			t.Errorf("%s: the SDK reads %v, want %v", c.name, got, c.codes)
		}
	}

	client, err := gitlab.NewClient("token", gitlab.WithBaseURL(refusing(t, faultproxy.GitLab(), faultproxy.Throttle(time.Second))), gitlab.WithCustomRetryMax(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = client.Projects.GetProject(1, nil); !gitlab.HasStatusCode(err, http.StatusTooManyRequests) {
		t.Errorf("GitLab's client reads %v", err)
	}

	ref, err := name.ParseReference(strings.TrimPrefix(refusing(t, faultproxy.Registry(), faultproxy.Throttle(time.Second)), "http://") + "/a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = remote.Get(ref, remote.WithRetryStatusCodes())
	var refused *transport.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusTooManyRequests || len(refused.Errors) != 1 || refused.Errors[0].Code != transport.TooManyRequestsErrorCode {
		t.Errorf("the registry's client reads %v", err)
	}

	for code, is := range map[int]func(error) bool{500: apierrors.IsInternalError, 503: apierrors.IsServiceUnavailable, 504: apierrors.IsTimeout} {
		cluster, err := kubernetes.NewForConfig(&rest.Config{Host: refusing(t, faultproxy.Kubernetes(), faultproxy.Status(code))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !is(err) {
			t.Errorf("the cluster's client reads %d as %v", code, err)
		}
	}
	// The client obeys Retry-After itself; what it does then is what is looked at.
	var asked atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"NodeList","apiVersion":"v1","items":[]}`))
	}))
	t.Cleanup(upstream.Close)
	p := start(t, faultproxy.Config{Part: faultproxy.Kubernetes(), Upstream: upstream.URL, Rules: []faultproxy.Rule{{Match: faultproxy.Match{Times: 2}, Fault: faultproxy.Throttle(time.Second)}}})
	cluster, err := kubernetes.NewForConfig(&rest.Config{Host: p.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil || asked.Load() != 1 || len(p.Log.Calls()) != 3 {
		t.Errorf("after two throttles: %v, %d calls, %d reached the cluster", err, len(p.Log.Calls()), asked.Load())
	}
}
