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
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
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

// stated is the result of status.
type stated struct {
	Service   string                `json:"service"`
	Namespace string                `json:"namespace"`
	Cluster   string                `json:"cluster,omitempty"`
	Last      *helmrelease.Revision `json:"last,omitempty"`
	Deployed  *helmrelease.Revision `json:"deployed,omitempty"`
	Objects   []rollout.State       `json:"objects,omitempty"`
	Findings  []rollout.Finding     `json:"findings,omitempty"`
	Notes     []string              `json:"notes,omitempty"`

	why bool
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
	out, kc, err := stored(ctx, run, o)
	if err != nil {
		return err
	}
	if out.Last == nil {
		return run.Result(out, out.Service+" is not installed in "+o.environment)
	}
	objects, err := out.Last.Objects(out.Namespace)
	if err != nil {
		return err
	}
	watcher := rollout.NewWatcher(kc)
	defer watcher.Close()
	out.why = c.Bool("why") || c.Bool("follow")
	result, waited := look(ctx, run, c, watcher, objects, out.why, kc)
	if ctx.Err() != nil {
		return fmt.Errorf("looking at release %q: %w", out.Service, context.Cause(ctx))
	}
	var failure *rollout.Failure
	if waited != nil && !errors.As(waited, &failure) && len(result.Objects) == 0 {
		// Nothing could be seen.
		if kube.Denied(waited) {
			return tool.Exit(tool.Denied, waited, "the role's group has no right to this in the cluster; the tenancy release gives it")
		}
		return waited
	}
	out.Objects, out.Findings, out.Notes = result.Objects, result.Findings, result.Notes
	noteFindings(run, out.Findings)
	return errors.Join(waited, run.Result(out, out.text()))
}

// stored is what is known of the service's release without looking at its
// objects, and the cluster where they are.
func stored(ctx context.Context, run *tool.Run, o options) (stated, *kube.Cluster, error) {
	service, err := serviceName(o)
	if err != nil {
		return stated{}, nil, err
	}
	s, err := session.Open(ctx, run, session.Options{Landscape: o.landscape})
	if err != nil {
		return stated{}, nil, err
	}
	t, err := resolve(s, o, service)
	if err != nil {
		return stated{}, nil, err
	}
	i, err := authorise(ctx, run, o, s, t.Role)
	if err != nil {
		return stated{}, nil, err
	}
	kc, err := connect(ctx, run, o, i, t.Cluster)
	if err != nil {
		return stated{}, nil, err
	}
	state, err := helmrelease.New(kc, nil, run.Log.Printf).Read(ctx, t.Namespace, service)
	return stated{Service: service, Namespace: t.Namespace, Cluster: t.Cluster, Last: state.Last, Deployed: state.Deployed}, kc, err
}

// look judges the objects once, or follows them to an end.
func look(ctx context.Context, run *tool.Run, c *cli.Context, w *rollout.Watcher, objects []*unstructured.Unstructured, why bool, kc *kube.Cluster) (rollout.Result, error) {
	o := rollout.Options{Stable: rollout.ByWorkload, Progress: func(line string) { run.Log.Printf("%s", line) }}
	if why {
		o.Logs = rollout.Logs(kc.Clientset())
	}
	if !c.Bool("follow") {
		ctx, cancel := tool.Deadline(ctx, 20*time.Second, "listing the objects")
		defer cancel()
		return w.Look(ctx, objects, o)
	}
	ctx, cancel := tool.Deadline(ctx, c.Duration("timeout"), "getting ready")
	defer cancel()
	var result rollout.Result
	err := run.Step(ctx, "follow", func(ctx context.Context) (err error) {
		result, err = w.Wait(ctx, objects, o)
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
	out := stated{Service: b.Release, Namespace: b.Namespace, Objects: b.Objects, Findings: b.Diagnose(), Notes: b.Notes, why: true}
	noteFindings(run, out.Findings)
	return run.Result(out, out.text())
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
	if s.Last != nil {
		fmt.Fprintf(&b, "%s: revision %d is %s since %s (%s)\n", s.Service, s.Last.Number, s.Last.Status, s.Last.Updated.UTC().Format(time.RFC3339), s.Last.Description)
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
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return joblog.Clean(b.String())
}
