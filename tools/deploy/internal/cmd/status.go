package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/evidence"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// looking are the flags of status beside those of where to look.
func looking() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "why", Usage: "say why what is not ready is not, with what its containers logged last"},
		&cli.BoolFlag{Name: "follow", Usage: "wait as apply does, until it is ready or cannot get ready"},
		&cli.DurationFlag{Name: "timeout", Value: 5 * time.Minute, Usage: "how long to follow"},
		&cli.StringFlag{Name: "evidence", Usage: "`FILE` of evidence that a failed apply saved: say why from it, without a cluster"},
	}
}

// stated is what status says of a release.
type stated struct {
	Release   string                `json:"release"`
	Namespace string                `json:"namespace"`
	Cluster   string                `json:"cluster,omitempty"`
	Last      *helmrelease.Revision `json:"last,omitempty"`
	Deployed  *helmrelease.Revision `json:"deployed,omitempty"`
	Objects   []rollout.State       `json:"objects,omitempty"`
	Findings  []rollout.Finding     `json:"findings,omitempty"`
	Notes     []string              `json:"notes,omitempty"`
	Error     string                `json:"error,omitempty"` // of the job that saved the evidence

	why, seen bool
}

func runStatus(ctx context.Context, run *tool.Run, c *cli.Context) error {
	if file := c.String("evidence"); file != "" {
		return explainSaved(run, file)
	}
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	if c.Duration("timeout") <= 0 {
		return tool.Exitf(tool.Usage, "--timeout must be above zero, got %s", c.Duration("timeout"))
	}
	r, err := reach(ctx, run, o, nil)
	if err != nil {
		return err
	}
	defer r.watcher.Close()
	if c.Bool("follow") {
		var cancel func()
		ctx, cancel = tool.Deadline(ctx, c.Duration("timeout"), "getting ready")
		defer cancel()
	}
	all, errs := []stated{}, make([]error, len(r.releases))
	var text strings.Builder
	for i, one := range r.releases {
		var out stated
		if out, errs[i] = r.state(ctx, run, c, one); out.seen {
			all = append(all, out)
			text.WriteString(out.text())
		}
	}
	err = apply.Worst(errs)
	if len(all) == 0 {
		return err
	}
	return errors.Join(err, run.Result(all, strings.TrimSuffix(text.String(), "\n")))
}

// state says what is stored of a release and how its objects are.
func (r *reached) state(ctx context.Context, run *tool.Run, c *cli.Context, one apply.Request) (stated, error) {
	out := stated{Release: one.Name, Namespace: one.Namespace, Cluster: r.clusterName, why: c.Bool("why") || c.Bool("follow")}
	state, err := r.helm(run).Read(ctx, one.Namespace, one.Name)
	if err != nil {
		return out, err
	}
	out.Last, out.Deployed, out.seen = state.Last, state.Deployed, true
	if out.Last == nil {
		return out, nil
	}
	for _, secret := range out.Last.Secrets() { // what failed may have logged it
		run.Log.Redact(secret)
	}
	objects, err := out.Last.Objects(out.Namespace)
	if err != nil {
		return out, err
	}
	result, waited := r.look(ctx, run, c, objects, out)
	if ctx.Err() != nil && !c.Bool("follow") {
		return out, fmt.Errorf("looking at release %q: %w", out.Release, context.Cause(ctx))
	}
	var failure *rollout.Failure
	if waited != nil && !errors.As(waited, &failure) && len(result.Objects) == 0 {
		out.seen = false // nothing could be seen
		if kube.Denied(waited) {
			return out, tool.Exit(tool.Denied, waited, "the role's group has no right to this in the cluster; the tenancy release gives it")
		}
		return out, waited
	}
	out.Objects, out.Findings, out.Notes = result.Objects, result.Findings, result.Notes
	noteFindings(run, out.Findings)
	return out, waited
}

// look judges the objects of a release once, or follows them to an end.
func (r *reached) look(ctx context.Context, run *tool.Run, c *cli.Context, objects []*unstructured.Unstructured, s stated) (rollout.Result, error) {
	o := rollout.Options{Stable: rollout.ByWorkload, Progress: func(line string) { run.Log.Printf("%s: %s", s.Release, line) }}
	if s.why {
		o.Logs = rollout.Logs(r.cluster.Clientset())
	}
	if !c.Bool("follow") {
		ctx, cancel := tool.Deadline(ctx, 20*time.Second, "listing the objects")
		defer cancel()
		return r.watcher.Look(ctx, objects, o)
	}
	var result rollout.Result
	err := run.Step(ctx, "follow release "+s.Release, func(ctx context.Context) (err error) {
		result, err = r.watcher.Wait(ctx, objects, o)
		return err
	})
	return result, err
}

// explainSaved says why a release failed, from the evidence that was saved then.
func explainSaved(run *tool.Run, file string) error {
	b, err := evidence.Read(file)
	if err != nil {
		return err
	}
	out := stated{Release: b.Release, Namespace: b.Namespace, Objects: b.Objects, Findings: b.Diagnose(), Notes: b.Notes, Error: b.Error, why: true}
	noteFindings(run, out.Findings)
	return run.Result([]stated{out}, out.text())
}

// noteFindings puts the findings into the report.
func noteFindings(run *tool.Run, findings []rollout.Finding) {
	for i, f := range findings {
		level := "error"
		if f.Transient || i > 0 {
			level = "warning"
		}
		run.Report.Find(report.Finding{Level: level, Class: f.Class, Object: f.Workload.String(), Message: f.Sentence(), Evidence: f.LogTail, Next: f.Next})
	}
}

func (s stated) text() string {
	var b strings.Builder
	if s.Last == nil && s.seen {
		return fmt.Sprintf("%s is not installed in namespace %s\n", s.Release, s.Namespace)
	}
	if s.Last != nil {
		fmt.Fprintf(&b, "%s: revision %d is %s since %s (%s)\n", s.Release, s.Last.Number, s.Last.Status, s.Last.Updated.UTC().Format(time.RFC3339), s.Last.Description)
		if s.Deployed != nil && s.Deployed.Number != s.Last.Number {
			fmt.Fprintf(&b, "the last that was ready is revision %d\n", s.Deployed.Number)
		}
	}
	for _, o := range s.Objects {
		mark := "ready    "
		if !o.Ready {
			mark = "not ready"
		}
		fmt.Fprintf(&b, "%s %s: %s\n", mark, o.Object, o.Message)
	}
	for i, f := range s.Findings {
		fmt.Fprintf(&b, "%s\n", f.Sentence())
		if s.why && i == 0 && f.LogTail != "" {
			fmt.Fprintf(&b, "last lines of container %s of pod %s:\n", f.Container, f.Pod)
			for _, line := range strings.Split(strings.TrimSpace(f.LogTail), "\n") {
				fmt.Fprintf(&b, "  | %s\n", line)
			}
		}
	}
	// What the server refused is no finding of an object.
	if s.Error != "" && (len(s.Findings) == 0 || !strings.Contains(s.Error, s.Findings[0].Sentence())) {
		fmt.Fprintf(&b, "it failed: %s\n", s.Error)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return joblog.Clean(b.String())
}
