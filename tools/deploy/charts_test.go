package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/rogpeppe/go-internal/txtar"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	helmregistry "helm.sh/helm/v3/pkg/registry"

	"gitlab.com/slipway/slipway/internal/mototest"
)

// TestReferences: a value that refers to a secret is fetched with the role
// before anything is rendered, and is seen in the cluster alone.
func TestReferences(t *testing.T) {
	w := newWorld(t)
	w.key(mototest.Start(t)) // and the account's credentials
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("eu-central-1"))
	w.must(err)
	_, err = ssm.NewFromConfig(cfg).PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("/orders/greeting"), Value: aws.String("swordfish-1"), Type: types.ParameterTypeSecureString})
	w.must(err)
	_, err = secretsmanager.NewFromConfig(cfg).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("orders/db"), SecretString: aws.String(`{"password": "swordfish-2"}`)})
	w.must(err)

	w.values("greeting: ref+awsssm://orders/missing\nother: ref+awssecretsmanager://orders/db#/nothing")
	_, log := w.run(1, "apply", "--environment", "dev")
	for _, want := range []string{`parameter "/orders/missing": it does not exist`, `secret "orders/db": it has no key "nothing"`} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not told:\n%s", want, log)
		}
	}
	if got := w.statuses(); got != "" {
		t.Fatalf("history %q after references that cannot be resolved", got)
	}

	w.values("greeting: x ref+awsssm://orders/greeting+ ref+awssecretsmanager://orders/db#/password")
	out, log := w.run(0, "apply", "--environment", "dev", "--output", "json")
	live, err := w.client.AppsV1().Deployments(w.namespace).Get(t.Context(), "orders", getOptions())
	w.must(err)
	if got := live.Spec.Template.Annotations["greeting"]; got != "x swordfish-1 swordfish-2" {
		t.Errorf("the value became %q", got)
	}
	_, failed := w.run(64, "apply", "--environment", "dev", "--set", "greeting.deep=ref+awsssm://orders/greeting")
	seen := out + log + failed
	w.must(filepath.WalkDir(filepath.Join(w.dir, "report"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		seen += string(raw)
		return err
	}))
	if strings.Contains(seen, "swordfish") {
		t.Errorf("a secret is told:\n%s", seen)
	}
}

// group is an API group of the test's own: definitions are the whole cluster's.
func (w *world) group() string { return w.namespace + ".example.com" }

func (w *world) crd(description string) string {
	return `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.` + w.group() + `}
spec:
  group: ` + w.group() + `
  scope: Namespaced
  names: {kind: Thing, plural: things, singular: thing}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          description: "` + description + `"
          x-kubernetes-preserve-unknown-fields: true
`
}

