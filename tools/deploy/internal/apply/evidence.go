package apply

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/tools/deploy/internal/diff"
	"gitlab.com/slipway/slipway/tools/deploy/internal/evidence"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// evidence keeps why it failed, before anything is put back: in the log, in the
// report, and as a file that status --why reads. Where it cannot be kept, that
// is told, and what was to be put back is put back all the same.
func (j *job) evidence(ctx context.Context, o helmrelease.Outcome, err error) {
	run := j.deps.Run
	findings := o.Findings
	if o.Failure != nil && len(findings) == 0 {
		findings = []rollout.Finding{o.Failure.Finding}
	}
	for i, f := range findings {
		level := "error"
		if f.Transient || i > 0 || err == nil {
			level = "warning"
		}
		run.Report.Find(report.Finding{Level: level, Class: f.Class, Object: f.Workload.String(), Message: f.Sentence(), Evidence: f.LogTail, Next: f.Next})
		if err == nil {
			run.Log.Printf("warning: %s", f.Sentence())
		}
		if err != nil && f.LogTail != "" && i == 0 {
			run.Log.Printf("last lines of container %s of pod %s:", f.Container, f.Pod)
			for _, line := range strings.Split(strings.TrimSpace(f.LogTail), "\n") {
				run.Log.Printf("  | %s", line)
			}
		}
	}
	if err == nil {
		return
	}
	if len(o.Waited.Evidence) == 0 {
		if !o.Changed || ctx.Err() != nil { // a run that was told to end looks no more
			return
		}
		o.Waited = j.glance(ctx)
	}
	file, serr := evidence.Save(run.ReportDir, j.bundle(o, err), run.Log.Mask)
	if serr != nil {
		run.Log.Printf("%s: the evidence is not saved: %v", j.request.Name, serr)
		return
	}
	run.Log.Printf("%s: the evidence is saved; slipway-deploy status --why --evidence %s", j.request.Name, file)
}

// glance looks once at what is there of a release that failed outside of a wait,
// such as over an object that the server refused.
func (j *job) glance(ctx context.Context) rollout.Result {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, judging)
	defer cancel()
	var result rollout.Result
	objects, err := j.objects(ctx)
	if err == nil {
		result, err = j.deps.Watcher.Look(ctx, objects, rollout.Options{Logs: rollout.Logs(j.deps.Cluster.Clientset())})
	}
	if err != nil {
		result.Notes = append(result.Notes, fmt.Sprintf("what is there of the release is not known: %v", err))
	}
	result.Start = start
	return result
}

// objects are what the release consists of: as it was to be, else as it is
// stored by now.
func (j *job) objects(ctx context.Context) ([]*unstructured.Unstructured, error) {
	if j.plan != nil {
		return j.plan.Objects(), nil
	}
	state, err := j.client.Read(ctx, j.request.Namespace, j.request.Name)
	if err != nil || state.Last == nil {
		return nil, err
	}
	return state.Last.Objects(j.request.Namespace)
}

// bundle is what is saved of a release that failed.
func (j *job) bundle(o helmrelease.Outcome, err error) rollout.Bundle {
	r := j.request
	b := rollout.Bundle{Release: r.Name, Namespace: r.Namespace, Revision: o.Revision, Start: o.Waited.Start.UTC(), Saved: time.Now().UTC(), Objects: o.Waited.Objects,
		Evidence: o.Waited.Evidence, Notes: o.Waited.Notes, Error: err.Error(), Versions: map[string]string{"slipway-deploy": j.deps.Run.Report.Version, "chart": j.result.Chart}}
	if d, derr := j.deps.Cluster.Discovery(); derr == nil {
		if v, verr := d.ServerVersion(); verr == nil {
			b.Versions["kubernetes"] = v.GitVersion
		}
	}
	if j.plan == nil {
		return b
	}
	changes, derr := diff.Of(j.plan)
	if derr != nil {
		b.Notes = append(b.Notes, fmt.Sprintf("what the release changed is not known: %v", derr))
		return b
	}
	b.Diff = diff.Text([]diff.Release{changes}, false)
	return b
}
