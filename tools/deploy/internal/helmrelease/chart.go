// Package helmrelease is the one package that knows Helm. It installs,
// upgrades and rolls back releases in Helm's ordinary storage, so that the
// helm command line of version 3 and 4 goes on working with them.
package helmrelease

import (
	"context"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"sigs.k8s.io/yaml"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Spec is a release as it is asked for.
type Spec struct {
	Name, Namespace string
	Chart           *Chart
	Values          map[string]any
	// Secrets are the strings in Values that were fetched for this run: they
	// reach no diff, log, error or report.
	Secrets []string
}

// Render returns the manifest of a release, hooks included, without a
// cluster: with Helm's default capabilities, and lookup finding nothing.
func Render(ctx context.Context, s Spec) (string, error) {
	i := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	i.ReleaseName, i.Namespace = s.Name, s.Namespace
	i.DryRun, i.ClientOnly, i.IncludeCRDs, i.Replace = true, true, true, true
	rel, err := i.RunWithContext(ctx, s.Chart.c, s.Values)
	if err != nil {
		return "", tool.Exit(tool.Usage, fmt.Errorf("rendering chart %q: %w", s.Chart.Name(), err))
	}
	return manifestOf(rel), nil
}

func manifestOf(rel *release.Release) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(rel.Manifest))
	for _, h := range rel.Hooks {
		fmt.Fprintf(&b, "\n---\n# Source: %s\n%s", h.Path, strings.TrimSpace(h.Manifest))
	}
	return b.String() + "\n"
}

// documents decodes the objects of a manifest.
func documents(manifest string) ([]map[string]any, error) {
	var out []map[string]any
	for _, doc := range strings.Split("\n"+manifest, "\n---") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var m map[string]any
		if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
			return nil, fmt.Errorf("reading a rendered object: %w", err)
		}
		if len(m) > 0 {
			out = append(out, m)
		}
	}
	return out, nil
}

// Render returns the manifest that a release would have in the cluster, with
// its capabilities and with lookup. It changes nothing.
func (c *Client) Render(ctx context.Context, s Spec, upgrade bool) (string, error) {
	cfg, _, err := c.helm(ctx, s.Namespace, Wait{})
	if err != nil {
		return "", err
	}
	var rel *release.Release
	if upgrade {
		u := action.NewUpgrade(cfg)
		u.Namespace, u.ResetValues, u.DisableOpenAPIValidation, u.DryRun, u.DryRunOption = s.Namespace, true, true, true, "server"
		rel, err = u.RunWithContext(ctx, s.Name, s.Chart.c, s.Values)
	} else {
		i := action.NewInstall(cfg)
		i.ReleaseName, i.Namespace, i.DisableOpenAPIValidation, i.DryRun, i.DryRunOption = s.Name, s.Namespace, true, true, "server"
		rel, err = i.RunWithContext(ctx, s.Chart.c, s.Values)
	}
	if err != nil {
		return "", applyError(ctx, s, Outcome{}, err)
	}
	return manifestOf(rel), nil
}

// Look judges the objects of a stored revision once they are listed, without
// waiting for anything to become ready.
func (c *Client) Look(ctx context.Context, namespace string, r Revision, timeout time.Duration) ([]rollout.State, []rollout.Finding, error) {
	docs, err := documents(r.Manifest)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, err := c.watcher.Look(ctx, rollout.Objects(docs, namespace))
	return result.Objects, result.Findings, denied(err)
}
