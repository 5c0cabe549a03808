package chartsource_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"sigs.k8s.io/yaml"
)

// lockOf writes a lock as Helm would, had it resolved the chart's dependencies
// to these. That our hash is Helm's, helmrelease's tests hold.
func lockOf(t *testing.T, dir string, locked []*chart.Dependency) string {
	t.Helper()
	c, err := loader.LoadDir(dir)
	must(t, err)
	raw, err := json.Marshal([2][]*chart.Dependency{c.Metadata.Dependencies, locked})
	must(t, err)
	sum := sha256.Sum256(raw)
	out, err := yaml.Marshal(chart.Lock{Dependencies: locked, Digest: "sha256:" + hex.EncodeToString(sum[:])})
	must(t, err)
	return string(out)
}
