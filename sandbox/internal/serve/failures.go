package serve

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"sync/atomic"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/slipway/slipway/sandbox/internal/failures"
)

// Failures is the configuration of the kubelet of pods that fail on demand.
type Failures struct {
	Listen     string // where it says whether it is ready
	Kubeconfig string
}

func runFailures(ctx context.Context, config string, logger *log.Logger) error {
	var cfg Failures
	if err := read(config, &cfg); err != nil {
		return err
	}
	rc, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	rc.QPS = -1
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	l, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ready atomic.Bool
	served := make(chan error, 1)
	go func() {
		served <- serveHTTP(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !ready.Load() {
				http.Error(w, "the pods are not listed yet", http.StatusServiceUnavailable)
			}
		}), logger)
		cancel() // without its port it is of no use
	}()
	err = failures.New(client, logger).Run(ctx, func() { ready.Store(true) })
	cancel()
	return errors.Join(err, <-served)
}
