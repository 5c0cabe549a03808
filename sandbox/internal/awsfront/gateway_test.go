package awsfront

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// newFakeGateway is a gateway that checks signatures and keeps objects, and the
// number of the calls that reached it.
func newFakeGateway(t *testing.T) (Gateway, func() int) {
	t.Helper()
	var mu sync.Mutex
	seen := 0
	objects := map[string][]byte{}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sig, err := readSignature(r)
		if err != nil || sig.accessKey != "gateway" || r.Header.Get("X-Amz-Security-Token") != "" || !sig.matches(r, "gateway secret", r.Header.Get(hashHeader), nil) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		seen++
		switch r.Method {
		case http.MethodPut:
			body, _ := io.ReadAll(r.Body)
			if hash := r.Header.Get(hashHeader); hash != unsigned && !strings.HasPrefix(hash, "STREAMING-") && hash != hashOf(body) {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			objects[r.URL.Path] = body
		case http.MethodGet:
			_, _ = w.Write(objects[r.URL.Path])
		}
	}))
	t.Cleanup(gateway.Close)
	return Gateway{Endpoint: gateway.URL, AccessKey: "gateway", SecretKey: "gateway secret", Region: "us-east-1", BucketPrefix: "nsflow-velero", Account: management},
		func() int { mu.Lock(); defer mu.Unlock(); return seen }
}

// backupPolicy is the one that the sandbox gives its backup bucket.
func backupPolicy(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../box/backuppolicy.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestGateway(t *testing.T) {
	gateway, seen := newFakeGateway(t)
	b := newBench(t, func(c *Config) { c.Gateway = gateway })
	cfg := b.adminConfig()
	client := s3.NewFromConfig(cfg, pathStyle)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	in := &s3.PutObjectInput{Bucket: aws.String("nsflow-velero"), Key: aws.String("backups/a b+c.json")}
	in.Body = bytes.NewReader(content)
	if _, err := client.PutObject(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: in.Bucket, Key: in.Key})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(body, content) {
		t.Errorf("read %d bytes back, %v", len(body), err)
	}
	if _, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: in.Bucket, Prefix: aws.String("backups/x y/")}); err != nil {
		t.Error(err)
	}
	presigned, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: in.Bucket, Key: in.Key})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(presigned.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("presigned: %s", resp.Status)
	}
	before := seen()
	stranger := s3.NewFromConfig(b.config("AKIA0000000000000000", "x", ""), pathStyle)
	in.Body = bytes.NewReader(content)
	if _, err := stranger.PutObject(t.Context(), in); err == nil || seen() != before {
		t.Errorf("a stranger reached the gateway: %v", err)
	}
}

// TestGatewayAsksForRights: the owner's account decides on its own roles; a
// role of another account needs the bucket's policy beside its own. Who is
// refused does not reach the gateway.
func TestGatewayAsksForRights(t *testing.T) {
	gateway, seen := newFakeGateway(t)
	gateway.Policy = backupPolicy(t)
	b := newBench(t, func(c *Config) { c.Gateway = gateway })
	member := b.account("nonprod")
	inMember := b.in(member)
	all := allow("s3:*", "arn:aws:s3:::nsflow-velero*")
	roles := map[string]aws.Config{
		"idle": b.worker(b.adminConfig(), management, "idle", allow("sts:GetCallerIdentity", "*"), nil), "backup-dev": b.worker(inMember, member, "backup-dev", all, nil),
		"backup-none": b.worker(inMember, member, "backup-none", allow("sts:GetCallerIdentity", "*"), nil), "reader": b.worker(inMember, member, "reader", all, nil),
	}
	name, key := aws.String("nsflow-velero"), aws.String("nonprod/a")
	calls := map[string]func(*s3.Client) error{
		"get": func(c *s3.Client) error {
			_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: name, Key: key})
			return err
		},
		"list": func(c *s3.Client) error {
			_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: name})
			return err
		},
		"put": func(c *s3.Client) error {
			_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: name, Key: key, Body: bytes.NewReader([]byte("text"))})
			return err
		},
		"delete": func(c *s3.Client) error {
			_, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: name, Key: key})
			return err
		},
	}
	check := func(name, call, words string) {
		t.Helper()
		before := seen()
		err := calls[call](s3.NewFromConfig(b.here(roles[name]), pathStyle))
		switch {
		case words == "" && (err != nil || seen() == before):
			t.Errorf("%s of %s: %v", call, name, err)
		case words != "":
			refusedAs(t, err, 403, "AccessDenied", words)
			if seen() != before {
				t.Errorf("%s of %s reached the gateway", call, name)
			}
		}
	}
	const byIdentity, byResource = "because no identity-based policy allows", "because no resource-based policy allows"
	for call := range calls {
		check("idle", call, byIdentity)
		check("reader", call, byResource)
	}
	check("backup-dev", "get", "")
	check("backup-dev", "list", "")
	check("backup-dev", "put", byResource)
	check("backup-dev", "delete", byResource)
	check("backup-none", "get", byIdentity)
	_, err := s3.NewFromConfig(inMember, pathStyle).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: name})
	refusedAs(t, err, 409, "BucketAlreadyExists", "")
	owner := s3.NewFromConfig(b.adminConfig(), pathStyle)
	_, err = owner.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: name, Policy: &gateway.Policy})
	wantCode(t, err, "NotImplemented")
	if out, err := owner.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: name}); err != nil || *out.Policy != gateway.Policy {
		t.Errorf("its policy: %+v, %v", out, err)
	}

	b.cfg.Gateway.Policy = ""
	b.restart()
	for call := range calls {
		check("backup-dev", call, byResource)
	}
}

