package helmrelease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	helmkube "helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"

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
	Progress func(string)
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
func (c *Client) helm(ctx context.Context, namespace string, w Wait) (*action.Configuration, *client, error) {
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
	own := &client{Client: kc, ctx: ctx, cluster: c.cluster, watcher: c.watcher,
		options: rollout.Options{Stable: w.Stable, Progress: w.Progress, Logs: rollout.Logs(c.cluster.Clientset())}}
	cfg.KubeClient = own
	return cfg, own, nil
}

// Apply installs or upgrades a release and waits until it is ready. Helm marks
// the revision deployed only after that.
func (c *Client) Apply(ctx context.Context, s Spec, w Wait) (Outcome, error) {
	cfg, own, err := c.helm(ctx, s.Namespace, w)
	if err != nil {
		return Outcome{}, err
	}
	last, err := cfg.Releases.Last(s.Name)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return Outcome{}, fmt.Errorf("reading release %q: %w", s.Name, denied(err))
	}
	crds, err := c.applyCRDs(ctx, s.Chart, w.Timeout)
	if err != nil {
		return Outcome{Changed: crds}, denied(err)
	}
	var rel *release.Release
	if last == nil || last.Info.Status == release.StatusUninstalled {
		i := action.NewInstall(cfg)
		i.ReleaseName, i.Namespace, i.Replace = s.Name, s.Namespace, last != nil
		i.SkipCRDs, i.DisableOpenAPIValidation = true, true
		i.Wait, i.WaitForJobs, i.Timeout = true, true, w.Timeout
		rel, err = i.RunWithContext(context.WithoutCancel(ctx), s.Chart.c, s.Values)
	} else {
		u := action.NewUpgrade(cfg)
		u.Namespace, u.MaxHistory, u.ResetValues = s.Namespace, maxHistory, true
		u.SkipCRDs, u.DisableOpenAPIValidation = true, true
		u.Wait, u.WaitForJobs, u.Timeout = true, true, w.Timeout
		rel, err = u.RunWithContext(context.WithoutCancel(ctx), s.Name, s.Chart.c, s.Values)
	}
	o := own.outcome()
	o.Changed = o.Changed || crds
	if rel != nil {
		o.Revision = rel.Version
	}
	if err != nil {
		return o, applyError(ctx, s, o, err)
	}
	if strings.Contains(rel.Manifest, "kind: CustomResourceDefinition") {
		return o, c.cluster.Refresh()
	}
	return o, nil
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

// Rollback puts a release back to a revision and waits until it is ready.
func (c *Client) Rollback(ctx context.Context, namespace, name string, to int, w Wait) (Outcome, error) {
	cfg, own, err := c.helm(ctx, namespace, w)
	if err != nil {
		return Outcome{}, err
	}
	r := action.NewRollback(cfg)
	r.Version, r.MaxHistory = to, maxHistory
	r.Wait, r.WaitForJobs, r.Timeout = true, true, w.Timeout
	err = r.Run(name)
	o := own.outcome()
	if err != nil {
		return o, fmt.Errorf("rolling %q back to revision %d: %w", name, to, err)
	}
	last, err := cfg.Releases.Last(name)
	if err != nil {
		return o, fmt.Errorf("reading release %q: %w", name, err)
	}
	o.Revision = last.Version
	return o, nil
}

// Uninstall removes a release and its record.
func (c *Client) Uninstall(ctx context.Context, namespace, name string, timeout time.Duration) error {
	cfg, own, err := c.helm(ctx, namespace, Wait{Timeout: timeout})
	if err != nil {
		return err
	}
	rel, err := cfg.Releases.Last(name)
	if err != nil {
		return fmt.Errorf("reading release %q: %w", name, err)
	}
	objects, err := own.Build(bytes.NewBufferString(rel.Manifest), false)
	if err != nil {
		return fmt.Errorf("reading the objects of release %q: %w", name, err)
	}
	u := action.NewUninstall(cfg)
	u.Timeout, u.DeletionPropagation = timeout, "foreground"
	if _, err := u.Run(name); err != nil {
		return fmt.Errorf("uninstalling %q: %w", name, err)
	}
	kept := objects.Filter(func(i *resourceInfo) bool { return keep(rel.Manifest, i) })
	if err := own.WaitForDelete(objects.Difference(kept), timeout); err != nil {
		return fmt.Errorf("uninstalling %q: %w", name, err)
	}
	return nil
}
