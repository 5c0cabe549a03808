package refs_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"gitlab.com/slipway/slipway/internal/mototest"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/refs"
)

// TestAWS resolves references against a real Parameter Store's and Secrets
// Manager's interfaces: encrypted parameters, versions, stages, regions.
func TestAWS(t *testing.T) {
	cfg := aws.Config{Region: "eu-central-1", BaseEndpoint: aws.String(mototest.Start(t)), Credentials: credentials.NewStaticCredentialsProvider("test", "testtest", "")}
	west := cfg.Copy()
	west.Region = "eu-west-1"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(cfg aws.Config, name, value string) {
		t.Helper()
		_, err := ssm.NewFromConfig(cfg).PutParameter(t.Context(), &ssm.PutParameterInput{Name: &name, Value: &value, Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true)})
		must(err)
	}
	put(cfg, "/orders/smtp", "first")
	put(cfg, "/orders/smtp", "second")
	put(west, "/orders/smtp", "western")
	secrets := secretsmanager.NewFromConfig(cfg)
	_, err := secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("orders/db"), SecretString: aws.String(`{"user": "app", "password": "old"}`)})
	must(err)
	_, err = secrets.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String("orders/db"), SecretString: aws.String(`{"user": "app", "password": "new"}`)})
	must(err)
	_, err = secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("orders/raw"), SecretBinary: []byte("bytes")})
	must(err)

	resolver := refs.NewResolver(refs.AWS{Config: cfg})
	resolve := func(text string) (string, error) {
		values := map[string]any{"a": text}
		found, err := refs.Find(values, func([]string) string { return "" })
		must(err)
		_, err = resolver.Resolve(t.Context(), found)
		return values["a"].(string), err
	}
	for text, want := range map[string]string{
		"ref+awsssm://orders/smtp":                                              "second",
		"ref+awsssm://orders/smtp?version=1":                                    "first",
		"ref+awsssm://orders/smtp?region=eu-west-1":                             "western",
		"ref+awsssm://orders#/smtp":                                             "second",
		"ref+awssecretsmanager://orders/db#/password":                           "new",
		"ref+awssecretsmanager://orders/db?version_stage=AWSPREVIOUS#/password": "old",
		"ref+awssecretsmanager://orders/raw":                                    "bytes",
		"postgres://ref+awssecretsmanager://orders/db#/user+@db/orders?password=ref+awsssm://orders/smtp": "postgres://app@db/orders?password=second",
	} {
		if got, err := resolve(text); err != nil || got != want {
			t.Errorf("%s became %q, want %q; error %v", text, got, want, err)
		}
	}
	for text, want := range map[string]string{
		"ref+awsssm://orders/none":                                 `parameter "/orders/none": it does not exist in this account and region`,
		"ref+awssecretsmanager://orders/none":                      `secret "orders/none": it does not exist in this account and region`,
		"ref+awssecretsmanager://orders/db?version_stage=AWSNEVER": `secret "orders/db"`,
	} {
		if got, err := resolve(text); err == nil || tool.CodeOf(err) != tool.Failed || !strings.Contains(err.Error(), want) || got != text {
			t.Errorf("%s became %q; error %v", text, got, err)
		}
	}
}
