package rollout

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What a real kubelet wrote is told by its cause.
func TestRecordedFailures(t *testing.T) {
	for _, c := range []struct {
		name, class, says string
	}{
		{"image-pull", ClassImage, "does not exist in the registry"},
		{"image-name", ClassImage, `the image name "registry.example.com/orders::1" is not valid`},
		{"config", ClassConfig, "couldn't find key url in ConfigMap shop/settings"},
		{"mount", ClassVolume, `configmap "missing" not found`},
		{"start-error", ClassConfig, `exec: "/app/missing"`},
		{"crash-loop", ClassCrash, "it ended with exit code 3 (Error) and was restarted 2 times"},
		{"oom", ClassMemory, "its limit of 64Mi, 2 times"},
		{"init", ClassCrash, `container "migrate" of`},
		{"liveness", ClassCrash, "it ended with exit code 137 (Error)"},
		{"slow-start", "", ""},
		{"not-ready", ClassProbe, "Readiness probe failed"},
		{"evict-volume", ClassNode, `Evicted Usage of EmptyDir volume "scratch" exceeds the limit "1Mi"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", "kubelet", c.name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var r struct {
				Pod    *corev1.Pod // as it was in the end
				Events []*corev1.Event
			}
			if err := json.Unmarshal(raw, &r); err != nil {
				t.Fatal(err)
			}
			workload := Ref{"apps/v1", "Deployment", "shop", "orders"}
			got := Diagnose(Evidence{Workload: workload, Pods: []*corev1.Pod{r.Pod}, Events: r.Events})
			if c.class == "" && len(got) > 0 || c.class != "" && (len(got) == 0 || got[0].Class != c.class || !strings.Contains(got[0].Sentence(), c.says)) {
				t.Errorf("findings %+v, want %s: %s", got, c.class, c.says)
			}
		})
	}
}
