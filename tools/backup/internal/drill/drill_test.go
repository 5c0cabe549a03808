package drill

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/pkg/yamlfile"
	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
	"gitlab.com/slipway/slipway/tools/backup/internal/cover"
	"gitlab.com/slipway/slipway/tools/backup/internal/quarantine"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

func TestMapping(t *testing.T) {
	to := func(name string) func(string) string {
		return func(s string) string { return strings.ReplaceAll(name, "{s}", s) }
	}
	for name, c := range map[string]struct {
		sources  map[string]string
		included []string
		name     func(string) string
		want     string // part of the refusal
	}{
		"good":            {map[string]string{"a": "a-dev", "b": "b-dev"}, []string{"a-dev", "b-dev"}, to("drill-{s}"), ""},
		"into the source": {map[string]string{"a": "a-dev"}, []string{"a-dev"}, to("{s}-dev"), `"a-dev" would be restored into "a-dev"`},
		"into another":    {map[string]string{"a": "x", "b": "y"}, []string{"x", "y"}, func(s string) string { return map[string]string{"a": "y", "b": "z"}[s] }, `"x" would be restored into "y"`},
		"two into one":    {map[string]string{"a": "x", "b": "y"}, []string{"x", "y"}, to("drill"), `would be restored into "drill"`},
		"one more":        {map[string]string{"a": "a-dev"}, []string{"a-dev", "kube-system"}, to("drill-{s}"), `"kube-system" of the backup belongs to no service`},
		"everything":      {map[string]string{"a": "a-dev"}, nil, to("drill-{s}"), "the backup has the namespaces"},
		"a star":          {map[string]string{"a": "a-dev"}, []string{"*"}, to("drill-{s}"), "belongs to no service"},
		"two of one":      {map[string]string{"a": "x", "b": "x"}, []string{"x"}, to("drill-{s}"), "the backup has the namespaces"},
		"one less":        {map[string]string{"a": "x", "b": "y"}, []string{"x"}, to("drill-{s}"), "the backup has the namespaces"},
	} {
		got, err := mapping(c.sources, c.included, c.name)
		if c.want == "" && (err != nil || fmt.Sprint(got) != "map[a-dev:drill-a b-dev:drill-b]") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, %v; want an error with %q", name, got, err, c.want)
		}
	}
}

func item(t *testing.T, key artifact.Key, raw string) map[artifact.Key]artifact.Item {
	t.Helper()
	var i artifact.Item
	if err := json.Unmarshal([]byte(raw), &i); err != nil {
		t.Fatal(err)
	}
	return map[artifact.Key]artifact.Item{key: i}
}

