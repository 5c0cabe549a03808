// Package chain runs the main job on real input: the example repositories,
// pushed to the sandbox's GitLab, whose pipelines run the shipped templates
// with the built programs. The demo shows it; the tests hold it.
package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/pkg/joblog"
)

// Box is what the chain needs to know of the running sandbox.
type Box struct {
	GitLab struct {
		URL      string `json:"url"`
		Endpoint string `json:"endpoint"`
		Token    string `json:"token"`
	} `json:"gitlab"`
	AWS struct {
		Endpoint   string `json:"endpoint"`
		Region     string `json:"region"`
		Management string `json:"management"`
		AccessKey  string `json:"accessKey"`
		SecretKey  string `json:"secretKey"`
	} `json:"aws"`
	Clusters map[string]struct {
		Kubeconfig string `json:"kubeconfig"`
	} `json:"clusters"`
	Bin string `json:"bin"`
}

// Projects of the examples, by folder.
var projects = map[string]string{
	"platform": "nsflow/platform", "environments": "nsflow/environments", "orders": "nsflow/orders", "catalog": "nsflow/catalog",
}

// Chain is one run of the chain.
type Chain struct {
	Root string // the repository
	Box  Box
	Out  io.Writer // a line per step and job
	Work string    // folder for working copies and collected reports

	api      *gitlab.Client
	start    time.Time
	pipeline map[string]int64 // newest pipeline of a project, by example
	codes    map[int64]int    // exit codes by job
}

// New connects to the sandbox's GitLab.
func New(root string, box Box, work string, out io.Writer) (*Chain, error) {
	api, err := gitlab.NewClient(box.GitLab.Token, gitlab.WithBaseURL(box.GitLab.Endpoint), gitlab.WithOnlyIdempotentRetries())
	if err != nil {
		return nil, fmt.Errorf("connecting to the sandbox's GitLab: %w", err)
	}
	return &Chain{Root: root, Box: box, Out: out, Work: work, api: api, start: time.Now(), pipeline: map[string]int64{}, codes: map[int64]int{}}, nil
}

// Say writes a line with the time since the start.
func (c *Chain) Say(format string, args ...any) {
	fmt.Fprintf(c.Out, "[%6.1fs] %s\n", time.Since(c.start).Seconds(), fmt.Sprintf(format, args...))
}

// Job is a job that has ended, or waits for a person.
type Job struct {
	Project, Name, Status string
	ID                    int64
	ExitCode              int // 0 where GitLab knows none
	AllowFailure          bool
	Seconds               float64
	Report                string   // folder of its collected report; "" where it left none
	Lines                 []string // of its log, that say what came of it
}

// mark is the word a job's line starts with.
func (j Job) mark() string {
	switch {
	case j.Status == "success":
		return "ok   "
	case j.Status == "failed" && j.AllowFailure:
		return "WARN "
	case j.Status == "failed":
		return "FAIL "
	default:
		return j.Status + " "
	}
}

// Push commits dir, an example as a user would have it, to the project's main
// branch and returns the pipeline that GitLab made of it. change may alter the
// working copy first. options are git push options.
func (c *Chain) Push(ctx context.Context, example, message string, change func(dir string) error, options ...string) (int64, error) {
	dir := filepath.Join(c.Work, "repositories", example)
	if err := c.checkout(ctx, example, dir); err != nil {
		return 0, err
	}
	if change != nil {
		if err := change(dir); err != nil {
			return 0, err
		}
	}
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "--allow-empty", "-m", message}} {
		if err := c.git(ctx, dir, args...); err != nil {
			return 0, err
		}
	}
	push := []string{"push", "-q"}
	for _, o := range options {
		push = append(push, "-o", o)
	}
	if err := c.git(ctx, dir, append(push, "origin", "HEAD:main")...); err != nil {
		return 0, err
	}
	sha, err := c.gitOutput(ctx, dir, "rev-parse", "HEAD")
	if err != nil {
		return 0, err
	}
	if len(options) > 0 {
		return 0, nil
	}
	found, _, err := c.api.Pipelines.ListProjectPipelines(projects[example], &gitlab.ListProjectPipelinesOptions{SHA: &sha}, gitlab.WithContext(ctx))
	if err != nil {
		return 0, fmt.Errorf("finding the pipeline of %q: %w", example, err)
	}
	if len(found) == 0 {
		return 0, fmt.Errorf("finding the pipeline of %q: the push made none", example)
	}
	c.pipeline[example] = found[0].ID
	return found[0].ID, nil
}

