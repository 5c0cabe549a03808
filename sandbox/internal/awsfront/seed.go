package awsfront

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// adminUser is the IAM user in the management account that stands for the
// person who bootstraps the organization.
const adminUser = "slipway-admin"

// adminPolicy is AWS's AdministratorAccess, word for word; moto has none of
// AWS's own policies.
const (
	adminPolicyName = "AdministratorAccess"
	adminPolicy     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
)

// Seeded is what Seed found or made.
type Seeded struct {
	AccessKey, SecretKey string
	ARN                  string
	// Fresh says that moto knew nothing: it was started since the last Seed.
	// All that an earlier bootstrap made is gone.
	Fresh bool
}

// Seed makes the administrator's user in the management account and registers
// the access key. It is idempotent. moto can only hand out random keys, so the
// key is the front's own: the front tells moto the account of each call, and
// the key stays the same when moto, which keeps nothing, is started anew.
func (f *Front) Seed(ctx context.Context) (Seeded, error) {
	if err := f.moto.alive(ctx); err != nil {
		return Seeded{}, err
	}
	client := f.moto.iam(f.cfg.ManagementAccount)
	_, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String(adminUser)})
	if err != nil && !hasCode(err, "EntityAlreadyExists") {
		return Seeded{}, fmt.Errorf("making the IAM user %q: %w", adminUser, err)
	}
	if _, err := client.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String(adminUser), PolicyName: aws.String(adminPolicyName),
		PolicyDocument: aws.String(adminPolicy)}); err != nil {
		return Seeded{}, fmt.Errorf("giving the IAM user %q its rights: %w", adminUser, err)
	}
	admin, err := f.userIdentity(ctx, f.cfg.ManagementAccount, adminUser)
	if err != nil {
		return Seeded{}, err
	}
	admin.Permanent = true
	out := Seeded{AccessKey: f.cfg.AdminAccessKey, ARN: admin.ARN}
	admin.Secret = f.cfg.AdminSecretKey
	refused := f.store.change(func(d *data) *apiError {
		for key, id := range d.Keys {
			if !id.Permanent {
				continue
			}
			if f.cfg.AdminAccessKey == "" {
				out.AccessKey, admin.Secret = key, id.Secret
			}
			delete(d.Keys, key)
		}
		if out.AccessKey == "" {
			out.AccessKey, admin.Secret = "AKIA"+rand.Text()[:16], rand.Text()+rand.Text()[:14] // capitals and digits
		}
		if out.Fresh = d.Moto != admin.UserID; out.Fresh {
			*d = data{Moto: admin.UserID}
			d.fill()
		}
		d.Keys[out.AccessKey] = admin
		return nil
	})
	out.SecretKey = admin.Secret
	if refused != nil {
		return Seeded{}, refused
	}
	return out, nil
}

// userIdentity reads the user as IAM knows it.
func (f *Front) userIdentity(ctx context.Context, account, name string) (identity, error) {
	out, err := f.moto.iam(account).GetUser(ctx, &iam.GetUserInput{UserName: &name})
	if err != nil {
		return identity{}, fmt.Errorf("reading the IAM user %q: %w", name, err)
	}
	return identity{Account: account, ARN: aws.ToString(out.User.Arn), UserID: aws.ToString(out.User.UserId)}, nil
}
