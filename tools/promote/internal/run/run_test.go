package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/bundle/bundletest"
	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/envstate"
	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/gitrepo"
	"gitlab.com/slipway/slipway/tools/promote/internal/record"
	"gitlab.com/slipway/slipway/tools/promote/internal/run"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const rules = `apiVersion: slipway/v1
kind: Promotion
order: [dev, stage, [prod]]
gates:
  stage: {healthy: 1h}
  prod: {require: [tests]}
`

// gitlabRecords are GitLab's answers: which records there are is decided by a
// test, and what is made of them is what is tested.
type gitlabRecords struct {
	deployments []gitlabapi.Deployment
	made        []gitlabapi.Deployment
	fails       error // of Deploy
}

func (g *gitlabRecords) Deployments(_ context.Context, _ any, env string) ([]gitlabapi.Deployment, error) {
	var out []gitlabapi.Deployment
	for _, d := range g.deployments {
		if d.Environment == env {
			out = append(out, d)
		}
	}
	return out, nil
}

func (g *gitlabRecords) Commit(context.Context, any, string) (gitlabapi.Commit, error) {
	return gitlabapi.Commit{AuthorEmail: "bob@example.com"}, nil
}

func (g *gitlabRecords) Deploy(_ context.Context, _ any, d gitlabapi.Deployment) (gitlabapi.Deployment, error) {
	if g.fails != nil {
		return gitlabapi.Deployment{}, g.fails
	}
	d.ID = int64(len(g.made) + 1)
	g.made = append(g.made, d)
	return d, nil
}

type world struct {
	t       *testing.T
	url     string // bare environments repository
	ref     string // bundle
	records *gitlabRecords
	options run.Options
	out     bytes.Buffer
	log     bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	w := &world{t: t, records: &gitlabRecords{}, url: filepath.Join(t.TempDir(), "environments.git")}
	w.ref = bundletest.Push(t, host+"/nsflow/orders/bundle", bundle.Config{Service: "orders", Commit: "c0ffee", Pipeline: 8, Project: bundle.Project{Path: "nsflow/orders", ID: 77}}, bundle.ArtifactType)
	w.sh(filepath.Dir(w.url), "git init --quiet --bare --initial-branch=main environments.git")
	w.push("promotion.yaml", rules)
	w.push("stage/orders.values.yaml", "replicas: 2\n")
	w.records.deployments = []gitlabapi.Deployment{{ID: 5, Environment: "dev", SHA: "c0ffee", Pipeline: 8, Status: "success", Finished: now.Add(-2 * time.Hour)}}
	snapshot := &landscape.Snapshot{
		GitLab:       landscape.GitLab{Environments: landscape.Project{Path: "nsflow/environments", ID: 43}},
		Environments: map[string]landscape.Environment{"dev": {}, "stage": {Gated: true}, "prod": {Gated: true}},
		Services:     map[string]landscape.Service{"orders": {Project: landscape.Project{Path: "nsflow/orders", ID: 77}, Environments: []string{"dev", "stage", "prod"}}},
	}
	w.options = run.Options{Service: "orders", Bundle: w.ref, Target: "stage", File: "promotion.yaml", RegistryHost: host, Snapshot: snapshot,
		Identity: cienv.Identity{ProjectID: 43, ProjectPath: "nsflow/environments", Ref: "main", RefType: "branch", RefProtected: true, PipelineID: 9, User: "anna", Commit: w.head()},
		Email:    "anna@example.com", Now: func() time.Time { return now }, GitLab: w.records,
		Fetch: func(ctx context.Context, r bundle.Reference) (*bundle.Bundle, error) {
			return bundle.Fetch(ctx, r, bundle.Access{})
		},
		Clone: func(ctx context.Context) (*gitrepo.Repo, error) {
			return gitrepo.Clone(ctx, gitrepo.Remote{URL: w.url, Branch: "main", Email: "slipway@example.com"}, os.Getenv, io.Discard)
		},
		// The signature's own arithmetic is tested where it is done; here an
		// envelope is its payload, and "forged" is one that does not verify.
		Verify: func(_ context.Context, envelope []byte) ([]byte, error) {
			if bytes.Contains(envelope, []byte("forged")) {
				return nil, errors.New("the signature is not of this key")
			}
			return envelope, nil
		}}
	return w
}

