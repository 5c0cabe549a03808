package apply

import (
	"fmt"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/tools/deploy/internal/diff"
	"gitlab.com/slipway/slipway/tools/deploy/internal/evidence"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// evidence keeps why it failed, before anything is put back: in the log, in the
// report, and as a file that status --why reads. Where it cannot be kept, that
// is told, and what was to be put back is put back all the same.
func (j *job) evidence(o helmrelease.Outcome, err error) {
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
	if err == nil || len(o.Waited.Evidence) == 0 {
		return
	}
	file, serr := evidence.Save(run.ReportDir, j.bundle(o, err), run.Log.Mask)
	if serr != nil {
		run.Log.Printf("%s: the evidence is not saved: %v", j.request.Name, serr)
		return
	}
	run.Log.Printf("%s: the evidence is saved; slipway-deploy status --why --evidence %s", j.request.Name, file)
}

// bundle is what is saved of a wait that ended badly.
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
