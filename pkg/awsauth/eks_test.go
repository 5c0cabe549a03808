package awsauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// verify holds a token to the rules of aws-iam-authenticator's verifier, in
// its order (pkg/token/token.go of v0.6.13), up to the call to STS, which the
// sandbox makes. The module itself is not linked: it brings the AWS SDK v1.
func verify(token, host string, now time.Time) error {
	if len(token) > 4<<10 {
		return errors.New("token is too large")
	}
	encoded, ok := strings.CutPrefix(token, "k8s-aws-v1.")
	if !ok {
		return errors.New("missing prefix")
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	u, err := url.Parse(string(raw))
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Host != host || u.Path != "/" {
		return fmt.Errorf("unexpected address %s://%s%s", u.Scheme, u.Host, u.Path)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return err
	}
	allowed := []string{"action", "version", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires",
		"x-amz-security-token", "x-amz-signature", "x-amz-signedheaders"}
	lower := map[string]string{}
	for key, values := range query {
		name := strings.ToLower(key)
		if _, twice := lower[name]; twice || len(values) != 1 || !slices.Contains(allowed, name) {
			return fmt.Errorf("query parameter %q", key)
		}
		lower[name] = values[0]
	}
	if lower["action"] != "GetCallerIdentity" {
		return errors.New("unexpected action")
	}
	if !slices.Contains(strings.Split(strings.ToLower(lower["x-amz-signedheaders"]), ";"), "x-k8s-aws-id") {
		return errors.New("x-k8s-aws-id is not signed")
	}
	if n, err := strconv.Atoi(lower["x-amz-expires"]); err != nil || n < 0 || n > 900 {
		return errors.New("invalid X-Amz-Expires")
	}
	made, err := time.Parse("20060102T150405Z", lower["x-amz-date"])
	if err != nil {
		return err
	}
	if now.After(made.Add(15 * time.Minute)) {
		return errors.New("expired")
	}
	return nil
}

func TestClusterToken(t *testing.T) {
	for region, host := range map[string]string{"eu-central-1": "sts.eu-central-1.amazonaws.com", "cn-north-1": "sts.cn-north-1.amazonaws.com.cn"} {
		cfg := aws.Config{Region: region, Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE000000000", "secret", strings.Repeat("session", 100))}
		before := time.Now()
		token, renew, err := ClusterToken(t.Context(), cfg, "nsflow-nonprod")
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(token, host, time.Now()); err != nil {
			t.Errorf("%s: %v", region, err)
		}
		// It must still be good when it is renewed, with a minute for clocks
		// that differ.
		if err := verify(token, host, renew.Add(time.Minute-time.Second)); err != nil {
			t.Errorf("%s: at the moment of renewal: %v", region, err)
		}
		if renew.Before(before.Add(13 * time.Minute)) {
			t.Errorf("%s: renewed after %s already", region, renew.Sub(before))
		}
		tampered(t, token, host)
	}
}

// tampered breaks one rule at a time: a check that refuses nothing proves
// nothing of the token above.
func tampered(t *testing.T, token, host string) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "k8s-aws-v1."))
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	encode := func(address string) string {
		return "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(address))
	}
	replace := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("the address has no %q: %s", from, good)
		}
		return encode(strings.Replace(good, from, to, 1))
	}
	for name, bad := range map[string]string{
		"no prefix":                strings.TrimPrefix(token, "k8s-aws-v1."),
		"padded":                   token + "=",
		"too large":                token + strings.Repeat("A", 4<<10),
		"plain http":               replace("https://", "http://"),
		"another host":             replace(host, "sts.example.com"),
		"a path":                   replace(host+"/", host+"/x"),
		"another action":           replace("GetCallerIdentity", "AssumeRole"),
		"a foreign parameter":      encode(good + "&RoleArn=x"),
		"a parameter twice":        encode(good + "&action=GetCallerIdentity"),
		"header not signed":        replace("x-k8s-aws-id", "x-other"),
		"no expiry":                replace("X-Amz-Expires=60", "X-Amz-Expires="),
		"expiry too long":          replace("X-Amz-Expires=60", "X-Amz-Expires=901"),
		"a date in another format": replace("X-Amz-Date=20", "X-Amz-Date=x"),
	} {
		if verify(bad, host, time.Now()) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if verify(token, host, time.Now().Add(15*time.Minute+time.Second)) == nil {
		t.Error("accepted after 15 minutes")
	}
}

func TestClusterTokenWithoutCredentials(t *testing.T) {
	cfg := aws.Config{Region: "eu-central-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("no session") })}
	if _, _, err := ClusterToken(t.Context(), cfg, "nsflow-nonprod"); err == nil || !strings.Contains(err.Error(), `"nsflow-nonprod"`) {
		t.Errorf("got %v, want an error that names the cluster", err)
	}
}

// TestClusterTokenEndsWithItsCredentials: the cluster asks STS, which refuses
// what ended credentials have signed.
func TestClusterTokenEndsWithItsCredentials(t *testing.T) {
	ends := time.Now().Add(5 * time.Minute)
	cfg := aws.Config{Region: "eu-central-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIDEXAMPLE000000000", SecretAccessKey: "secret", SessionToken: "session", CanExpire: true, Expires: ends}, nil
	})}
	if _, renew, err := ClusterToken(t.Context(), cfg, "nsflow-nonprod"); err != nil || !renew.Equal(ends) {
		t.Errorf("renewed at %s (%v), want %s", renew, err, ends)
	}
}
