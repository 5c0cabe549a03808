package refs

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// AWS is the store of an account, with a role's credentials.
type AWS struct{ Config aws.Config }

// Parameter returns a parameter, decrypted.
func (a AWS) Parameter(ctx context.Context, region, name, version string) (string, error) {
	if version != "" {
		name += ":" + version
	}
	client := ssm.NewFromConfig(a.Config, func(o *ssm.Options) { o.Region = or(region, o.Region) })
	out, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	if err != nil {
		return "", refused(err)
	}
	if out.Parameter == nil || out.Parameter.Value == nil {
		return "", errors.New("it has no value")
	}
	return *out.Parameter.Value, nil
}

// Secret returns a secret's text, or its bytes as text.
func (a AWS) Secret(ctx context.Context, region, name, version, stage string) (string, error) {
	in := &secretsmanager.GetSecretValueInput{SecretId: &name}
	if version != "" {
		in.VersionId = &version
	}
	if stage != "" {
		in.VersionStage = &stage
	}
	client := secretsmanager.NewFromConfig(a.Config, func(o *secretsmanager.Options) { o.Region = or(region, o.Region) })
	out, err := client.GetSecretValue(ctx, in)
	switch {
	case err != nil:
		return "", refused(err)
	case out.SecretString != nil:
		return *out.SecretString, nil
	case out.SecretBinary != nil:
		return string(out.SecretBinary), nil
	}
	return "", errors.New("it has no value")
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// refused gives a refusal of AWS its exit code.
func refused(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return err
	}
	if awsauth.Refusal(api.ErrorCode()) {
		return tool.Exit(tool.Denied, err, "a role reads the secrets of its own service, <service>/…, and the platform's role platform/…; reviews read none")
	}
	switch api.ErrorCode() {
	case "ParameterNotFound", "ParameterVersionNotFound", "ResourceNotFoundException":
		return errors.New("it does not exist in this account and region")
	case "ThrottlingException", "InternalServerError", "InternalServiceError":
		return tool.Exit(tool.Temporary, err)
	}
	return err
}
