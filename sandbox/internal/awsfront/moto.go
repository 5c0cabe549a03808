package awsfront

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// accountHeader tells moto which account a request is for. It outranks the
// access key, so the front alone decides, and a restart of moto, which forgets
// all keys, does not send a call into the wrong account.
const accountHeader = "X-Moto-Account-Id"

// moto makes the front's own calls, which no client sees counted.
type moto struct {
	url    string
	cfg    aws.Config
	client *http.Client
}

func newMoto(url, region string) *moto {
	return &moto{url: url, client: &http.Client{Timeout: 10 * time.Second}, cfg: aws.Config{
		Region:       region,
		BaseEndpoint: aws.String(url),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "SLIPWAYFRONT00000000", SecretAccessKey: "moto looks at the account header"}, nil
		}),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	}}
}

func (m *moto) in(account, region string) aws.Config {
	cfg := m.cfg.Copy()
	if region != "" {
		cfg.Region = region
	}
	cfg.APIOptions = append(cfg.APIOptions, smithyhttp.SetHeaderValue(accountHeader, account))
	return cfg
}

func (m *moto) iam(account string) *iam.Client { return iam.NewFromConfig(m.in(account, "")) }
func (m *moto) sts(account string) *sts.Client { return sts.NewFromConfig(m.in(account, "")) }
func (m *moto) kms(account, region string) *kms.Client {
	return kms.NewFromConfig(m.in(account, region))
}
func (m *moto) organizations(account string) *organizations.Client {
	return organizations.NewFromConfig(m.in(account, ""))
}
func (m *moto) s3(account string) *s3.Client {
	return s3.NewFromConfig(m.in(account, ""), func(o *s3.Options) { o.UsePathStyle = true })
}

// alive reports whether moto answers.
func (m *moto) alive(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+"/moto-api/data.json", nil)
	if err != nil {
		return fmt.Errorf("asking moto: %w", err)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking moto: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("asking moto: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking moto: it answers %s", resp.Status)
	}
	return nil
}

// hasCode reports whether err is an API error with one of the codes.
func hasCode(err error, codes ...string) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	for _, c := range codes {
		if api.ErrorCode() == c {
			return true
		}
	}
	return false
}

// internal is the answer when moto fails where it should not.
func internal(err error) *apiError {
	return refuse(http.StatusInternalServerError, "InternalFailure", "the sandbox's AWS failed: %v", err)
}

// accountNamed returns the ID of the organization's account of that name, ""
// where there is none (yet).
func (f *Front) accountNamed(ctx context.Context, name string) (string, error) {
	pages := organizations.NewListAccountsPaginator(f.moto.organizations(f.cfg.ManagementAccount), &organizations.ListAccountsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if hasCode(err, "AWSOrganizationsNotInUseException") {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("listing the accounts: %w", err)
		}
		for _, a := range page.Accounts {
			if aws.ToString(a.Name) == name {
				return aws.ToString(a.Id), nil
			}
		}
	}
	return "", nil
}