func TestHazards(t *testing.T) {
	service, volume := artifact.Key{Resource: "services", Namespace: "a", Name: "s"}, artifact.Key{Resource: "persistentvolumes", Name: "v"}
	covered := []velero.VolumeInfo{{PVCNamespace: "a", PVCName: "d", Result: "succeeded"}}
	for name, c := range map[string]struct {
		key     artifact.Key
		raw     string
		volumes []velero.VolumeInfo
		want    string
	}{
		"cluster ip":     {service, `{"spec":{"type":"ClusterIP"}}`, nil, ""},
		"load balancer":  {service, `{"spec":{"type":"LoadBalancer"}}`, nil, "is of type LoadBalancer"},
		"external name":  {service, `{"spec":{"type":"ExternalName"}}`, nil, "is of type ExternalName"},
		"dns":            {service, `{"metadata":{"annotations":{"external-dns.alpha.kubernetes.io/hostname":"orders.example.com"}}}`, nil, "record of production"},
		"deleted volume": {volume, `{"spec":{"persistentVolumeReclaimPolicy":"Delete","claimRef":{"namespace":"a","name":"d"}}}`, nil, ""},
		"kept volume":    {volume, `{"spec":{"persistentVolumeReclaimPolicy":"Retain","claimRef":{"namespace":"a","name":"d"}}}`, nil, "mount production's own volume"},
		"kept, covered":  {volume, `{"spec":{"persistentVolumeReclaimPolicy":"Retain","claimRef":{"namespace":"a","name":"d"}}}`, covered, ""},
		"kept, no claim": {volume, `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`, covered, "mount production's own volume"},
		"external ip":    {service, `{"spec":{"externalIPs":["192.0.2.1"]}}`, nil, "has the external addresses [192.0.2.1]"},
		"own kind":       {artifact.Key{Resource: "things.example.com", Namespace: "a", Name: "s"}, `{"spec":{"type":{"a":1}}}`, nil, ""},
	} {
		got := strings.Join(hazards(&artifact.Artifact{Items: item(t, c.key, c.raw), Volumes: c.volumes}), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestHazardsOfPods: a pod that is not held by the quarantine's policy is
// refused, whichever object makes it.
func TestHazardsOfPods(t *testing.T) {
	ways := map[string]string{
		`{"containers":[{"ports":[{"containerPort":80}]}],"volumes":[{"name":"v","emptyDir":{}}]}`: "",
		`{"hostNetwork":true}`:                     "has hostNetwork",
		`{"hostNetwork":true,"hostnetwork":false}`: "has hostNetwork", // the API server takes the first
		`{"hostnetwork":true}`:                     "",
		`{"hostPID":true}`:                         "has hostPID",
		`{"hostIPC":true}`:                         "has hostIPC",
		`{"volumes":[{"name":"v","hostPath":{"path":"/var/run"}}]}`:                `mounts "/var/run" of its node (volume v)`,
		`{"containers":[{"name":"c","ports":[{"hostPort":5432}]}]}`:                "takes port 5432 of its node (container c)",
		`{"initContainers":[{"name":"i","ports":[{"hostPort":1}]}]}`:               "takes port 1 of its node (container i)",
		`{"hostNetwork":true,"volumes":[{"name":"v","hostPath":{"path":"/var"}}]}`: `mounts "/var" of its node`,
	}
	for _, resource := range []string{"pods", "deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps", "replicationcontrollers", "jobs.batch"} {
		for spec, want := range ways {
			if resource != "pods" {
				spec = `{"template":{"spec":` + spec + `}}`
			}
			if resource == "jobs.batch" {
				want = "" // none is restored
			}
			got := strings.Join(hazards(archived(t, resource, `{"apiVersion":"v1","kind":"K","metadata":{"name":"n","namespace":"a"},"spec":`+spec+`}`)), "\n")
			if want == "" && got != "" || !strings.Contains(got, want) {
				t.Errorf("%s with %s: %q, want %q", resource, spec, got, want)
			}
		}
	}
	ofJob := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"n","namespace":"a","labels":{"batch.kubernetes.io/job-name":"j"}},"spec":{"hostNetwork":true}}`
	if got := hazards(archived(t, "pods", ofJob)); len(got) > 0 {
		t.Errorf("the pod of a job is not restored, and was refused: %q", got)
	}
}

// archived reads one object of namespace a, called n, as it lies in a bucket.
func archived(t *testing.T, resource, raw string) *artifact.Artifact {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "resources/" + resource + "/namespaces/a/n.json", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(raw))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, raw); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	a, err := artifact.Read(t.Context(), bucket(packed.Bytes()), "", "b")
	if err != nil || len(a.Items) != 1 {
		t.Fatalf("read %+v, %v", a, err)
	}
	return a
}

// bucket holds the archive of a backup called b, and nothing else.
type bucket []byte

func (b bucket) List(context.Context, string) ([]artifact.Object, error) {
	return []artifact.Object{{Key: "backups/b/b.tar.gz", Size: int64(len(b))}}, nil
}

func (b bucket) Open(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b)), nil
}

func TestPodSecurity(t *testing.T) {
	a := &artifact.Artifact{Items: item(t, artifact.Key{Resource: "namespaces", Name: "orders-dev"},
		`{"metadata":{"name":"orders-dev","labels":{"pod-security.kubernetes.io/enforce":"restricted","slipway.dev/service":"orders"}}}`)}
	if got := podSecurity(a, "orders-dev"); fmt.Sprint(got) != "map[pod-security.kubernetes.io/enforce:restricted]" {
		t.Errorf("the copy would be held to %v", got)
	}
	if got := podSecurity(a, "other"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestOutcomes(t *testing.T) {
	got := outcomes(map[string][]string{
		"v1/Secret":           {"a/x(created)", "a/y(skipped)", "a/z(failed)"},
		"v1/ConfigMap":        {"a/kube-root-ca.crt(failed)", "a/mine(created)"},
		"v1/ServiceAccount":   {"a/default(updated)", "a/app(skipped)"},
		"v1/Namespace":        {"a(skipped)"},
		"v1/PersistentVolume": {"v(skipped)", "w(failed)"},
		"v1/Pod":              {"a/odd"},
	})
	want := "v1/PersistentVolume w was not restored: failed|v1/Pod a/odd was not restored: |v1/Secret a/y was not restored: skipped|" +
		"v1/Secret a/z was not restored: failed|v1/ServiceAccount a/app was not restored: skipped"
	if got.created != 3 || strings.Join(got.bad, "|") != want {
		t.Errorf("%d created, %q", got.created, got.bad)
	}
}

func TestObjectives(t *testing.T) {
	declared := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	r := &Result{Declared: declared, RPO: Span(90 * time.Minute)}
	r.phase("prepare", time.Second)
	r.phase("restore", 4*time.Second)
	r.phase("prepare", 2*time.Second)
	r.green(declared.Add(time.Minute))
	r.green(declared.Add(31 * time.Minute)) // the last green check counts
	r.objectives(config.Objectives{RPO: yamlfile.Duration(90 * time.Minute), RTO: yamlfile.Duration(30 * time.Minute)})
	if strings.Join(r.Problems, "|") != "RTO 31m0s is beyond the objective of 30m0s" {
		t.Errorf("problems %q", r.Problems)
	}
	raw, err := json.Marshal(struct {
		Phases []Phase
		RTO    *Span
	}{r.Phases, r.RTO})
	if err != nil || string(raw) != `{"Phases":[{"name":"prepare","seconds":3},{"name":"restore","seconds":4}],"RTO":1860}` {
		t.Errorf("%s, %v", raw, err)
	}
	none := &Result{RPO: Span(3 * time.Hour)}
	none.objectives(config.Objectives{RPO: yamlfile.Duration(time.Hour)})
	if strings.Join(none.Problems, "|") != "RPO 3h0m0s is beyond the objective of 1h0m0s|there is no RTO: no check went green" {
		t.Errorf("problems %q", none.Problems)
	}
}

// TestUnprovenIsSaid: without a check of data no drill says that it proved any.
func TestUnprovenIsSaid(t *testing.T) {
	r := &Result{Checks: []Check{{Name: "ready", Status: Green}, {Name: "http", Status: Red, Detail: "500"}, {Name: "postgres orders", Status: Unproven, Detail: "no baseline"}}}
	r.unproven(&config.Drill{Objectives: config.Objectives{WorseBy: 30}})
	if fmt.Sprint(r.Problems) != "[check http failed: 500]" {
		t.Errorf("problems %q", r.Problems)
	}
	text := strings.Join(r.Unproven, "\n")
	for _, want := range []string{"check postgres orders is unproven: no baseline", "objective worseBy is unproven", "data unproven: the backup holds no volume"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
	r = &Result{Claims: []cover.Claim{{Name: "d"}}}
	r.unproven(&config.Drill{})
	if fmt.Sprint(r.Unproven) != "[data unproven: no check compared the restored data of 1 claims with the source]" {
		t.Errorf("unproven %q", r.Unproven)
	}
}

// TestSweepDoesNotEndTheDrill: what earlier drills left is told, whatever
// becomes of it.
func TestSweepDoesNotEndTheDrill(t *testing.T) {
	cluster, err := kube.New(kube.Config{Endpoint: "http://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	run := &tool.Run{Log: joblog.New(&log, false), Report: report.New("slipway-backup", "drill", "test")}
	sweep(t.Context(), run, quarantine.Area{Cluster: cluster, Log: run.Log.Printf}, time.Now)
	if f := run.Report.Findings; len(f) != 1 || f[0].Class != "leftover" || !strings.Contains(f[0].Message, "looking for quarantine namespaces") {
		t.Errorf("findings %+v\n%s", f, log.String())
	}
}

// TestEarlyFailureIsInTheResult: drill.json of a drill that found no backup says
// so too; it is what an auditor reads.
func TestEarlyFailureIsInTheResult(t *testing.T) {
	cluster, err := kube.New(kube.Config{Endpoint: "http://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	run := &tool.Run{Log: joblog.New(&log, false), Report: report.New("slipway-backup", "drill", "test")}
	r, err := Run(t.Context(), run, Options{Drill: &config.Drill{}, Cluster: cluster, Timeout: time.Minute, Now: time.Now,
		Velero: &velero.Client{Cluster: cluster, Namespace: "velero", Progress: run.Log.Printf, Stall: time.Minute}})
	if err == nil || r.ExitCode != tool.CodeOf(err) || r.Verdict != tool.Outcome(r.ExitCode) {
		t.Errorf("the result says %d, %q; the drill ended with %v", r.ExitCode, r.Verdict, err)
	}
}