// TestSetInfersItsOrder: nobody declares that a thing needs its kind, whose
// definition is larger than an annotation may be.
func TestSetInfersItsOrder(t *testing.T) {
	w := newWorld(t)
	w.write("set/releases.yaml", `apiVersion: slipway/v1
kind: ReleaseSet
defaults: {timeout: 60s, stable: 0s}
releases:
  - {name: a-user, namespace: `+w.namespace+`, chart: {path: user}}
  - {name: b-user, namespace: `+w.namespace+`, chart: {path: user}}
  - {name: kind, namespace: `+w.namespace+`, chart: {path: kind}}
`)
	for _, n := range []string{"user", "kind"} {
		w.write("set/"+n+"/Chart.yaml", "apiVersion: v2\nname: "+n+"\nversion: 1.0.0\n")
	}
	w.write("set/kind/crds/deep/kind.yaml", w.crd(strings.Repeat("a long description, ", 20_000)))
	w.write("set/user/templates/thing.yaml", "apiVersion: "+w.group()+"/v1\nkind: Thing\nmetadata: {name: {{ .Release.Name }}}\n")
	out, log := w.run(0, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
	for _, want := range []string{"a-user waits for kind: it brings the kind Thing." + w.group(), "b-user waits for kind", "b-user: revision 1 is deployed"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if !strings.Contains(out, "RELEASE") || !strings.Contains(out, "TOOK") || strings.Count(out, "deployed") != 3 {
		t.Errorf("the table:\n%s", out)
	}
	out, _ = w.run(0, "status", "--releases", "set/releases.yaml", "--cluster", "nonprod", "--follow")
	for _, want := range []string{"a-user: revision 1 is deployed", "b-user: revision 1 is deployed", "kind: revision 1 is deployed"} {
		if !strings.Contains(out, want) {
			t.Errorf("the status lacks %q:\n%s", want, out)
		}
	}
	out, _ = w.run(0, "status", "--releases", "set/releases.yaml", "--cluster", "nonprod", "--release", "b-user", "--why")
	if !strings.Contains(out, "b-user: revision 1 is deployed") || strings.Contains(out, "a-user") {
		t.Errorf("the status of one:\n%s", out)
	}
}

// TestChartsFromElsewhere puts a chart of a registry into the cluster, once
// with its digest and once with its tag, and notes where it came from.
func TestChartsFromElsewhere(t *testing.T) {
	w := newWorld(t)
	w.write("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.2.3\n")
	w.write("c/templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n")
	c, err := loader.LoadDir(filepath.Join(w.dir, "c"))
	w.must(err)
	file, err := chartutil.Save(c, w.dir)
	w.must(err)
	raw, err := os.ReadFile(file)
	w.must(err)
	client, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard), helmregistry.ClientOptCredentialsFile(filepath.Join(w.dir, "config.json")))
	w.must(err)
	pushed, err := client.Push(raw, w.registry+"/charts/c:1.2.3")
	w.must(err)
	set := func(chart string) string {
		return fmt.Sprintf("apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {stable: 0s}\nreleases: [{name: orders, namespace: %s, chart: {oci: 'oci://%s/charts/c', %s}}]\n", w.namespace, w.registry, chart)
	}
	// The cluster has a gated environment: a tag can be moved.
	w.write("releases.yaml", set("version: 1.2.3"))
	w.run(4, "apply", "--releases", "releases.yaml", "--cluster", "nonprod")
	w.write("releases.yaml", set("version: 1.2.3, digest: '"+pushed.Manifest.Digest+"'"))
	w.run(0, "apply", "--releases", "releases.yaml", "--cluster", "nonprod")
	if _, err := w.client.CoreV1().ConfigMaps(w.namespace).Get(t.Context(), "orders", getOptions()); err != nil {
		t.Error(err)
	}
	out, _ := w.run(0, "explain", "--releases", "releases.yaml", "--cluster", "nonprod")
	if !strings.Contains(out, "c 1.2.3") || !strings.Contains(out, "archive "+pushed.Chart.Digest) {
		t.Errorf("explain:\n%s", out)
	}
}

// TestTraitsInTheCluster puts charts with the traits of upstream ones into a
// cluster, as one set; what they become is held against Helm in helmrelease.
func TestTraitsInTheCluster(t *testing.T) {
	w := newWorld(t)
	var releases strings.Builder
	names := []string{"types", "null-deletes", "tpl-in-keys", "requirements-v1", "notes-that-fail", "changes-every-time", "schema-strict", "files-and-libraries"}
	for _, name := range names {
		a, err := txtar.ParseFile("internal/helmrelease/testdata/traits/" + name + ".txtar")
		w.must(err)
		var layers []string
		for _, f := range a.Files {
			w.write("set/"+name+"/"+f.Name, string(f.Data))
			if !strings.Contains(f.Name, "/") && strings.HasSuffix(f.Name, ".yaml") {
				layers = append(layers, name+"/"+f.Name)
			}
		}
		fmt.Fprintf(&releases, "  - {name: %s, namespace: %s, chart: {path: %s/chart}, values: [%s]}\n", name, w.namespace, name, strings.Join(layers, ", "))
	}
	w.write("set/releases.yaml", "apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {timeout: 60s, stable: 0s}\nreleases:\n"+releases.String())
	for range 2 {
		out, _ := w.run(0, "apply", "--releases", "set/releases.yaml", "--cluster", "nonprod")
		if got := strings.Count(out, "deployed"); got != len(names) {
			t.Errorf("%d of %d are deployed:\n%s", got, len(names), out)
		}
	}
}