// checkout makes dir a clone of the project with the example's files in it.
func (c *Chain) checkout(ctx context.Context, example, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	remote := c.Box.GitLab.Endpoint + "/" + projects[example] + ".git"
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "origin", remote}, {"fetch", "-q", "origin"}} {
		if err := c.git(ctx, dir, args...); err != nil {
			return err
		}
	}
	if _, err := c.gitOutput(ctx, dir, "rev-parse", "--verify", "-q", "origin/main"); err == nil {
		if err := c.git(ctx, dir, "reset", "-q", "--soft", "origin/main"); err != nil {
			return err
		}
		if example == "environments" { // what promote wrote stays
			if err := c.git(ctx, dir, "checkout", "-q", "origin/main", "--", "."); err != nil {
				return err
			}
		}
	}
	return os.CopyFS(dir, newFiles{os.DirFS(filepath.Join(c.Root, "examples", example)), dir})
}

// Start makes a pipeline with inputs, as the page "New pipeline" does.
func (c *Chain) Start(ctx context.Context, example string, inputs map[string]string) (int64, error) {
	opt := &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("main"), Inputs: gitlab.PipelineInputsOption{}}
	for k, v := range inputs {
		opt.Inputs[k] = gitlab.NewPipelineInputValue(v)
	}
	p, _, err := c.api.Pipelines.CreatePipeline(projects[example], opt, gitlab.WithContext(ctx))
	if err != nil {
		return 0, fmt.Errorf("starting a pipeline of %q: %w", example, err)
	}
	c.pipeline[example] = p.ID
	return p.ID, nil
}

// event is a line of the sandbox's GitLab about a job or, without a job's id,
// about the pipeline.
type event struct {
	Job          int64  `json:"job"`
	Name         string `json:"name"`
	Status       string `json:"status"`
	ExitCode     int    `json:"exit_code"`
	AllowFailure bool   `json:"allow_failure"`
}

// reconnects is how often a stream of events may break off.
const reconnects = 5

// Follow watches a pipeline until nothing in it runs or can run without a
// person, and prints a line as each job ends. A stream that breaks off is opened
// again: it begins with all that is so far.
func (c *Chain) Follow(ctx context.Context, example string, pipeline int64) ([]Job, error) {
	defer c.heartbeat(ctx, fmt.Sprintf("pipeline %d of %s", pipeline, projects[example]))()
	for broken := 0; ; broken++ {
		over, err := c.watch(ctx, example, pipeline)
		switch {
		case over:
			return c.jobs(ctx, example, pipeline)
		case ctx.Err() != nil || broken == reconnects:
			return nil, fmt.Errorf("watching pipeline %d: %w", pipeline, err)
		}
		c.Say("  the events of pipeline %d broke off (%v): following it again", pipeline, err)
	}
}

// watch notes the events of one stream, and says whether the pipeline is over.
func (c *Chain) watch(ctx context.Context, example string, pipeline int64) (over bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/-/slipway/pipelines/%d/events", c.Box.GitLab.Endpoint, pipeline), nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("PRIVATE-TOKEN", c.Box.GitLab.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, errors.New(resp.Status)
	}
	status := ""
	for lines := json.NewDecoder(resp.Body); ; {
		var e event
		if err := lines.Decode(&e); err != nil {
			return slices.Contains([]string{"success", "failed", "canceled", "skipped", "manual"}, status), err
		}
		if e.Job == 0 {
			status = e.Status
		}
		c.note(projects[example], e)
	}
}

