package awsauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// TestCheckTellsRefusalsFromFailures: what STS answers to the first call
// decides whether the job is refused, or worth another try.
func TestCheckTellsRefusalsFromFailures(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   int
	}{
		{403, "AccessDenied", tool.Denied},
		{400, "InvalidIdentityToken", tool.Denied},
		{403, "IDPRejectedClaim", tool.Denied},
		{400, "IDPCommunicationError", tool.Temporary},
		{400, "Throttling", tool.Temporary},
		{503, "ServiceUnavailable", tool.Temporary},
		{400, "ValidationError", tool.Failed},
	} {
		t.Run(c.code, func(t *testing.T) {
			sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/xml")
				w.WriteHeader(c.status)
				fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>m</Message></Error></ErrorResponse>", c.code)
			}))
			defer sts.Close()
			if code := tool.CodeOf(check(t, sts.URL)); code != c.want {
				t.Errorf("code %d, want %d", code, c.want)
			}
		})
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	if err := check(t, gone.URL); tool.CodeOf(err) != tool.Temporary {
		t.Errorf("without an answer: %v (code %d), want %d", err, tool.CodeOf(err), tool.Temporary)
	}
}

func check(t *testing.T, endpoint string) error {
	t.Helper()
	t.Setenv("AWS_ENDPOINT_URL", endpoint)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	cfg, err := Config(t.Context(), Source{Region: "eu-central-1", Token: "id-token", Role: "arn:aws:iam::111111111111:role/orders-dev", Session: "gl-1-2-3"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Check(t.Context(), cfg)
	return err
}

// TestCallsEnd: a service that takes a call and does not answer is not waited
// for without end.
func TestCallsEnd(t *testing.T) {
	for _, s := range []Source{{Region: "eu-central-1"}, {Region: "eu-central-1", Token: "id-token", Role: "arn:aws:iam::111111111111:role/orders-dev"}} {
		cfg, err := Config(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		client, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
		if !ok || client.GetTransport().ResponseHeaderTimeout != patience {
			t.Errorf("calls are made by %T without a limit of time", cfg.HTTPClient)
		}
	}
}
