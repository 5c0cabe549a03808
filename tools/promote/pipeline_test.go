package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-containerregistry/pkg/registry"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/internal/mototest"
	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/bundle/bundletest"
	"gitlab.com/slipway/slipway/pkg/gitlabapi/gitlabapitest"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/seal"
)

const (
	adminToken = "glpat-admin-0123456789"
	issuer     = "https://gitlab.example.com"
)

// environmentsPipeline is the environments project's side, without the
// templates: what is tested is the program in real jobs. Its deployment is a
// file, as slipway-deploy apply leaves it.
const environmentsPipeline = `spec:
  inputs:
    service: {default: ''}
    bundle: {default: ''}
    target: {default: ''}
---
gate:
  rules: [{if: '"$[[ inputs.service ]]" != ""'}]
  id_tokens: {SLIPWAY_ID_TOKEN: {aud: https://gitlab.example.com}}
  script:
    - slipway-promote run --service $[[ inputs.service ]] --bundle $[[ inputs.bundle ]] --target $[[ inputs.target ]]
record:
  needs: [gate]
  rules: [{if: '"$[[ inputs.service ]]" != ""'}]
  id_tokens: {SLIPWAY_ID_TOKEN: {aud: https://gitlab.example.com}}
  script:
    - |
      printf 'apiVersion: slipway/v1\nkind: Observed\nservice: orders\nenvironment: stage\nbundle: $[[ inputs.bundle ]]\nrevision: 1\nstatus: deployed\nsince: 2026-01-01T00:00:00Z\n' > observed.yaml
    - slipway-promote record --service $[[ inputs.service ]] --bundle $[[ inputs.bundle ]] --target $[[ inputs.target ]]
`

// parts are what a GitLab's jobs work with: a signing key and a registry, both
// behind proxies, and the program on their PATH.
type parts struct {
	t             *testing.T
	bin, snapshot string
	runner        []string
	moto          string
	registry      string
	key           string
	cfg           aws.Config
	log           *faultproxy.Log
}

// chain is a GitLab with its jobs.
type chain struct {
	*parts
	endpoint string
	gitlab   *gitlab.Client
	stop     func()
}

