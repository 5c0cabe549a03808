package cmd

import (
	"context"
	"crypto/ecdsa"
	"errors"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/seal"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// verifier returns what verifies envelopes with the landscape's bundle key,
// which it fetches once, as the role of the target environment.
func (j job) verifier(target string) func(context.Context, []byte) ([]byte, error) {
	var key *ecdsa.PublicKey
	return func(ctx context.Context, envelope []byte) ([]byte, error) {
		if key == nil {
			var err error
			if key, err = j.bundleKey(ctx, target); err != nil {
				return nil, err
			}
		}
		return seal.Verify(envelope, key, seal.BundleType)
	}
}

func (j job) bundleKey(ctx context.Context, target string) (*ecdsa.PublicKey, error) {
	arn := j.session.Snapshot.BundleKey
	if arn == "" {
		return nil, tool.Exit(tool.Denied, errors.New("the landscape has no bundle key, so that no signature can be verified"), "slipway-bootstrap apply makes it")
	}
	role, err := j.session.Snapshot.RoleFor(landscape.PurposeEnvironment, "", target)
	if err != nil {
		return nil, tool.Exit(tool.Denied, err, "slipway-bootstrap makes it for every gated environment")
	}
	cfg, err := j.session.AWS(ctx, role)
	if err != nil {
		return nil, err
	}
	key, err := seal.NewKey(cfg, arn)
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey(ctx)
	return public, tool.Hint(err, "the key's policy must let role "+role.Name+" read its public key")
}
