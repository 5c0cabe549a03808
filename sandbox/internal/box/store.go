package box

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"gitlab.com/slipway/slipway/sandbox/internal/serve"
)

const (
	region       = "eu-central-1"
	backupBucket = "nsflow-velero"
)

// backupPolicy is the bucket's, as the stack that makes it gives it in
// production: the backup roles of the organization's accounts may read. It
// names no account and no organization: there are none yet when the front is
// configured. Velero has the gateway's own keys, and needs no statement.
//
//go:embed backuppolicy.json
var backupPolicy string

// storeParts are the S3 gateway that holds backups and the image registry.
func storeParts() []Part {
	return []Part{
		{
			Name: "s3", Ports: []string{"s3"},
			Command: func(b *Box) (Spec, error) { return b.gateway() },
			Ready:   func(ctx context.Context, b *Box) error { return b.makeBucket(ctx) },
		},
		{
			Name: "registry", Ports: []string{"registry"},
			Command: func(b *Box) (Spec, error) { return b.registry() },
			Ready:   func(ctx context.Context, b *Box) error { return answers(ctx, "http://"+b.addr("registry")+"/v2/") },
		},
	}
}

// gateway serves a folder as buckets. It keeps metadata in extended
// attributes, or in a folder beside where the file system has none.
func (b *Box) gateway() (Spec, error) {
	data := b.path("s3", "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return Spec{}, err
	}
	argv := []string{b.program("versitygw"), "--port", b.addr("s3"), "--region", region, "--health", "/health", "posix"}
	attributes, err := hasAttributes(data)
	if err != nil {
		return Spec{}, err
	}
	if !attributes {
		beside := b.path("s3", "metadata")
		if err := os.MkdirAll(beside, 0o700); err != nil {
			return Spec{}, err
		}
		argv = append(argv, "--sidecar", beside)
	}
	return Spec{Argv: append(argv, data), Env: []string{"ROOT_ACCESS_KEY=" + b.secrets.S3AccessKey, "ROOT_SECRET_KEY=" + b.secrets.S3SecretKey}}, nil
}

func hasAttributes(dir string) (bool, error) {
	f, err := os.CreateTemp(filepath.Dir(dir), ".attribute-")
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	switch err := syscall.Setxattr(f.Name(), "user.sandbox", []byte("1"), 0); {
	case err == nil:
		return true, nil
	case errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.EPERM):
		return false, nil
	default:
		return false, fmt.Errorf("trying extended attributes in %q: %w", dir, err)
	}
}

func (b *Box) makeBucket(ctx context.Context) error {
	if err := answers(ctx, "http://"+b.addr("s3")+"/health"); err != nil {
		return err
	}
	client := s3.New(s3.Options{
		Region: region, BaseEndpoint: aws.String("http://" + b.addr("s3")), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(b.secrets.S3AccessKey, b.secrets.S3SecretKey, ""),
	})
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket:                    aws.String(backupBucket),
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(region)},
	})
	var there *s3types.BucketAlreadyOwnedByYou
	switch {
	case errors.As(err, &there):
		return nil
	case err != nil:
		return fmt.Errorf("making the bucket %q: %w", backupBucket, err)
	}
	b.change("made the bucket %s", backupBucket)
	return nil
}

func (b *Box) registry() (Spec, error) {
	dir := b.path("registry")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Spec{}, err
	}
	return b.serve("registry", serve.Registry{Listen: b.addr("registry"), Dir: dir})
}
