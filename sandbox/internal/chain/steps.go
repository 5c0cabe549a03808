package chain

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// Step is a part of the chain, with what it showed.
type Step struct {
	Name  string
	Shows string // what a reader learns from it
	Run   func(ctx context.Context) ([]Job, error)
}

// Steps are the programs' steps in their order, on the four examples.
func (c *Chain) Steps() []Step {
	return []Step{
		{"bootstrap, by a person", "the organisation gets the accounts, trust, state backends and audit trail of the landscape; no job has rights yet", c.firstBootstrap},
		{"platform pipeline", "bootstrap again in CI, through an ID token, which has to find nothing to change; terraform plans and applies a stack per account; the add-on set is deployed", c.platform},
		{"environments project", "gates and schedules are in place", c.environments},
		{"orders pipeline", "build by digest, deploy to dev, signed release bundle", c.service("orders")},
		{"catalog pipeline", "build by digest, deploy to dev, signed release bundle", c.service("catalog")},
		{"backup of dev", "a Velero backup, read back and compared with what was there", c.backup},
		{"promotion of orders to stage", "the button of the orders pipeline: gate, desired state, deployment, observed state, record", c.promote},
		{"disaster-recovery drill", "the backup restored into quarantine, workloads ready, RPO and RTO, cleaned up; on fake nodes no data is proven, and the job has to say so with 7", c.drill},
	}
}

// firstBootstrap is what a person does once, with administrator credentials of
// the management account; see docs/decisions/0004.
func (c *Chain) firstBootstrap(ctx context.Context) ([]Job, error) {
	report := filepath.Join(c.Work, "reports", "first-bootstrap")
	cmd := exec.CommandContext(ctx, filepath.Join(c.Root, "bin", "slipway-bootstrap"), "apply",
		"--dir", filepath.Join(c.Root, "examples", "platform", "landscape"), "--report-dir", report)
	cmd.Env = append(cleanEnv(),
		"AWS_ENDPOINT_URL="+c.Box.AWS.Endpoint, "AWS_REGION="+c.Box.AWS.Region,
		"AWS_ACCESS_KEY_ID="+c.Box.AWS.AccessKey, "AWS_SECRET_ACCESS_KEY="+c.Box.AWS.SecretKey,
		"CI_SERVER_URL="+c.Box.GitLab.URL, "SLIPWAY_GITLAB_ENDPOINT="+c.Box.GitLab.Endpoint, "SLIPWAY_GITLAB_TOKEN="+c.Box.GitLab.Token)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	stop := c.heartbeat(ctx, "slipway-bootstrap apply")
	err := cmd.Run()
	stop()
	job := Job{Project: "a terminal", Name: "slipway-bootstrap apply", Status: "success", Seconds: time.Since(start).Seconds(), Report: report}
	if err != nil {
		return nil, fmt.Errorf("running the first bootstrap: %w\n%s", err, tail(out.String(), 6000))
	}
	c.Say("  %s%s: %s (%.1f s)", job.mark(), job.Project, job.Name, job.Seconds)
	return []Job{job}, nil
}

// cleanEnv is this process's environment without identities: a developer's own
// keys must not make the demo work.
func cleanEnv() []string {
	var out []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "CI_") || strings.HasPrefix(name, "GITLAB_") || strings.HasPrefix(name, "SLIPWAY_") || name == "CI" || name == "KUBECONFIG" {
			continue
		}
		out = append(out, kv)
	}
	return out
}

func (c *Chain) platform(ctx context.Context) ([]Job, error) {
	jobs, err := c.pushed(ctx, "platform")
	if err != nil {
		return jobs, err
	}
	second, err := Find(jobs, "bootstrap")
	if err != nil {
		return jobs, err
	}
	var done struct {
		Changes []struct{ Resource, Action string }
	}
	if err := second.Result("slipway-bootstrap", &done); err != nil {
		return jobs, err
	}
	if len(done.Changes) > 0 {
		return jobs, fmt.Errorf("bootstrap found something to change right after it had run: %v", done.Changes)
	}
	return jobs, nil
}

// environments has no job of its own on a push: its pipelines are started by
// buttons and schedules.
func (c *Chain) environments(ctx context.Context) ([]Job, error) {
	_, err := c.Push(ctx, "environments", "environments: gates, backup and drill", nil, "ci.skip")
	return nil, err
}

func (c *Chain) service(example string) func(context.Context) ([]Job, error) {
	return func(ctx context.Context) ([]Job, error) { return c.pushed(ctx, example) }
}

func (c *Chain) pushed(ctx context.Context, example string) ([]Job, error) {
	pipeline, err := c.Push(ctx, example, example+": as in the example", nil)
	if err != nil {
		return nil, err
	}
	return c.settle(ctx, example, pipeline)
}

// settle follows a pipeline to its end, collects its reports and wants it green.
func (c *Chain) settle(ctx context.Context, example string, pipeline int64) ([]Job, error) {
	jobs, err := c.Follow(ctx, example, pipeline)
	if err != nil {
		return nil, err
	}
	if err := c.Collect(ctx, jobs); err != nil {
		return jobs, err
	}
	c.tell(ctx, jobs)
	return jobs, c.Green(ctx, jobs)
}

// telling are the lines of a job's log that say what came of it.
var telling = regexp.MustCompile(`^(nothing to change|\S+: revision \d+ is|backup of|read back +\d|passed |FAILED |RPO|RTO|data unproven|verdict)|observed state written| to add, `)

