package awsauth

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Cluster is how to reach an EKS cluster.
type Cluster struct {
	Name, Endpoint string
	CA             []byte // PEM
}

// tokenLife is shorter than the 15 minutes the cluster accepts a token for.
const tokenLife = 14 * time.Minute

// DescribeCluster returns the address of an EKS cluster and its authority.
func DescribeCluster(ctx context.Context, cfg aws.Config, name string) (Cluster, error) {
	out, err := eks.NewFromConfig(cfg).DescribeCluster(ctx, &eks.DescribeClusterInput{Name: &name})
	if err != nil {
		return Cluster{}, fmt.Errorf("describing EKS cluster %q: %w", name, Denied(err))
	}
	if out.Cluster == nil || out.Cluster.CertificateAuthority == nil {
		return Cluster{}, fmt.Errorf("describing EKS cluster %q: it has no endpoint yet", name)
	}
	ca, err := base64.StdEncoding.DecodeString(aws.ToString(out.Cluster.CertificateAuthority.Data))
	if err != nil {
		return Cluster{}, fmt.Errorf("decoding the authority of EKS cluster %q: %w", name, err)
	}
	return Cluster{Name: name, Endpoint: aws.ToString(out.Cluster.Endpoint), CA: ca}, nil
}

// ClusterToken returns a bearer token for an EKS cluster and when it must be
// renewed: a presigned GetCallerIdentity that names the cluster. It ends with
// the credentials that signed it, where that is sooner.
// Source: the token format of aws-iam-authenticator.
func ClusterToken(ctx context.Context, cfg aws.Config, cluster string) (string, time.Time, error) {
	signer, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("signing a token for EKS cluster %q: %w", cluster, Denied(err))
	}
	cfg = cfg.Copy()
	cfg.Credentials = credentials.StaticCredentialsProvider{Value: signer}
	presigner := sts.NewPresignClient(sts.NewFromConfig(cfg), sts.WithPresignClientFromClientOptions(
		sts.WithAPIOptions(smithyhttp.SetHeaderValue("x-k8s-aws-id", cluster), smithyhttp.SetHeaderValue("X-Amz-Expires", "60"))))
	made := time.Now()
	req, err := presigner.PresignGetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("signing a token for EKS cluster %q: %w", cluster, Denied(err))
	}
	renew := made.Add(tokenLife)
	if signer.CanExpire && signer.Expires.Before(renew) {
		renew = signer.Expires
	}
	return "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(req.URL)), renew, nil
}
