package helmrelease

import (
	"context"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	helmkube "helm.sh/helm/v3/pkg/kube"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// maxHistory is how many revisions are kept, as the helm command line keeps.
const maxHistory = 10

// Client works on the releases of one cluster. It is safe for concurrent use
// on different releases.
type Client struct {
	cluster *kube.Cluster
	watcher *rollout.Watcher
	warn    func(format string, args ...any)
}

// New returns a client. warn gets what Helm would swallow.
func New(cluster *kube.Cluster, watcher *rollout.Watcher, warn func(string, ...any)) *Client {
	return &Client{cluster: cluster, watcher: watcher, warn: warn}
}

// Wait says how long a change may take to become ready.
type Wait struct {
	Timeout  time.Duration
	Stable   time.Duration
	Progress func(line string) // what it is at: the next line takes its place
	Tell     func(line string) // what hooks write: each line counts; nil follows no log
}

// Outcome is how a change ended.
type Outcome struct {
	Revision int
	Ready    time.Duration
	Objects  []rollout.State
	Findings []rollout.Finding
	Failure  *rollout.Failure // set where the workloads are what failed
	Changed  bool             // the cluster was changed, or may have been
	// Waited is all that the wait saw, with the evidence where it ended badly.
	Waited rollout.Result
}

// helm is one action: Helm's configuration is not safe for concurrent use.
func (c *Client) helm(ctx context.Context, namespace, name string, w Wait) (*action.Configuration, *client, error) {
	getter := c.cluster.RESTClientGetter(ctx)
	cfg := &action.Configuration{}
	log := func(format string, args ...any) {
		// What Helm logs and does not return: writes that failed.
		if low := strings.ToLower(format); strings.HasPrefix(low, "failed to") || strings.HasPrefix(low, "warning: failed to") {
			c.warn("helm: "+format, args...)
		}
	}
	if err := cfg.Init(getter, namespace, "secret", log); err != nil {
		return nil, nil, fmt.Errorf("preparing Helm: %w", err)
	}
	kc := helmkube.New(getter)
	kc.Namespace, kc.Log = namespace, log
	own := &client{Client: kc, ctx: ctx, cluster: c.cluster, watcher: c.watcher, engine: c, release: name, timeout: w.Timeout, made: map[types.UID]bool{}, tell: w.Tell,
		options: rollout.Options{Stable: w.Stable, Progress: w.Progress, Logs: rollout.Logs(c.cluster.Clientset())}}
	cfg.KubeClient = own
	return cfg, own, nil
}

func (c *client) outcome() Outcome {
	return Outcome{Ready: c.result.Took, Objects: c.result.Objects, Findings: c.result.Findings, Failure: c.failure, Changed: c.mutated, Waited: c.result}
}

// applyError puts the words right: what stopped us, and whose fault it is.
func applyError(ctx context.Context, s Spec, o Outcome, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("releasing %q: %w", s.Name, context.Cause(ctx))
	}
	if o.Failure != nil {
		return o.Failure
	}
	err = fmt.Errorf("releasing %q: %w", s.Name, err)
	if o.Changed {
		return err
	}
	if text := err.Error(); strings.Contains(text, "values don't meet the specifications") || strings.Contains(text, "execution error at") || strings.Contains(text, "parse error at") {
		return tool.Exit(tool.Usage, err, "correct the values or the chart; the cluster was not touched")
	}
	return denied(err)
}

// denied gives an error of the cluster's authorisation its exit code.
func denied(err error) error {
	if kube.Denied(err) || err != nil && strings.Contains(err.Error(), " is forbidden: User ") {
		return tool.Exit(tool.Denied, err, "the role's group has no right to this in the cluster; the tenancy release gives it")
	}
	return err
}
