package helmrelease

import (
	"os"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
)

// TestKubeVersion: charts are told of the Kubernetes that the libraries are of.
func TestKubeVersion(t *testing.T) {
	mod, err := os.ReadFile("../../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	minor := strings.Split(kubeVersion, ".")[1]
	if !strings.Contains(string(mod), "k8s.io/client-go v0."+minor+".") {
		t.Errorf("kubeVersion is %s, go.mod has another client-go", kubeVersion)
	}
}

// TestKubeVersionOfAVendor: what EKS adds to a version is no reason to refuse
// a chart, and a server that is too old is one.
func TestKubeVersionOfAVendor(t *testing.T) {
	for _, c := range []struct {
		server, wants string
		ok            bool
	}{
		{"v1.31.2-eks-abc", ">=1.25.0", true},
		{"v1.31.2-eks-abc", ">=1.25.0-0", true},
		{"v1.31.2-eks-abc", ">=1.25.0 <1.32.0", true},
		{"v1.31.2-eks-abc", "1.31.x", true},
		{"v1.31.2-eks-abc", ">=1.31.3", false},
		{"v1.31.2-eks-abc", ">=1.32.0-0", false},
		{"v1.31.2", ">=1.25.0", true},
		{"v1.32.0-rc.1", ">=1.32.0", false},
		{"v1.31.2-eks-abc", "", true},
	} {
		chart := &chart.Chart{Metadata: &chart.Metadata{APIVersion: "v2", Name: "a", Version: "1.0.0", KubeVersion: c.wants}}
		i := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
		i.ReleaseName, i.DryRun, i.ClientOnly, i.KubeVersion = "a", true, true, &chartutil.KubeVersion{Version: c.server}
		_, err := i.Run(fit(chart, c.server), nil)
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "requires kubeVersion: "+c.wants+" which is incompatible with Kubernetes "+c.server) {
			t.Errorf("%s for %s: %v", c.wants, c.server, err)
		}
		if chart.Metadata.KubeVersion != c.wants {
			t.Errorf("%s became %q", c.wants, chart.Metadata.KubeVersion)
		}
	}
}
