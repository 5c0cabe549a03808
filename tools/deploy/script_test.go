package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gitlab.com/slipway/slipway/internal/scripttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"slipway-deploy": main})
}

func TestScripts(t *testing.T) {
	if _, err := os.Stat("testdata/script"); err != nil {
		t.Fatal(err)
	}
	scripttest.Run(t, "testdata/script")
}

// TestStories are the ways a release goes in a real cluster, each in a
// namespace of its own, with the files of a world beside those of the story.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/cluster/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			var w *world
			service := "orders"
			if strings.Contains(file, "review") {
				r := newReviewWorld(t)
				w, service = r.world, r.service
			} else {
				w = newWorld(t)
			}
			w.write("releases.yaml", "apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {timeout: 60s, stable: 0s}\nreleases:\n"+
				"  - {name: broker, namespace: "+w.namespace+", chart: {path: broker}, values: [broker.yaml]}\n"+
				"  - {name: client, namespace: "+w.namespace+", chart: {path: broker}, values: [client.yaml], needs: [broker]}\n")
			scripttest.RunFile(t, file, func(e *testscript.Env) error {
				for _, v := range w.env {
					if strings.HasPrefix(v, "SLIPWAY_") || strings.HasPrefix(v, "IMAGE_REF=") {
						e.Vars = append(e.Vars, v)
					}
				}
				e.Vars = append(e.Vars, "NAMESPACE="+w.namespace, "SERVICE="+service, "PLATFORM_KUBECONFIG="+w.kubeconfig)
				return os.CopyFS(e.WorkDir, os.DirFS(w.dir))
			})
		})
	}
}
