package helmrelease

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Render returns the manifest of a release, hooks included, without a
// cluster: with Helm's default capabilities, and lookup finding nothing.
func Render(ctx context.Context, s Spec) (string, error) {
	i := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	i.ReleaseName, i.Namespace = s.Name, s.Namespace
	i.DryRun, i.ClientOnly, i.IncludeCRDs, i.Replace = true, true, true, true
	rel, err := i.RunWithContext(ctx, duplicate(s.Chart.c), s.Values)
	if err != nil {
		return "", tool.Exit(tool.Usage, fmt.Errorf("rendering chart %q: %w", s.Chart.Name(), err))
	}
	return manifestOf(rel), nil
}

// manifestOf is the manifest with the hooks, as helm template prints it.
func manifestOf(rel *release.Release) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(rel.Manifest))
	for _, h := range rel.Hooks {
		fmt.Fprintf(&b, "\n---\n# Source: %s\n%s", h.Path, strings.TrimSpace(h.Manifest))
	}
	return b.String() + "\n"
}

// render makes the revision that a spec asks for: by Helm's own code, with the
// cluster's capabilities and, where it is allowed, lookup, over a storage in
// memory and a client that does nothing. It is done once for a release.
func (c *Client) render(ctx context.Context, s Spec, state State, lookup bool, brought []string) (*release.Release, error) {
	caps, err := c.capabilities(brought)
	if err != nil {
		return nil, err
	}
	memory := driver.NewMemory()
	memory.SetNamespace(s.Namespace)
	cfg := &action.Configuration{RESTClientGetter: c.cluster.RESTClientGetter(ctx), KubeClient: &kubefake.PrintingKubeClient{Out: io.Discard},
		Releases: storage.Init(memory), Capabilities: caps, Log: func(string, ...any) {}}
	mode := "client"
	if lookup {
		mode = "server"
	}
	var rel *release.Release
	last := state.Last
	// What was never ready is installed still: its hooks may not have run, and
	// its templates may ask.
	if last == nil || last.Status == string(release.StatusUninstalled) || !state.Ever {
		i := action.NewInstall(cfg)
		i.ReleaseName, i.Namespace, i.DisableOpenAPIValidation, i.SkipCRDs, i.DryRun, i.DryRunOption = s.Name, s.Namespace, true, true, true, mode
		rel, err = i.RunWithContext(ctx, fit(s.Chart.c, caps.KubeVersion.Version), s.Values)
		if err == nil && last != nil {
			rel.Version = last.Number + 1
		}
	} else {
		// Of what is stored only the number, the first day and the labels count.
		was := last.record.rel
		stub := &release.Release{Name: s.Name, Namespace: s.Namespace, Version: was.Version, Labels: was.Labels,
			Info: &release.Info{Status: release.StatusDeployed, FirstDeployed: was.Info.FirstDeployed}}
		if err := cfg.Releases.Create(stub); err != nil {
			return nil, fmt.Errorf("preparing to render chart %q: %w", s.Chart.Name(), err)
		}
		u := action.NewUpgrade(cfg)
		u.Namespace, u.ResetValues, u.DisableOpenAPIValidation, u.SkipCRDs, u.DryRun, u.DryRunOption = s.Namespace, true, true, true, true, mode
		rel, err = u.RunWithContext(ctx, s.Name, fit(s.Chart.c, caps.KubeVersion.Version), s.Values)
	}
	if err != nil {
		return nil, renderError(ctx, s, err)
	}
	rel.Chart.Metadata.KubeVersion = s.Chart.c.Metadata.KubeVersion
	if rel.Labels == nil {
		rel.Labels = map[string]string{}
	}
	maps.Copy(rel.Labels, s.Chart.Labels())
	rel.Labels[OwnerLabel] = ownerValue
	rel.Info.Description = map[release.Status]string{release.StatusPendingInstall: "Initial install underway"}[rel.Info.Status]
	if rel.Info.Description == "" {
		rel.Info.Description = "Preparing upgrade"
	}
	return rel, nil
}

// unreleased is the suffix of a version that Kubernetes itself gives, and not
// a vendor.
var unreleased = regexp.MustCompile(`^(alpha|beta|rc)\b`)

// fit returns a copy of a chart that Helm renders for a server of the given
// version. To semver v1.31.2-eks-abc is a pre-release, which the range >=1.25.0
// does not take: Helm refuses such charts on EKS. A vendor's suffix does not
// count here.
func fit(c *chart.Chart, server string) *chart.Chart {
	out := duplicate(c)
	plain, suffix, _ := strings.Cut(server, "-")
	if !unreleased.MatchString(suffix) && chartutil.IsCompatibleRange(out.Metadata.KubeVersion, plain) {
		out.Metadata.KubeVersion = ""
	}
	return out
}

// renderError says whose fault it is: what a template says is the chart's.
func renderError(ctx context.Context, s Spec, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = fmt.Errorf("rendering chart %q for release %q: %w", s.Chart.Name(), s.Name, err)
	if strings.Contains(err.Error(), " is forbidden: User ") {
		return denied(err)
	}
	return tool.Exit(tool.Usage, err, "correct the values or the chart; the cluster was not touched")
}

// capabilities are what templates ask for as .Capabilities, with what the
// release's own definitions bring.
func (c *Client) capabilities(brought []string) (*chartutil.Capabilities, error) {
	discovery, err := c.cluster.Discovery()
	if err != nil {
		return nil, err
	}
	version, err := discovery.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("asking for the cluster's version: %w", denied(err))
	}
	versions, err := action.GetVersionSet(discovery)
	if err != nil {
		return nil, fmt.Errorf("asking for the cluster's kinds: %w", denied(err))
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.APIVersions = append(versions, brought...)
	caps.KubeVersion = chartutil.KubeVersion{Version: version.GitVersion, Major: version.Major, Minor: version.Minor}
	return caps, nil
}