// note keeps the exit code of a job that has ended, which GitLab's own API
// does not tell, and prints the job's line once.
func (c *Chain) note(project string, e event) {
	if e.Job == 0 || e.Status != "success" && e.Status != "failed" && e.Status != "canceled" {
		return
	}
	if _, known := c.codes[e.Job]; known {
		return
	}
	c.codes[e.Job] = e.ExitCode
	code := ""
	if e.Status == "failed" {
		code = fmt.Sprintf(" %d", e.ExitCode)
	}
	c.Say("  %s%s %s: %s", strings.TrimSpace(Job{Status: e.Status, AllowFailure: e.AllowFailure}.mark()), code, project, e.Name)
}

// heartbeat keeps the log from being silent for half a minute.
func (c *Chain) heartbeat(ctx context.Context, what string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		t := time.NewTicker(20 * time.Second)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				c.Say("  still at: %s", what)
			}
		}
	}()
	return cancel
}

// jobs lists a pipeline's jobs.
func (c *Chain) jobs(ctx context.Context, example string, pipeline int64) ([]Job, error) {
	list, _, err := c.api.Jobs.ListPipelineJobs(projects[example], pipeline, &gitlab.ListJobsOptions{ListOptions: gitlab.ListOptions{PerPage: 100}}, gitlab.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("listing the jobs of pipeline %d: %w", pipeline, err)
	}
	var out []Job
	for _, j := range list {
		out = append(out, Job{Project: projects[example], Name: j.Name, Status: j.Status, ID: j.ID, AllowFailure: j.AllowFailure, Seconds: j.Duration, ExitCode: c.codes[j.ID]})
	}
	slices.SortFunc(out, func(a, b Job) int { return int(a.ID - b.ID) })
	return out, nil
}

// Green returns an error with the log of each job that failed and may not.
func (c *Chain) Green(ctx context.Context, jobs []Job) error {
	var all []error
	for _, j := range jobs {
		if j.Status == "success" || j.Status == "manual" || j.Status == "failed" && j.AllowFailure {
			continue
		}
		all = append(all, fmt.Errorf("job %q of %s is %s (exit %d):\n%s", j.Name, j.Project, j.Status, j.ExitCode, c.Trace(ctx, j)))
	}
	return errors.Join(all...)
}

// Trace returns the end of a job's log.
func (c *Chain) Trace(ctx context.Context, j Job) string {
	r, _, err := c.api.Jobs.GetTraceFile(j.Project, j.ID, gitlab.WithContext(ctx))
	if err != nil {
		return err.Error()
	}
	raw, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return err.Error()
	}
	return tail(joblog.Clean(sections.ReplaceAllString(string(raw), "")), 6000)
}

// sections are the marks that fold a log on GitLab's page.
var sections = regexp.MustCompile(`(\x1b\[0K)?section_(start|end):[^\r\n]*\r`)

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "...\n" + s[len(s)-n:]
}

// Find returns the job whose name starts with prefix.
func Find(jobs []Job, prefix string) (Job, error) {
	for _, j := range jobs {
		if strings.HasPrefix(j.Name, prefix) {
			return j, nil
		}
	}
	return Job{}, fmt.Errorf("finding job %q: the pipeline has none", prefix)
}

// Press plays a manual job, as a person does, and follows the pipeline on.
func (c *Chain) Press(ctx context.Context, example string, job Job) ([]Job, error) {
	if _, _, err := c.api.Jobs.PlayJob(projects[example], job.ID, nil, gitlab.WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("pressing %q: %w", job.Name, err)
	}
	return c.Follow(ctx, example, c.pipeline[example])
}

// Retry starts a job that has ended once more, and follows its pipeline on.
func (c *Chain) Retry(ctx context.Context, example string, job Job) ([]Job, error) {
	again, _, err := c.api.Jobs.RetryJob(projects[example], job.ID, gitlab.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("starting %q again: %w", job.Name, err)
	}
	return c.Follow(ctx, example, again.Pipeline.ID)
}

// Newest returns the newest pipeline of a project.
func (c *Chain) Newest(ctx context.Context, example string) (int64, error) {
	p, _, err := c.api.Pipelines.ListProjectPipelines(projects[example], &gitlab.ListProjectPipelinesOptions{ListOptions: gitlab.ListOptions{PerPage: 1}}, gitlab.WithContext(ctx))
	if err != nil {
		return 0, fmt.Errorf("finding the newest pipeline of %q: %w", example, err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	return p[0].ID, nil
}