// tell prints the telling lines of the jobs' logs, and keeps them for the page.
func (c *Chain) tell(ctx context.Context, jobs []Job) {
	for i := range jobs {
		j := &jobs[i]
		if j.Status != "success" && j.Status != "failed" {
			continue
		}
		seen := map[string]bool{}
		for line := range strings.Lines(c.Trace(ctx, *j)) {
			line = strings.TrimSpace(line)
			if !telling.MatchString(line) || seen[line] {
				continue
			}
			seen[line] = true
			j.Lines = append(j.Lines, line)
			c.Say("       %s: %s", j.Name, line)
		}
	}
}

func (c *Chain) backup(ctx context.Context) ([]Job, error) {
	pipeline, err := c.Start(ctx, "environments", map[string]string{"task": "backup"})
	if err != nil {
		return nil, err
	}
	return c.settle(ctx, "environments", pipeline)
}

func (c *Chain) drill(ctx context.Context) ([]Job, error) {
	pipeline, err := c.Start(ctx, "environments", map[string]string{"task": "drill"})
	if err != nil {
		return nil, err
	}
	jobs, err := c.settle(ctx, "environments", pipeline)
	if err != nil {
		return jobs, err
	}
	drill, err := Find(jobs, "drill")
	if err != nil {
		return jobs, err
	}
	return jobs, c.proven(ctx, drill)
}

// proven wants a drill that did all it could: 7 is its only honest end on fake
// nodes, whose volumes hold no data, and for no other reason.
func (c *Chain) proven(ctx context.Context, drill Job) error {
	var got struct {
		Restored  int
		RTO       *float64
		RPO       float64
		Checks    []struct{ Name, Status string }
		Problems  []string
		Unproven  []string
		CleanedUp bool
	}
	if err := drill.Result("slipway-backup", &got); err != nil {
		return err
	}
	ready := slices.ContainsFunc(got.Checks, func(k struct{ Name, Status string }) bool { return k.Name == "ready" && k.Status == "green" })
	data := slices.ContainsFunc(got.Unproven, func(s string) bool { return strings.Contains(s, "data unproven") })
	if drill.ExitCode != 7 || !ready || !data || got.Restored == 0 || got.RTO == nil || got.RPO <= 0 || !got.CleanedUp || len(got.Problems) > 0 {
		return fmt.Errorf("the drill ended with %d and %+v; it has to restore, be ready, tell RPO and RTO, clean up, and end with 7 for data that fake nodes do not have:\n%s",
			drill.ExitCode, got, c.Trace(ctx, drill))
	}
	return nil
}

// promote presses the button of the orders pipeline and follows the pipeline
// that it starts in the environments project.
func (c *Chain) promote(ctx context.Context) ([]Job, error) {
	return c.Promote(ctx, "orders", "stage")
}

// Promote presses a service's button for a target, also one that was pressed
// before.
func (c *Chain) Promote(ctx context.Context, example, target string) ([]Job, error) {
	jobs, err := c.jobs(ctx, example, c.pipeline[example])
	if err != nil {
		return nil, err
	}
	button, err := Find(jobs, "promote: ["+target+"]")
	if err != nil {
		return nil, err
	}
	before, err := c.Newest(ctx, "environments")
	if err != nil {
		return nil, err
	}
	if button.Status == "manual" {
		jobs, err = c.Press(ctx, example, button)
	} else {
		jobs, err = c.Retry(ctx, example, button)
	}
	if err != nil {
		return nil, err
	}
	if err := c.Collect(ctx, jobs); err != nil {
		return jobs, err
	}
	if err := c.Green(ctx, jobs); err != nil {
		return jobs, err
	}
	button, err = Find(jobs, button.Name)
	if err != nil {
		return jobs, err
	}
	after, err := c.Newest(ctx, "environments")
	if err != nil {
		return jobs, err
	}
	if after == before {
		return jobs, fmt.Errorf("promoting %q: the button started no pipeline in the environments project", example)
	}
	c.pipeline["environments"] = after
	downstream, err := c.settle(ctx, "environments", after)
	return append([]Job{button}, downstream...), err
}

// Collect downloads the reports that jobs left, and names them in Job.Report.
func (c *Chain) Collect(ctx context.Context, jobs []Job) error {
	for i := range jobs {
		for _, tool := range []string{"slipway-bootstrap", "slipway-terraform", "slipway-deploy", "slipway-promote", "slipway-backup"} {
			for _, ext := range []string{".json", ".html"} {
				if err := c.collect(ctx, &jobs[i], tool+ext); err != nil {
					return fmt.Errorf("collecting %q of job %q: %w", tool+ext, jobs[i].Name, err)
				}
			}
		}
	}
	return nil
}

// collect downloads one file of a report, where the job left it.
func (c *Chain) collect(ctx context.Context, j *Job, file string) error {
	r, _, err := c.api.Jobs.DownloadSingleArtifactsFile(j.Project, j.ID, "slipway-report/"+reportFolder(j.Name)+"/"+file, gitlab.WithContext(ctx))
	if gitlab.HasStatusCode(err, http.StatusNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.Work, "reports", fmt.Sprintf("job-%d", j.ID))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, file), raw, 0o644); err != nil {
		return err
	}
	j.Report = dir
	return nil
}

// reportFolder is where the templates let a job leave its report:
// "deploy: [dev]" writes to deploy-dev.
func reportFolder(job string) string {
	return strings.NewReplacer(": [", "-", "]", "").Replace(job)
}

// Result reads the result out of a job's collected report.
func (j Job) Result(tool string, v any) error {
	raw, err := os.ReadFile(filepath.Join(j.Report, tool+".json"))
	if err != nil {
		return fmt.Errorf("reading the report of job %q: %w", j.Name, err)
	}
	doc := struct {
		Result json.RawMessage `json:"result"`
	}{}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("reading the report of job %q: %w", j.Name, err)
	}
	return json.Unmarshal(doc.Result, v)
}