func (w *world) sh(dir, script string) string {
	w.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// push writes a file to the environments project, as a person would.
func (w *world) push(path, text string) {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "work")
	w.sh(filepath.Dir(dir), "git clone --quiet '"+w.url+"' work 2>/dev/null; cd work; git checkout --quiet -B main")
	full := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.sh(dir, "git add . && git -c user.name=a -c user.email=a@b commit --quiet -m change && git push --quiet origin main")
}

func (w *world) head() string { return strings.TrimSpace(w.sh(w.url, "git rev-parse main")) }

func (w *world) sign() {
	w.t.Helper()
	ref, err := bundle.Parse(w.ref)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := json.Marshal(bundle.Statement{Digest: ref.Digest, Repository: ref.Repository, Service: "orders", Commit: "c0ffee"})
	if err != nil {
		w.t.Fatal(err)
	}
	bundletest.Sign(w.t, w.ref, raw)
}

func (w *world) toolRun() *tool.Run {
	w.out.Reset()
	w.log.Reset()
	return &tool.Run{Streams: tool.Streams{Out: &w.out}, Log: joblog.New(&w.log, false), Report: report.New("slipway-promote", "run", "test")}
}

// promote runs the verb and checks its exit code and a part of its error.
func (w *world) promote(code int, text string) *tool.Run {
	w.t.Helper()
	r := w.toolRun()
	err := run.Run(w.t.Context(), r, w.options)
	if tool.CodeOf(err) != code || err != nil && !strings.Contains(err.Error(), text) {
		w.t.Fatalf("got %v (code %d), want code %d and %q\n%s", err, tool.CodeOf(err), code, text, w.log.String())
	}
	return r
}

