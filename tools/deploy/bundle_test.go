package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"gitlab.com/slipway/slipway/internal/mototest"
	"gitlab.com/slipway/slipway/pkg/landscape"
)

// key makes a signing key and puts it into the landscape.
func (w *world) key(endpoint string) {
	w.t.Helper()
	w.t.Setenv("AWS_ENDPOINT_URL", endpoint)
	w.t.Setenv("AWS_ACCESS_KEY_ID", "test")
	w.t.Setenv("AWS_SECRET_ACCESS_KEY", "testtest")
	cfg, err := config.LoadDefaultConfig(w.t.Context(), config.WithRegion("eu-central-1"))
	w.must(err)
	made, err := kms.NewFromConfig(cfg).CreateKey(w.t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	w.must(err)
	raw, err := os.ReadFile(filepath.Join(w.dir, "landscape.json"))
	w.must(err)
	var s landscape.Snapshot
	w.must(json.Unmarshal(raw, &s))
	s.Region, s.BundleKey = "eu-central-1", aws.ToString(made.KeyMetadata.Arn)
	raw, err = json.Marshal(s)
	w.must(err)
	w.write("landscape.json", string(raw))
	w.env = append(w.env, "AWS_ENDPOINT_URL="+endpoint, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=testtest", "AWS_REGION=eu-central-1")
}

// TestBundleIsTheOnlyWayToStage makes a bundle, deploys it where only bundles
// go, and refuses it once another key counts.
func TestBundleIsTheOnlyWayToStage(t *testing.T) {
	w := newWorld(t)
	w.key(mototest.Start(t))
	w.write("values/stage.yaml", "greeting: from the bundle\n")
	repo := w.registry + "/nsflow/orders/bundle"
	out, _ := w.run(0, "bundle", "--repository", repo)
	ref := strings.TrimSpace(out)
	dotenv, err := os.ReadFile(filepath.Join(w.dir, "bundle.env"))
	w.must(err)
	if string(dotenv) != "SLIPWAY_BUNDLE="+ref+"\n" || !strings.HasPrefix(ref, repo+"@sha256:") {
		t.Fatalf("dotenv %q, result %q", dotenv, ref)
	}
	if again, _ := w.run(0, "bundle", "--repository", repo); strings.TrimSpace(again) != ref {
		t.Errorf("the same inputs became %s and %s", ref, again)
	}

	// What lies in the folder now is not what is deployed.
	w.values("greeting: changed since")
	w.write("own.yaml", "extra: by people\nimage: "+w.registry+"/nsflow/evil@sha256:"+strings.Repeat("0", 64)+"\n")
	out, _ = w.run(0, "apply", "--environment", "stage", "--bundle", ref, "--values", "own.yaml", "--observed", "observed.yaml", "--output", "json")
	if !strings.Contains(out, ref) || !strings.Contains(out, w.image) {
		t.Errorf("result %s", out)
	}
	observed, err := os.ReadFile(filepath.Join(w.dir, "observed.yaml"))
	w.must(err)
	if !strings.Contains(string(observed), "bundle: "+ref) || !strings.Contains(string(observed), "environment: stage") {
		t.Errorf("the observed state:\n%s", observed)
	}
	live, err := w.client.AppsV1().Deployments(w.namespace).Get(t.Context(), "orders", getOptions())
	w.must(err)
	if got := live.Spec.Template; got.Annotations["greeting"] != "from the bundle" || got.Spec.Containers[0].Image != w.image {
		t.Errorf("deployed: %v, image %s", got.Annotations, got.Spec.Containers[0].Image)
	}

	w.key(mototest.Start(t))
	_, log := w.run(4, "apply", "--environment", "stage", "--bundle", ref)
	if !strings.Contains(log, "no signature is by the expected key") {
		t.Error(log)
	}
	w.run(4, "apply", "--environment", "stage")
}
