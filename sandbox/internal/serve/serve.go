// Package serve is the servers that the sandbox's own program is: the image
// registry, the AWS front, GitLab, the kubelet of pods that fail on demand and
// the real nodes, each as a process of its own.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/slipway/slipway/pkg/gitlabapi/gitlabapitest"

	"gitlab.com/slipway/slipway/sandbox/internal/awsfront"
	"gitlab.com/slipway/slipway/sandbox/internal/netpolicy"
	"gitlab.com/slipway/slipway/sandbox/internal/node"
)

// Registry is the configuration of the image registry.
type Registry struct {
	Listen, Dir string
}

// AWS is the configuration of the AWS front.
type AWS struct {
	Listen string
	Behind string // which process of moto it stands before

	// The rest is awsfront.Config.
	MotoURL, Region, ManagementAccount        string
	AdminAccessKey, AdminSecretKey, StateFile string
	Issuers                                   map[string]string
	Clusters                                  []awsfront.Cluster
	Gateway                                   awsfront.Gateway
	Settings                                  awsfront.Settings
}

// GitLab is the configuration of the GitLab server.
type GitLab struct {
	Listen string
	Config gitlabapitest.Config
}

// Run serves the part until ctx ends. It writes what it has to say to w.
func Run(ctx context.Context, part, config string, w io.Writer) error {
	logger := log.New(w, "", log.LstdFlags|log.LUTC)
	switch part {
	case "registry":
		return runRegistry(ctx, config, logger)
	case "aws":
		return runAWS(ctx, config, logger)
	case "gitlab":
		return runGitLab(ctx, config, logger)
	case "failures":
		return runFailures(ctx, config, logger)
	case "node":
		return runNode(ctx, config, logger)
	case "node-init":
		return runNodeInit(ctx, config, logger)
	case "node-policy":
		return runNodePolicy(ctx, config, logger)
	default:
		return fmt.Errorf("serving %q: the parts are registry, aws, gitlab, failures, node, node-init and node-policy", part)
	}
}

func read(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("reading the configuration %q: %w", path, err)
	}
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return l, nil
}

func runRegistry(ctx context.Context, config string, logger *log.Logger) error {
	var cfg Registry
	if err := read(config, &cfg); err != nil {
		return err
	}
	handler, err := newImages(ctx, cfg.Dir, registry.Logger(logger))
	if err != nil {
		return err
	}
	l, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	return serveHTTP(ctx, l, handler, logger)
}

func runAWS(ctx context.Context, config string, logger *log.Logger) error {
	var cfg AWS
	if err := read(config, &cfg); err != nil {
		return err
	}
	front, err := awsfront.New(awsfront.Config{
		MotoURL: cfg.MotoURL, Region: cfg.Region, ManagementAccount: cfg.ManagementAccount, Issuers: cfg.Issuers, Clusters: cfg.Clusters, Gateway: cfg.Gateway,
		AdminAccessKey: cfg.AdminAccessKey, AdminSecretKey: cfg.AdminSecretKey, StateFile: cfg.StateFile, Settings: cfg.Settings, Log: logger,
	})
	if err != nil {
		return err
	}
	seeded, err := front.Seed(ctx)
	if err != nil {
		return fmt.Errorf("seeding AWS: %w", err)
	}
	logger.Printf("administrator %s, fresh %t", seeded.ARN, seeded.Fresh)
	l, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	return awsfront.Serve(ctx, l, front)
}

func runGitLab(ctx context.Context, config string, logger *log.Logger) error {
	var cfg GitLab
	if err := read(config, &cfg); err != nil {
		return err
	}
	l, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	server, err := gitlabapitest.New(cfg.Config)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer server.Close()
	return serveHTTP(ctx, l, server, logger)
}

func runNode(ctx context.Context, config string, logger *log.Logger) error {
	var cfg node.Config
	if err := read(config, &cfg); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the sandbox's own program: %w", err)
	}
	return node.Run(ctx, cfg, []string{self, "serve", "--config", config, "node-init"}, logger)
}

func runNodeInit(ctx context.Context, config string, logger *log.Logger) error {
	var cfg node.Config
	if err := read(config, &cfg); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the sandbox's own program: %w", err)
	}
	cfg.Enforcer = []string{self, "serve", "--config", config, "node-policy"}
	return node.Init(ctx, cfg, logger)
}

func runNodePolicy(ctx context.Context, config string, logger *log.Logger) error {
	var cfg node.Config
	if err := read(config, &cfg); err != nil {
		return err
	}
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.PolicyConfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return netpolicy.Run(ctx, rest, netpolicy.Options{Node: cfg.Name, Socket: node.EnforcerSocket, Log: logger})
}

func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, logger *log.Logger) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: logger}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
		return server.Close() // streams of events never end by themselves
	}
}