func (w *world) desired() envstate.Desired {
	w.t.Helper()
	d, err := envstate.ReadDesired("desired", []byte(w.sh(w.url, "git show main:stage/orders.desired.yaml")))
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func TestPromote(t *testing.T) {
	w := newWorld(t)
	w.sign()
	before := w.head()
	r := w.promote(0, "")
	d := w.desired()
	if d.Bundle != w.ref || d.Configuration != envstate.Revision([]byte("replicas: 2\n")) || d.By != "anna" || d.Pipeline != 9 || d.Commit != "c0ffee" || !d.At.Equal(now) {
		t.Errorf("the desired state is %+v", d)
	}
	if len(d.Gates) != 2 || !d.Gates[0].Passed || !strings.Contains(d.Gates[0].Reason, "deployment 5") || !strings.Contains(d.Gates[1].Reason, "2h0m0s") {
		t.Errorf("the gates are %+v", d.Gates)
	}
	if w.head() == before || !strings.Contains(w.out.String(), w.head()) || len(r.Report.Findings) != 2 {
		t.Errorf("result %q, findings %+v", w.out.String(), r.Report.Findings)
	}
	before = w.head()
	w.promote(0, "")
	if w.head() != before || !strings.Contains(w.out.String(), "nothing to commit") {
		t.Errorf("a second run commits: %q", w.out.String())
	}
}

// TestMonorepo: what another service of the project deployed from the same
// pipeline is no evidence of this one, and its record stands for itself.
func TestMonorepo(t *testing.T) {
	w := newWorld(t)
	w.sign()
	w.options.Snapshot.Services["refunds"] = landscape.Service{Project: landscape.Project{Path: "nsflow/orders", ID: 77}, Environments: []string{"dev", "stage"}}
	w.records.deployments[0].Environment = "refunds-dev"
	w.promote(4, "2 of 2 gates did not pass")
	w.records.deployments[0].Environment = "orders-dev"
	w.promote(0, "")
	file := filepath.Join(t.TempDir(), "observed.yaml")
	text := "apiVersion: slipway/v1\nkind: Observed\nservice: orders\nenvironment: stage\nbundle: " + w.ref + "\nrevision: 1\nstatus: deployed\nsince: 2026-11-23T10:00:00Z\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	err := record.Run(t.Context(), w.toolRun(), record.Options{Service: "orders", Bundle: w.ref, Target: "stage", Observed: file, Ref: "main", Identity: w.options.Identity,
		Snapshot: w.options.Snapshot, GitLab: w.records, Fetch: w.options.Fetch, Clone: w.options.Clone})
	if err != nil || len(w.records.made) != 1 || w.records.made[0].Environment != "orders-stage" {
		t.Errorf("recorded %+v, %v", w.records.made, err)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		code   int
		text   string
	}{
		"not signed":         {func(*world) {}, 4, "not signed"},
		"forged":             {func(w *world) { bundletest.Sign(w.t, w.ref, []byte("forged")) }, 4, "not of this key"},
		"another's":          {func(w *world) { bundletest.Sign(w.t, w.ref, []byte(`{"digest":"sha256:x"}`)) }, 4, "not of this bundle"},
		"one of two holds":   {func(w *world) { bundletest.Sign(w.t, w.ref, []byte("forged")); w.sign() }, 0, ""},
		"never in dev":       {func(w *world) { w.sign(); w.records.deployments = nil }, 4, "2 of 2 gates did not pass"},
		"a record by hand":   {func(w *world) { w.sign(); w.records.deployments[0].Pipeline = 0 }, 4, "2 of 2 gates did not pass"},
		"another pipeline":   {func(w *world) { w.sign(); w.records.deployments[0].Pipeline = 7 }, 4, "2 of 2 gates did not pass"},
		"soaking":            {func(w *world) { w.sign(); w.records.deployments[0].Finished = now }, 4, "healthy 1h0m0s: is healthy in dev for 0s so far"},
		"service project":    {func(w *world) { w.options.Identity.ProjectID = 77 }, 77, "jobs of the environments project"},
		"unprotected":        {func(w *world) { w.options.Identity.RefProtected = false }, 77, "protected branch"},
		"tag":                {func(w *world) { w.options.Identity.RefType = "tag" }, 77, "protected branch"},
		"a person":           {func(w *world) { w.options.Identity = cienv.Identity{} }, 77, "jobs of the environments project"},
		"not gated":          {func(w *world) { w.options.Target = "dev" }, 64, `environment "dev" is not gated`},
		"all at once":        {func(w *world) { w.options.Service, w.options.Target, w.options.Bundle = "x", "y", "z" }, 64, "3 problems"},
		"another's registry": {func(w *world) { w.options.Bundle = strings.Replace(w.ref, "/orders/", "/catalog/", 1) }, 64, "bundles of \"orders\" are in"},
		"outside the tree":   {func(w *world) { w.options.File = "../promotion.yaml" }, 64, "not a path in the repository"},
		"no rules":           {func(w *world) { w.options.File = "other.yaml" }, 64, `has no "other.yaml"`},
		"broken rules":       {func(w *world) { w.push("promotion.yaml", rules+"gats: {}\n") }, 64, `unknown field; did you mean "gates"?`},
		"a gate it cannot evaluate": {func(w *world) {
			w.sign()
			w.options.Target = "prod"
		}, 4, "require tests: this version of slipway-promote cannot evaluate it"},
		"new configuration": {func(w *world) { w.sign(); w.push("stage/orders.values.yaml", "replicas: 3\n") }, 4, "has changed since this pipeline started"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			before := w.head()
			w.promote(c.code, c.text)
			if c.code != 0 && w.head() != before {
				t.Error("a refused promotion has written to the repository")
			}
		})
	}
}

