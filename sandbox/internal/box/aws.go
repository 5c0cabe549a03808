package box

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"gitlab.com/slipway/slipway/sandbox/internal/awsfront"
	"gitlab.com/slipway/slipway/sandbox/internal/serve"
)

const managementAccount = "111111111111"

// awsParts are moto and the front before it.
func awsParts() []Part {
	return []Part{
		{
			Name: "moto", Ports: []string{"moto"},
			Command: func(b *Box) (Spec, error) { return b.moto() },
			Ready: func(ctx context.Context, b *Box) error {
				return answers(ctx, "http://"+b.addr("moto")+"/moto-api/data.json")
			},
		},
		{
			Name: "aws", Needs: []string{"moto"}, Ports: []string{"aws"},
			Command: func(b *Box) (Spec, error) { return b.awsFront() },
			Ready: func(ctx context.Context, b *Box) error {
				return answers(ctx, "http://"+b.addr("aws")+"/_slipway/health")
			},
		},
	}
}

func (b *Box) moto() (Spec, error) {
	home := b.path("moto")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return Spec{}, err
	}
	return Spec{
		Argv: []string{filepath.Join(b.programs["moto"], "bin", "python3"), "-m", "moto.server", "-H", "127.0.0.1", "-p", b.port("moto")},
		Env:  []string{"HOME=" + home, "PYTHONUNBUFFERED=1"},
	}, nil
}

// awsFront writes the front's configuration. It names the moto process that
// runs now: moto keeps nothing, so that a new one needs a front that seeds it.
func (b *Box) awsFront() (Spec, error) {
	moto, _ := b.journal.Entry("moto")
	cfg := serve.AWS{
		Listen: b.addr("aws"), Behind: fmt.Sprintf("moto process %d started at %d", moto.PID, moto.Start),
		MotoURL: "http://" + b.addr("moto"), Region: region, ManagementAccount: managementAccount,
		Issuers:        map[string]string{gitlabURL: "http://" + b.addr("gitlab") + "/oauth/discovery/keys"},
		Gateway:        b.awsGateway(),
		AdminAccessKey: b.secrets.AWSAccessKey, AdminSecretKey: b.secrets.AWSSecretKey, StateFile: b.path("aws", "state.json"),
	}
	for _, c := range clusters() {
		cfg.Clusters = append(cfg.Clusters, awsfront.Cluster{
			Name: eksName(c), AccountName: c, Region: region, Version: "1.37", Endpoint: b.serverURL(c), CAFile: b.clusterPath(c, "pki", "ca.crt"),
		})
	}
	if err := os.MkdirAll(b.path("aws"), 0o700); err != nil {
		return Spec{}, err
	}
	return b.serve("aws", cfg)
}

// awsGateway is where the front finds the backup bucket. It belongs to the
// management account, the one that is there before a landscape is.
func (b *Box) awsGateway() awsfront.Gateway {
	return awsfront.Gateway{
		Endpoint: "http://" + b.addr("s3"), AccessKey: b.secrets.S3AccessKey, SecretKey: b.secrets.S3SecretKey, Region: region,
		BucketPrefix: backupBucket, Account: managementAccount, Policy: backupPolicy,
	}
}

// serve writes the part's configuration, which may hold secrets, and
// names the file. A new build of this program starts the part anew.
func (b *Box) serve(part string, cfg any) (Spec, error) {
	path := b.path("config", part+".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Spec{}, err
	}
	if err := writeJSON(path, cfg); err != nil {
		return Spec{}, err
	}
	return Spec{Argv: []string{b.Self, "serve", "--config", path, part}, Inputs: []string{path, b.Self}}, nil
}
