package helmrelease

import (
	"os"
	"strings"
	"testing"
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