// TestRulesOfTheTip holds that a pipeline of an older commit has the rules of
// today.
func TestRulesOfTheTip(t *testing.T) {
	w := newWorld(t)
	w.sign()
	w.push("promotion.yaml", strings.Replace(rules, "1h", "3h", 1))
	w.promote(4, "1h0m0s to go")
}

func TestRecordAndOnward(t *testing.T) {
	w := newWorld(t)
	w.sign()
	file := filepath.Join(t.TempDir(), "observed.yaml")
	rec := record.Options{Service: "orders", Bundle: w.ref, Target: "stage", Observed: file, Ref: "main", Identity: w.options.Identity,
		Snapshot: w.options.Snapshot, GitLab: w.records, Fetch: w.options.Fetch, Clone: w.options.Clone}
	keep := func(code int, text string) {
		t.Helper()
		r := w.toolRun()
		err := record.Run(t.Context(), r, rec)
		if tool.CodeOf(err) != code || !strings.Contains(w.out.String()+errText(err), text) {
			t.Fatalf("record: %v (code %d), %q; want code %d and %q", err, tool.CodeOf(err), w.out.String(), code, text)
		}
	}
	keep(0, "nothing to record") // the gate has not let it through
	w.promote(0, "")
	keep(7, "what runs there is not known")
	rec.Gate = filepath.Join(t.TempDir(), "gate.json")
	for code, want := range map[int]int{tool.Refused: 0, tool.Temporary: 7} { // a gate that refused a bundle which is desired already
		if err := os.WriteFile(rec.Gate, fmt.Appendf(nil, `{"tool":"slipway-promote","exitCode":%d}`, code), 0o644); err != nil {
			t.Fatal(err)
		}
		keep(want, map[int]string{0: "refused by the gate", 7: "not known"}[want])
	}
	observe := func(status, ref string) {
		t.Helper()
		text := "apiVersion: slipway/v1\nkind: Observed\nservice: orders\nenvironment: stage\nbundle: " + ref + "\nrevision: 1\nstatus: " + status + "\nsince: 2026-11-23T10:00:00Z\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	observe("deployed", "other@sha256:x")
	keep(64, `says that "other@sha256:x" was deployed`)
	observe("deployed", w.ref)
	w.records.fails = errors.New("unexpected EOF") // after the observed state was committed
	keep(75, "unexpected EOF")
	w.records.fails = tool.Exitf(tool.Denied, "403 Forbidden")
	keep(77, "403 Forbidden")
	w.records.fails = nil
	keep(0, "deployment 1 in nsflow/orders")
	if got := w.records.made[0]; got.SHA != "c0ffee" || got.Environment != "stage" || got.Status != "success" || got.Ref != "main" {
		t.Errorf("the deployment is %+v", got)
	}
	keep(0, "stood there already")

	// What stands in the observed state is evidence for the next environment.
	w.push("promotion.yaml", "apiVersion: slipway/v1\nkind: Promotion\norder: [dev, stage, prod]\ngates: {prod: {healthy: 2h}}\n")
	w.options.Target, w.options.Identity.Commit = "prod", w.head()
	w.promote(0, "")

	observe("restored", "old@sha256:x")
	keep(0, "orders in stage: restored")
	if got := w.records.made[len(w.records.made)-1]; got.Status != "failed" || got.SHA != "c0ffee" {
		t.Errorf("the deployment is %+v, want a failed one", got)
	}

	// Something newer runs, and the job of the deployment before is run again.
	w.push("stage/orders.observed.yaml", "kind: Observed\nbundle: newer@sha256:x\nstatus: deployed\nsince: 2026-11-23T10:00:01Z\n")
	before, made := w.head(), len(w.records.made)
	observe("deployed", w.ref)
	keep(4, "holds a newer state, since 2026-11-23T10:00:01Z")
	if w.head() != before || len(w.records.made) != made {
		t.Error("a job of an older deployment has recorded it over the newer one")
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