func newParts(t *testing.T) *parts {
	runner := os.Getenv("SLIPWAY_GITLAB_CI_LOCAL")
	if runner == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("SLIPWAY_GITLAB_CI_LOCAL is not set: run the tests with make test")
		}
		t.Skip("needs gitlab-ci-local: run make test, or set SLIPWAY_GITLAB_CI_LOCAL to its command line")
	}
	p := &parts{t: t, bin: t.TempDir(), runner: strings.Fields(runner), log: &faultproxy.Log{}}
	p.moto = p.proxy(faultproxy.AWS(), mototest.Start(t))
	p.sh(".", "go build -o '"+p.bin+"/slipway-promote' .")
	reg := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(reg.Close)
	p.registry = strings.TrimPrefix(p.proxy(faultproxy.Registry(), reg.URL), "http://")
	p.signingKey()
	p.snapshot = filepath.Join(p.bin, "snapshot.json")
	raw, err := json.Marshal(landscape.Snapshot{APIVersion: "slipway/v1", Kind: "LandscapeSnapshot", Name: "nsflow", Region: "eu-central-1", BundleKey: p.key,
		GitLab:       landscape.GitLab{URL: issuer, Audience: issuer, Environments: landscape.Project{Path: "nsflow/environments", ID: 43}},
		Environments: map[string]landscape.Environment{"dev": {}, "stage": {Gated: true}},
		Services:     map[string]landscape.Service{"orders": {Project: landscape.Project{Path: "nsflow/orders", ID: 77}, Environments: []string{"dev", "stage"}}},
		Roles:        []landscape.Role{{Name: "environments-stage", ARN: "arn:aws:iam::123456789012:role/environments-stage", Purpose: landscape.PurposeEnvironment, Environment: "stage"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.snapshot, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// proxy starts a proxy of the parts' log and returns its address.
func (p *parts) proxy(part faultproxy.Part, upstream string) string {
	p.t.Helper()
	proxy, err := faultproxy.Start(faultproxy.Config{Part: part, Upstream: upstream, Log: p.log})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(proxy.Close)
	return proxy.URL
}

// newChain starts a GitLab whose jobs find the program on PATH.
func newChain(p *parts) *chain {
	t := p.t
	c := &chain{parts: p}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.endpoint = "http://" + listener.Addr().String()
	server, err := gitlabapitest.New(gitlabapitest.Config{Root: t.TempDir(), ExternalURL: issuer, Endpoint: c.endpoint, Registry: c.registry, AdminToken: adminToken,
		Projects: []gitlabapitest.Project{
			{ID: 43, Path: "nsflow/environments", DefaultBranch: "main", ProtectedBranches: []string{"main"}, JobTokenAllowlist: []int64{77}, PushForJobToken: true},
			{ID: 77, Path: "nsflow/orders", DefaultBranch: "main", ProtectedBranches: []string{"main"}, JobTokenAllowlist: []int64{43}}},
		Runner: gitlabapitest.Runner{Command: p.runner, Path: []string{p.bin},
			Env: map[string]string{"SLIPWAY_LANDSCAPE": p.snapshot, "AWS_ENDPOINT_URL": p.moto, "AWS_REGION": "eu-central-1"}}})
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: server}
	go func() { _ = h.Serve(listener) }()
	c.stop = sync.OnceFunc(func() { server.Close(); _ = h.Close() })
	t.Cleanup(c.stop)
	if c.gitlab, err = gitlab.NewClient(adminToken, gitlab.WithBaseURL(c.endpoint)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *parts) signingKey() {
	p.t.Setenv("AWS_ENDPOINT_URL", p.moto)
	p.t.Setenv("AWS_ACCESS_KEY_ID", "test")
	p.t.Setenv("AWS_SECRET_ACCESS_KEY", "testtest")
	var err error
	if p.cfg, err = config.LoadDefaultConfig(p.t.Context(), config.WithRegion("eu-central-1")); err != nil {
		p.t.Fatal(err)
	}
	key, err := kms.NewFromConfig(p.cfg).CreateKey(p.t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		p.t.Fatal(err)
	}
	p.key = *key.KeyMetadata.Arn
}

func (p *parts) sh(dir, script string) string {
	p.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// push makes the first commit of a project and returns it.
func (c *chain) push(project string, files map[string]string) string {
	c.t.Helper()
	dir := c.t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	return c.sh(dir, "git init --quiet -b main . && git add . && git -c user.name=Bob -c user.email=bob@example.com commit --quiet -m first && git push --quiet "+
		strings.Replace(c.endpoint, "://", "://oauth2:"+adminToken+"@", 1)+"/"+project+".git main && git rev-parse HEAD")
}

// wait follows the newest pipeline of a project to its end, and returns its
// jobs with their logs.
func (c *chain) wait(project int64) (pipeline int64, status map[string]string, logs string) {
	c.t.Helper()
	list, _, err := c.gitlab.Pipelines.ListProjectPipelines(project, nil)
	if err != nil || len(list) == 0 {
		c.t.Fatalf("project %d has no pipeline: %v", project, err)
	}
	pipeline = list[0].ID
	resp, err := c.gitlab.HTTPClient().Do(c.request("/-/slipway/pipelines/" + strconv.FormatInt(pipeline, 10) + "/events"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil { // the stream ends with the pipeline
		c.t.Fatal(err)
	}
	jobs, _, err := c.gitlab.Jobs.ListPipelineJobs(project, pipeline, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	status = map[string]string{}
	for _, j := range jobs {
		status[j.Name] = j.Status
		r, _, err := c.gitlab.Jobs.GetTraceFile(project, j.ID)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			c.t.Fatal(err)
		}
		logs += "--- " + j.Name + " " + j.Status + "\n" + string(text) + "\n"
	}
	return pipeline, status, logs
}

func (c *chain) request(path string) *http.Request {
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.endpoint+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("PRIVATE-TOKEN", adminToken)
	return req
}

// candidate makes a signed bundle of a commit that was deployed to dev, and
// returns its reference.
func (c *chain) candidate(commit string) string {
	c.t.Helper()
	ref := bundletest.Push(c.t, c.registry+"/nsflow/orders/bundle", bundle.Config{Service: "orders", Commit: commit, Project: bundle.Project{Path: "nsflow/orders", ID: 77}}, bundle.ArtifactType)
	c.sign(ref, commit)
	if _, _, err := c.gitlab.Deployments.CreateProjectDeployment(77, &gitlab.CreateProjectDeploymentOptions{Environment: gitlab.Ptr("dev"), Ref: gitlab.Ptr("main"),
		SHA: &commit, Tag: gitlab.Ptr(false), Status: gitlab.Ptr(gitlab.DeploymentStatusSuccess)}); err != nil {
		c.t.Fatal(err)
	}
	return ref
}

// clone returns a clone of the environments project.
func (c *chain) clone() string {
	c.t.Helper()
	dir := c.t.TempDir()
	c.sh(dir, "git clone --quiet "+strings.Replace(c.endpoint, "://", "://oauth2:"+adminToken+"@", 1)+"/nsflow/environments.git .")
	return dir
}

// TestPromotionByPipelines presses the button: request in the service's job,
// run and record in the environments project's.
func TestPromotionByPipelines(t *testing.T) {
	c := newChain(newParts(t))
	c.push("nsflow/environments", map[string]string{".gitlab-ci.yml": environmentsPipeline, "stage/orders.values.yaml": "replicas: 2\n",
		"promotion.yaml": "apiVersion: slipway/v1\nkind: Promotion\norder: [dev, stage]\ngates: {stage: {healthy: 0s, actor: {notAuthor: true}}}\n"})
	// The bundle names the commit, so that it comes after it, in a file.
	file := filepath.Join(t.TempDir(), "bundle")
	commit := c.push("nsflow/orders", map[string]string{".gitlab-ci.yml": `promote:
  when: manual
  id_tokens: {SLIPWAY_ID_TOKEN: {aud: https://gitlab.example.com}}
  script:
    - export SLIPWAY_BUNDLE=$(cat ` + file + `)
    - slipway-promote request --to stage
`})
	if err := os.WriteFile(file, []byte(c.candidate(commit)), 0o644); err != nil {
		t.Fatal(err)
	}
	list, _, err := c.gitlab.Pipelines.ListProjectPipelines(77, nil)
	if err != nil || len(list) == 0 {
		t.Fatalf("orders has no pipeline: %v", err)
	}
	jobs, _, err := c.gitlab.Jobs.ListPipelineJobs(77, list[0].ID, nil)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("orders has the jobs %v, %v", jobs, err)
	}
	if _, _, err := c.gitlab.Jobs.PlayJob(77, jobs[0].ID, nil); err != nil {
		t.Fatal(err)
	}
	if _, status, logs := c.wait(77); status["promote"] != "success" || !strings.Contains(logs, "promotion of orders to stage started: https://gitlab.example.com/nsflow/environments/-/pipelines/") {
		t.Fatalf("the button: %v\n%s", status, logs)
	}
	_, status, logs := c.wait(43)
	if status["gate"] != "success" || status["record"] != "success" {
		t.Fatalf("the promotion: %v\n%s", status, logs)
	}
	for _, want := range []string{"passed  order: was deployed to dev", "passed  actor.notAuthor", "desired state written as", "orders in stage: deployed"} {
		if !strings.Contains(logs, want) {
			t.Errorf("%q is not in\n%s", want, logs)
		}
	}
	if got := c.sh(c.clone(), "git log --format='%an: %s'"); got != "Slipway: orders in stage: deployed\nSlipway: promote orders to stage\nBob: first" {
		t.Errorf("the history is\n%s", got)
	}
	deployments, _, err := c.gitlab.Deployments.ListProjectDeployments(77, &gitlab.ListProjectDeploymentsOptions{Environment: gitlab.Ptr("stage")})
	if err != nil || len(deployments) != 1 || deployments[0].SHA != commit || deployments[0].Status != "success" {
		t.Errorf("the deployments to stage are %v, %v", deployments, err)
	}
}

// sign signs as slipway-deploy bundle does, over RAW: moto takes a DIGEST for a
// message and hashes it again.
func (p *parts) sign(ref, commit string) {
	p.t.Helper()
	parsed, err := bundle.Parse(ref)
	if err != nil {
		p.t.Fatal(err)
	}
	payload, err := json.Marshal(bundle.Statement{Digest: parsed.Digest, Repository: parsed.Repository, Service: "orders", Commit: commit})
	if err != nil {
		p.t.Fatal(err)
	}
	message := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(seal.BundleType), seal.BundleType, len(payload), payload)
	out, err := kms.NewFromConfig(p.cfg).Sign(p.t.Context(), &kms.SignInput{KeyId: &p.key, Message: message,
		MessageType: types.MessageTypeRaw, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	if err != nil {
		p.t.Fatal(err)
	}
	envelope, err := json.Marshal(seal.Envelope{PayloadType: seal.BundleType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []seal.Signature{{KeyID: p.key, Sig: base64.StdEncoding.EncodeToString(out.Signature)}}})
	if err != nil {
		p.t.Fatal(err)
	}
	bundletest.Sign(p.t, ref, envelope)
}
