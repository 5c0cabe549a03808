package cmd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/awsauth"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

const agent = "slipway-backup"

func clusterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kubeconfig", Usage: "`FILE` to reach the cluster with, for people (default: as the landscape's backup role)"},
		&cli.StringFlag{Name: "context", Usage: "`CONTEXT` of the kubeconfig"},
		&cli.StringFlag{Name: "velero-namespace", Value: "velero", Usage: "`NAMESPACE` of Velero"},
		&cli.DurationFlag{Name: "stall", Value: 10 * time.Minute, Usage: "`TIME` without any progress, of objects or of the data of volumes, after which Velero is given up"},
	}
}

// access is what the verbs work with: the cluster, its Velero and the buckets.
type access struct {
	cluster *kube.Cluster
	velero  *velero.Client
	store   func(velero.Location) artifact.Store
}

// connect obtains the environment's backup role and reaches a cluster with it.
func connect(ctx context.Context, r *tool.Run, flags *cli.Context, s *session.Session, environment, clusterID string) (*access, error) {
	found, ok := s.Snapshot.Clusters[clusterID]
	if !ok {
		return nil, tool.Exitf(tool.Usage, "the landscape has no cluster %q; it has %s", clusterID, strings.Join(slices.Sorted(maps.Keys(s.Snapshot.Clusters)), ", "))
	}
	role, _ := config.RoleIn(s.Snapshot, environment, clusterID)
	if role == nil {
		return nil, tool.Exit(tool.Denied, fmt.Errorf("finding the backup role of environment %q in cluster %q: the landscape has none", environment, clusterID),
			"slipway-bootstrap makes the roles that the landscape asks for")
	}
	var cfg aws.Config
	err := r.Step(ctx, "assume role "+role.Name, func(ctx context.Context) error {
		var err error
		cfg, err = s.AWS(ctx, *role)
		return err
	})
	if err != nil {
		return nil, err
	}
	a := &access{}
	err = r.Step(ctx, "reach cluster "+clusterID, func(ctx context.Context) error {
		kc := kube.Config{Kubeconfig: flags.String("kubeconfig"), Context: flags.String("context"), UserAgent: agent}
		if kc.Kubeconfig == "" {
			regional := cfg.Copy()
			if found.Region != "" {
				regional.Region = found.Region
			}
			eks, err := awsauth.DescribeCluster(ctx, regional, found.EKSName)
			if err != nil {
				return err
			}
			kc = kube.Config{Endpoint: eks.Endpoint, CA: eks.CA, UserAgent: agent, Token: func(ctx context.Context) (string, time.Time, error) {
				return awsauth.ClusterToken(ctx, regional, found.EKSName)
			}}
		}
		var err error
		if a.cluster, err = kube.New(kc); err != nil {
			return tool.Exit(tool.Usage, err)
		}
		if _, err = a.cluster.Mapper(); kube.Denied(err) {
			return tool.Exit(tool.Denied, err, "the cluster does not know the role "+role.Name+": bootstrap makes its access entry")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	a.velero = &velero.Client{Cluster: a.cluster, Namespace: flags.String("velero-namespace"), Progress: r.Log.Printf, Stall: flags.Duration("stall")}
	a.store = func(l velero.Location) artifact.Store { return storeOf(r, cfg, l) }
	return a, nil
}

// storeOf returns the bucket of a storage location. A location with an address
// of its own is spoken to there, unless the run has an endpoint itself.
func storeOf(r *tool.Run, cfg aws.Config, l velero.Location) artifact.Store {
	pathStyle := awsauth.CustomEndpoint(r.Env)
	url := l.Spec.Config["publicUrl"]
	if url == "" {
		url = l.Spec.Config["s3Url"]
	}
	if url != "" && !pathStyle {
		cfg = cfg.Copy()
		cfg.BaseEndpoint, pathStyle = aws.String(url), true
	}
	return artifact.NewS3(cfg, l.Spec.ObjectStorage.Bucket, l.Spec.Config["region"], pathStyle)
}

// bucket returns the bucket that the flags name, for check. A job reads it as
// the environment's backup role, a person with their own credentials.
func bucket(ctx context.Context, r *tool.Run, flags *cli.Context) (artifact.Store, error) {
	region := flags.String("region")
	var cfg aws.Config
	if session.Landscape(flags, r.Env) == "" {
		var err error
		if cfg, err = awsauth.Config(ctx, awsauth.Source{Region: region}); err != nil {
			return nil, err
		}
		if cfg.Region == "" {
			return nil, tool.Exitf(tool.Usage, "missing --region: without a landscape nothing else says where the bucket is")
		}
	} else {
		s, err := open(ctx, r, flags)
		if err != nil {
			return nil, err
		}
		role, err := s.Snapshot.RoleFor(purpose, "", flags.String("environment"))
		if err != nil && s.CI.InJob {
			return nil, tool.Exit(tool.Usage, err, "--environment names the environment whose backup role reads the bucket")
		}
		err = r.Step(ctx, "obtain credentials for the bucket", func(ctx context.Context) error {
			cfg, err = s.AWS(ctx, role)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return artifact.NewS3(cfg, flags.String("bucket"), region, awsauth.CustomEndpoint(r.Env)), nil
}
