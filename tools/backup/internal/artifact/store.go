// Package artifact reads a backup out of its bucket, to the last byte, without
// Velero and without the cluster it came from.
package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Store is where artifacts lie.
type Store interface {
	// List returns the keys below a prefix with their sizes.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Open returns the content of a key. A missing one is ErrNotFound.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
}

// Object is a key of a store.
type Object struct {
	Key  string
	Size int64
}

// ErrNotFound says that there is no such key.
var ErrNotFound = errors.New("there is no such object in the bucket")

// S3 is a bucket.
type S3 struct {
	client *s3.Client
	bucket string
}

// NewS3 returns the store of a bucket. pathStyle is for endpoints that are not
// AWS's own.
func NewS3(cfg aws.Config, bucket, region string, pathStyle bool) *S3 {
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = pathStyle
		if region != "" {
			o.Region = region
		}
	})
	return &S3{client: client, bucket: bucket}
}

// List returns the keys below a prefix.
func (s *S3) List(ctx context.Context, prefix string) ([]Object, error) {
	var out []Object
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		var missing *types.NoSuchBucket
		if errors.As(err, &missing) {
			return nil, tool.Exitf(tool.Usage, "listing %q: there is no bucket %q", prefix, s.bucket)
		}
		if err != nil {
			return nil, awsauth.Denied(fmt.Errorf("listing %q in bucket %q: %w", prefix, s.bucket, err))
		}
		for _, o := range page.Contents {
			out = append(out, Object{Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size)})
		}
	}
	return out, nil
}

// Open returns the content of a key.
func (s *S3) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key})
	var missing *types.NoSuchKey
	switch {
	case errors.As(err, &missing):
		return nil, fmt.Errorf("fetching %q from bucket %q: %w", key, s.bucket, ErrNotFound)
	case err != nil:
		return nil, awsauth.Denied(fmt.Errorf("fetching %q from bucket %q: %w", key, s.bucket, err))
	}
	return out.Body, nil
}
