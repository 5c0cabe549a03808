package chain_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/sandbox/internal/chain"
)

// open connects to the running sandbox.
func open(t *testing.T) *chain.Chain {
	t.Helper()
	dir := os.Getenv("SLIPWAY_SANDBOX")
	if dir == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("SLIPWAY_SANDBOX is not set: run the tests with make test")
		}
		t.Skip("needs the sandbox: run make test")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "sandbox.json"))
	if err != nil {
		t.Fatal(err)
	}
	var box chain.Box
	if err := json.Unmarshal(raw, &box); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	c, err := chain.New(root, box, t.TempDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestChain is the main job, step by step, and then what must be refused and
// survived. The stories build on each other, so they run in order.
func TestChain(t *testing.T) {
	c := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	reports := map[string][]chain.Job{}
	for _, s := range c.Steps() {
		ok := t.Run(s.Name, func(t *testing.T) {
			jobs, err := s.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			reports[s.Name] = jobs
		})
		if !ok {
			t.FailNow()
		}
	}
	t.Run("the second bootstrap changed nothing", func(t *testing.T) { secondBootstrap(t, c, reports["platform pipeline"]) })
	t.Run("an overtaken deployment is refused", func(t *testing.T) { overtaken(ctx, t, c, reports["promotion of orders to stage"]) })
	t.Run("orders is refused the role of stage", func(t *testing.T) { ordersAsksForStage(ctx, t, c) })
	t.Run("an input outside its options is refused", func(t *testing.T) { inputRefused(ctx, t, c) })
	t.Run("a variable from outside is refused", func(t *testing.T) { variableRefused(ctx, t, c) })
	t.Run("what only the program can judge ends in 64", func(t *testing.T) { programRefuses(ctx, t, c) })
	t.Run("a merge request has a review app and a note", func(t *testing.T) { reviewApp(ctx, t, c) })
	t.Run("a forgotten review app is swept", func(t *testing.T) { forgottenApp(ctx, t, c) })
	t.Run("a deployment killed in the middle", func(t *testing.T) { killed(ctx, t, c) })
}

func secondBootstrap(t *testing.T, c *chain.Chain, jobs []chain.Job) {
	job, err := chain.Find(jobs, "bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	trace := c.Trace(t.Context(), job)
	if !strings.Contains(trace, "nothing to change") {
		t.Errorf("the job does not say that nothing is to change:\n%s", trace)
	}
}

// overtaken promotes the bundle again, with a new configuration, and starts the
// deployment of the promotion before it once more: it is no longer what is
// desired, and must not bring the old configuration back.
func overtaken(ctx context.Context, t *testing.T, c *chain.Chain, before []chain.Job) {
	old, err := chain.Find(before, "deploy")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Push(ctx, "environments", "orders: two replicas", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "stage", "orders.values.yaml"), []byte("replicas: 2\n"), 0o644)
	}, "ci.skip")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Promote(ctx, "orders", "stage"); err != nil {
		t.Fatal(err)
	}
	jobs, err := c.Retry(ctx, "environments", old)
	if err != nil {
		t.Fatal(err)
	}
	again, err := chain.Find(jobs, "deploy")
	if err != nil {
		t.Fatal(err)
	}
	trace := c.Trace(ctx, again)
	if again.Status != "failed" || again.ExitCode != 4 || !strings.Contains(trace, "the configuration desired is") {
		t.Errorf("the job is %s with exit code %d, want failed with 4:\n%s", again.Status, again.ExitCode, trace)
	}
}

// ordersAsksForStage puts the gated environment into the list of the service's
// own pipeline: AWS refuses the role, since it trusts the environments project.
func ordersAsksForStage(ctx context.Context, t *testing.T, c *chain.Chain) {
	pipeline, err := c.Push(ctx, "orders", "orders: reach for stage", replace(".gitlab-ci.yml", "environments: [dev]", "environments: [stage]"))
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := c.Follow(ctx, "orders", pipeline)
	if err != nil {
		t.Fatal(err)
	}
	job, err := chain.Find(jobs, "deploy: [stage]")
	if err != nil {
		t.Fatal(err)
	}
	if job.Status != "failed" || job.ExitCode != 77 {
		t.Errorf("the job is %s with exit code %d, want failed with 77:\n%s", job.Status, job.ExitCode, c.Trace(ctx, job))
	}
}

func replace(file, from, to string) func(string) error {
	return func(dir string) error {
		path := filepath.Join(dir, file)
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.Contains(string(raw), from) {
			return os.ErrNotExist
		}
		return os.WriteFile(path, []byte(strings.Replace(string(raw), from, to, 1)), 0o644)
	}
}

func inputRefused(ctx context.Context, t *testing.T, c *chain.Chain) {
	_, err := c.Start(ctx, "environments", map[string]string{"service": "orders", "target": "moon", "bundle": "x"})
	if err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "target") {
		t.Errorf("got %v, want a 400 that names the input", err)
	}
}

// variableRefused: a pipeline variable would win over the pipeline's file, and
// could name another landscape, with another bundle key, to the environments
// project's jobs. Bootstrap has switched such variables off.
func variableRefused(ctx context.Context, t *testing.T, c *chain.Chain) {
	api, err := gitlab.NewClient(c.Box.GitLab.Token, gitlab.WithBaseURL(c.Box.GitLab.Endpoint))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = api.Pipelines.CreatePipeline("nsflow/environments", &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main"),
		Inputs:    gitlab.PipelineInputsOption{"task": gitlab.NewPipelineInputValue("backup")},
		Variables: &[]*gitlab.PipelineVariableOptions{{Key: gitlab.Ptr("SLIPWAY_LANDSCAPE"), Value: gitlab.Ptr("gitlab:nsflow/orders")}}}, gitlab.WithContext(ctx))
	if err == nil || !strings.Contains(err.Error(), "Insufficient permissions to set pipeline variables") {
		t.Errorf("got %v, want a refusal of the variable", err)
	}
}

func programRefuses(ctx context.Context, t *testing.T, c *chain.Chain) {
	pipeline, err := c.Start(ctx, "environments", map[string]string{"service": "orders", "target": "stage", "bundle": "registry.example.com/orders/bundle:latest"})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := c.Follow(ctx, "environments", pipeline)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := chain.Find(jobs, "gate")
	if err != nil {
		t.Fatal(err)
	}
	if gate.ExitCode != 64 {
		t.Errorf("the gate ended with %d, want 64:\n%s", gate.ExitCode, c.Trace(ctx, gate))
	}
	if deploy, err := chain.Find(jobs, "deploy"); err != nil || deploy.Status == "success" {
		t.Errorf("the deployment is %q (%v) after a refused gate", deploy.Status, err)
	}
}
