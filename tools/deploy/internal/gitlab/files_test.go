package gitlab

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"gitlab.com/slipway/slipway/pkg/report"
)

func TestDotenv(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url.env")
	if err := Dotenv(file, "https://orders.dev.example.com/shop"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || string(raw) != "SLIPWAY_ENVIRONMENT_URL=https://orders.dev.example.com/shop\n" {
		t.Errorf("%q, %v", raw, err)
	}
	for _, bad := range []string{"", "orders.example.com", "javascript:alert(1)", "https://", "https://a\nCI_JOB_TOKEN=x", "https://me:secret@orders.example.com", "https://{service}.example.com", "ftp://a"} {
		if Dotenv(filepath.Join(t.TempDir(), "bad.env"), bad) == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
}

// TestAnnotations: the form that GitLab reads, see its documentation of artifacts:reports:annotations.
func TestAnnotations(t *testing.T) {
	file := filepath.Join(t.TempDir(), "annotations.json")
	if err := Annotations(file, []report.Link{{Label: "environment", URL: "https://orders.dev.example.com"}}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string][]map[string]map[string]string
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got["Slipway"]) != 1 || got["Slipway"][0]["external_link"]["label"] != "environment" || got["Slipway"][0]["external_link"]["url"] != "https://orders.dev.example.com" {
		t.Errorf("%s", raw)
	}
	if Annotations(file, []report.Link{{Label: "x", URL: "javascript:alert(1)"}}) == nil {
		t.Error("a script is taken for a link")
	}
}

func TestArtifact(t *testing.T) {
	const job = "https://gitlab.example.com/nsflow/orders/-/jobs/9"
	for file, want := range map[string]string{
		"/builds/orders/slipway-report/deploy-dev/slipway-deploy.html": job + "/artifacts/file/slipway-report/deploy-dev/slipway-deploy.html",
		"/builds/orders/a b/x.html":                                    job + "/artifacts/file/a%20b/x.html",
		"/tmp/x.html":                                                  "",
	} {
		if got := Artifact(job, "/builds/orders", file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}