// here is the access as it is with the front that stands now.
func (b *bench) here(cfg aws.Config) aws.Config {
	cfg = cfg.Copy()
	cfg.BaseEndpoint = &b.url
	return cfg
}

// TestGatewayThatIsNobodys: a front does not start with buckets whose owner it
// does not know, or with a policy that S3 would not store.
func TestGatewayThatIsNobodys(t *testing.T) {
	good := Gateway{Endpoint: "http://127.0.0.1:7070", BucketPrefix: "nsflow-velero", Account: management, Policy: backupPolicy(t)}
	for name, change := range map[string]func(*Gateway){
		"":               func(*Gateway) {},
		"no account":     func(g *Gateway) { g.Account = "" },
		"no policy":      func(g *Gateway) { g.Policy = "{" },
		"another bucket": func(g *Gateway) { g.BucketPrefix = "velero" },
	} {
		g := good
		change(&g)
		_, err := New(Config{MotoURL: "http://127.0.0.1:5000", Region: testRegion, ManagementAccount: management, StateFile: filepath.Join(t.TempDir(), "state.json"), Gateway: g})
		if (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestRealGateway runs against versitygw where the sandbox has built it; the
// signature itself is proven by TestGateway.
func TestRealGateway(t *testing.T) {
	program := os.Getenv("SLIPWAY_S3_GATEWAY")
	if program == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("SLIPWAY_S3_GATEWAY is not set: run the tests with make test")
		}
		t.Skip("needs versitygw: run make test, or set SLIPWAY_S3_GATEWAY to its path")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for _, sub := range []string{"data", "meta"} {
		if err := os.Mkdir(filepath.Join(folder, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "--port", address, "--access", "gatewaykey", "--secret", "gatewaysecret", "--region", testRegion, "posix", "--sidecar", filepath.Join(folder, "meta"), filepath.Join(folder, "data"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b := newBench(t, func(c *Config) {
		c.Gateway = Gateway{Endpoint: "http://" + address, AccessKey: "gatewaykey", SecretKey: "gatewaysecret", Region: testRegion, BucketPrefix: "nsflow-velero", Account: management}
	})
	cfg := b.adminConfig()
	cfg.RetryMaxAttempts = 10 // until the gateway listens
	client := s3.NewFromConfig(cfg, pathStyle)
	name, key := aws.String("nsflow-velero"), aws.String("backups/a b+c.json")
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: name}); err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: name, Key: key, Body: bytes.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: name, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(body, content) {
		t.Errorf("read %d bytes back, %v", len(body), err)
	}
	list, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: name, Prefix: aws.String("backups/"), Delimiter: aws.String("/")})
	if err != nil || len(list.Contents) != 1 || *list.Contents[0].Key != *key {
		t.Errorf("list = %+v, %v", list, err)
	}
	_, err = client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: name, Key: aws.String("absent")})
	wantCode(t, err, "NoSuchKey")
	if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: name, Key: key}); err != nil {
		t.Error(err)
	}
}
