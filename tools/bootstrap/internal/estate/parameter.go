package estate

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"gitlab.com/slipway/slipway/tools/bootstrap/internal/policy"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// parameter is a value that programs in the account read, none of them secret.
type parameter struct {
	c       *Cloud
	account string
	key     string
	value   func() string
	exists  bool
}

// Account returns the parameter's account.
func (r *parameter) Account() string { return r.account }

// Name returns the resource's name.
func (r *parameter) Name() string { return "parameter " + r.path() }

func (r *parameter) path() string {
	return policy.ParameterPath(r.c.facts.Source.Landscape.Name) + r.key
}

// Observe reads the parameter.
func (r *parameter) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	cfg, ok := r.c.config(r.account)
	if !ok {
		return notYet()
	}
	out, err := ssm.NewFromConfig(cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(r.path())})
	r.exists = err == nil
	if codeIs(err, "ParameterNotFound") {
		return resource.Absent(r.value()), nil
	}
	if err != nil {
		return o, failed("GetParameter", err)
	}
	got := aws.ToString(out.Parameter.Value)
	o.Differ(got != r.value(), fmt.Sprintf("%q instead of %q", got, r.value()))
	return o, nil
}

// Apply writes the parameter.
func (r *parameter) Apply(ctx context.Context) error {
	cfg, ok := r.c.config(r.account)
	if !ok {
		return errNoAccount
	}
	_, err := ssm.NewFromConfig(cfg).PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String(r.path()), Value: aws.String(r.value()),
		Type: types.ParameterTypeString, Overwrite: aws.Bool(r.exists)})
	return failed("PutParameter", err)
}
