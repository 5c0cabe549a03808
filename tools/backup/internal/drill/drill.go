// Package drill is the verb drill: the newest good backup restored into
// quarantine, checked, timed and taken away again.
package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/check"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
	"gitlab.com/slipway/slipway/tools/backup/internal/cover"
	"gitlab.com/slipway/slipway/tools/backup/internal/mark"
	"gitlab.com/slipway/slipway/tools/backup/internal/quarantine"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// Options are what a drill needs.
type Options struct {
	Drill       *config.Drill
	Environment string   // of the source schedule
	Clusters    []string // of that environment
	Services    []string // that the schedule means
	Cluster     *kube.Cluster
	Velero      *velero.Client
	Store       func(velero.Location) artifact.Store
	Timeout     time.Duration
	ReadyTime   time.Duration // how long the restored workloads have
	Now         func() time.Time
}

// Beside is the most that a drill takes beside its timeout: for the sweep before
// it and the clean-up after it.
const Beside = sweepTime + quarantine.SettleTime + deleteTime

// sweepTime is how long the leftovers of earlier drills may take to be deleted.
const sweepTime = 2 * time.Minute

// Run runs the drill. The clean-up is done whatever happened before.
func Run(ctx context.Context, run *tool.Run, o Options) (*Result, error) {
	area := quarantine.Area{Cluster: o.Cluster, Velero: o.Velero, Log: run.Log.Printf}
	sweep(ctx, run, area, o.Now)
	start := o.Now().UTC()
	d := &drill{run: run, o: o, area: area, start: start, r: &Result{
		Name: "drill-" + o.Drill.Source.Schedule + "-" + start.Format(config.DateForm), Schedule: o.Drill.Source.Schedule,
		Environment: o.Environment, Cluster: o.Drill.Target.Cluster, Declared: start, Excluded: excluded()}}
	bounded, cancel := tool.Deadline(ctx, o.Timeout, "the drill")
	err := d.all(bounded)
	if errors.Is(bounded.Err(), context.DeadlineExceeded) && tool.CodeOf(err) == tool.Failed {
		err = tool.Exit(tool.Temporary, err)
	}
	cancel()
	// What the clean-up left behind outranks how the drill went.
	err = errors.Join(d.cleanUp(ctx), err)
	d.r.End = o.Now().UTC()
	if err == nil {
		err = d.verdict()
	}
	d.r.ExitCode = codeOf(ctx, err)
	d.r.Verdict = tool.Outcome(d.r.ExitCode)
	if d.r.Backup == "" {
		return d.r, err // there are no figures to print
	}
	return d.r, errors.Join(err, run.Result(d.r, d.r.text()))
}

// codeOf is the code that the frame will end with.
func codeOf(ctx context.Context, err error) int {
	code := tool.CodeOf(err)
	if err != nil && ctx.Err() != nil && code == tool.Failed {
		return tool.Cancelled
	}
	return code
}

type drill struct {
	run      *tool.Run
	o        Options
	r        *Result
	start    time.Time
	area     quarantine.Area
	location velero.Location
	backup   velero.Backup
	artifact *artifact.Artifact
	targets  map[string]string // source namespace to quarantine
	making   bool              // from the first call on that makes something
	made     []quarantine.Leftover
	restore  *velero.Restore // set once it was asked for
}

func (d *drill) all(ctx context.Context) error {
	for _, step := range []struct {
		name, phase string
		do          func(context.Context) error
	}{
		{"ask Velero", "prepare", d.ask},
		{"choose the backup", "prepare", d.choose},
		{"read the backup", "prepare", d.read},
		{"make the quarantine", "prepare", d.quarantine},
		{"restore", "restore", d.restoreIt},
		{"wait for the workloads", "ready", d.ready},
		{"other checks", "checks", d.others},
	} {
		began := d.o.Now()
		err := d.run.Step(ctx, step.name, step.do)
		d.r.phase(step.phase, d.o.Now().Sub(began))
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep takes away what earlier drills left, before the clock of this one
// starts: it is no part of a recovery, and one that hangs keeps no drill from
// being done.
func sweep(ctx context.Context, run *tool.Run, area quarantine.Area, now func() time.Time) {
	ctx, cancel := tool.Deadline(ctx, sweepTime, "the sweep of earlier drills")
	defer cancel()
	var left []quarantine.Leftover
	err := run.Step(ctx, "sweep what earlier drills left", func(ctx context.Context) error {
		var err error
		left, err = area.Sweep(ctx, now())
		return err
	})
	if err != nil {
		run.Log.Printf("%v", err)
		run.Report.Find(report.Finding{Level: "warning", Class: "leftover", Message: err.Error(), Next: "slipway-backup sweep says what is left, and tries again"})
	}
	for _, l := range left {
		if !l.Deleted && !l.Expired {
			run.Log.Printf("%s %s of drill %s is still there, until %s", l.Kind, l.Name, l.Drill, l.Expires.Format(time.RFC3339))
		}
	}
}

// ask makes sure that Velero answers.
func (d *drill) ask(ctx context.Context) error {
	version, err := d.o.Velero.Probe(ctx)
	if err != nil {
		return err
	}
	d.r.VeleroVersion = version
	d.run.Log.Printf("Velero%s answers", velero.Spaced(version))
	return nil
}

// choose takes the newest backup that Velero calls completed.
func (d *drill) choose(ctx context.Context) error {
	list, err := d.o.Velero.Backups(ctx, mark.Schedule+"="+d.r.Schedule)
	if err != nil {
		return err
	}
	newest, worse := velero.Newest(list, d.start)
	if newest == nil {
		return tool.Exit(tool.Unproven, fmt.Errorf("schedule %q has no completed backup among the %d that Velero of cluster %q knows", d.r.Schedule, len(list), d.r.Cluster),
			"slipway-backup run takes one")
	}
	for _, name := range worse {
		d.run.Report.Find(report.Finding{Level: "warning", Class: "backup", Object: name, Message: "it is newer than the backup of this drill, and is not good"})
	}
	if err := d.belongs(newest); err != nil {
		return err
	}
	d.backup, d.r.Backup, d.r.BackupStart = *newest, newest.Meta.Name, mark.Time(newest.Status.StartTimestamp)
	d.run.Log.Printf("backup %s, started %s", d.r.Backup, d.r.BackupStart.Format(time.RFC3339))
	d.location, err = d.o.Velero.Location(ctx, newest.Spec.StorageLocation, false)
	return err
}

// belongs refuses a backup that is not of the schedule's environment: a label
// is quickly copied.
func (d *drill) belongs(b *velero.Backup) error {
	env, cluster := b.Meta.Labels[mark.Environment], b.Meta.Labels[mark.Cluster]
	if env != d.o.Environment || !slices.Contains(d.o.Clusters, cluster) {
		return tool.Exit(tool.Refused, fmt.Errorf("backup %q is of environment %q in cluster %q; schedule %q is of environment %q in %s",
			b.Meta.Name, env, cluster, d.r.Schedule, d.o.Environment, strings.Join(d.o.Clusters, ", ")))
	}
	sources := map[string]string{}
	if err := json.Unmarshal([]byte(b.Meta.Annotations[mark.Namespaces]), &sources); err != nil {
		return tool.Exit(tool.Refused, fmt.Errorf("backup %q does not say which namespace is whose: annotation %s: %w", b.Meta.Name, mark.Namespaces, err),
			"only backups that slipway-backup run made are drilled")
	}
	var err error
	d.targets, err = mapping(sources, b.Spec.IncludedNamespaces, func(service string) string { return d.o.Drill.Target.Namespace(d.start, service) })
	if err != nil {
		return tool.Exit(tool.Refused, fmt.Errorf("restoring backup %q: %w", b.Meta.Name, err))
	}
	d.r.Sources, d.r.Namespaces = sources, d.targets
	for _, service := range d.o.Services {
		if _, ok := sources[service]; !ok {
			d.r.problem("service %s belongs to the schedule and is not in the backup", service)
		}
	}
	return nil
}

// read reads the backup's artifacts to their end, before anything is made.
func (d *drill) read(ctx context.Context) error {
	var err error
	d.artifact, err = artifact.Read(ctx, d.o.Store(d.location), d.location.Spec.ObjectStorage.Prefix, d.r.Backup)
	if err != nil {
		return err
	}
	d.r.Files = d.artifact.Files
	point, what := cover.RecoveryPoint(d.backup, d.artifact.Volumes)
	d.r.RecoveryPoint, d.r.RecoveryFrom, d.r.RPO = &point, what, Span(d.start.Sub(point))
	claims, problems := check.Judge(d.artifact)
	d.r.Claims = claims
	if len(d.artifact.Problems) > 0 {
		return tool.Exit(tool.Unproven, fmt.Errorf("backup %q is not whole, and is not restored: %s", d.r.Backup, strings.Join(d.artifact.Problems, "; ")))
	}
	d.r.Problems = append(d.r.Problems, problems...)
	if found := hazards(d.artifact); len(found) > 0 {
		return tool.Exit(tool.Refused, fmt.Errorf("restoring backup %q could reach production: %s", d.r.Backup, strings.Join(found, "; ")),
			"this version of slipway-backup does not change objects on their way; label them velero.io/exclude-from-backup=true, or drill in a cluster of its own later")
	}
	for _, one := range cloudRoles(d.artifact) {
		d.run.Report.Find(report.Finding{Level: "warning", Class: "isolation", Object: d.r.Backup, Message: one + ": only the network policy keeps the copy from using it"})
	}
	d.run.Log.Printf("read %d files to their end: %d objects, %d claims", len(d.artifact.Files), len(d.artifact.Items), len(claims))
	return nil
}

// quarantine makes the namespaces, closed, before anything is in them.
func (d *drill) quarantine(ctx context.Context) error {
	d.making = true
	for _, service := range slices.Sorted(maps.Keys(d.r.Sources)) {
		source := d.r.Sources[service]
		ns, err := d.area.Make(ctx, quarantine.Spec{Name: d.targets[source], Drill: d.r.Name, Service: service,
			Expires: d.start.Add(d.o.Drill.Target.TTL.Std()), PodSecurity: podSecurity(d.artifact, source)})
		if ns != nil {
			d.made = append(d.made, *ns)
		}
		if err != nil {
			return err
		}
		d.run.Log.Printf("made namespace %s for %s, closed by a network policy", ns.Name, source)
	}
	d.run.Report.Find(report.Finding{Level: "warning", Class: "isolation", Object: d.r.Name,
		Message: "no probe has shown that the cluster's network enforces the quarantine's policy"})
	return nil
}

func (d *drill) restoreIt(ctx context.Context) error {
	var leave []string
	for _, e := range d.r.Excluded {
		leave = append(leave, e.Resource)
	}
	nodePorts := false
	object := velero.Restore{
		Meta: velero.Meta{Name: d.r.Name, Labels: map[string]string{mark.Drill: d.r.Name, mark.Schedule: d.r.Schedule,
			mark.Expires: d.start.Add(d.o.Drill.Target.TTL.Std()).Format(mark.ExpiresForm)}},
		// includeClusterResources stays unset: with named namespaces that leaves
		// cluster-scoped kinds out, while false would keep the claims bound to
		// the volumes of the source.
		Spec: velero.RestoreSpec{BackupName: d.r.Backup, IncludedNamespaces: d.backup.Spec.IncludedNamespaces, NamespaceMapping: d.targets,
			ExcludedResources: leave, LabelSelector: withoutJobs(), PreserveNodePorts: &nodePorts},
	}
	d.restore, d.r.Restore = &object, d.r.Name
	if err := d.o.Velero.CreateRestore(ctx, object); err != nil {
		return err
	}
	ended, err := d.o.Velero.WaitRestore(ctx, d.r.Name)
	d.restore = &ended
	d.r.RestorePhase = ended.Status.Phase
	if err != nil {
		return err
	}
	s := ended.Status
	if s.Phase == velero.FailedValidation {
		return tool.Exitf(tool.Usage, "restore %q was refused by Velero: %s", d.r.Name, strings.Join(s.ValidationErrors, "; "))
	}
	if s.Phase != velero.Completed {
		d.r.problem("the restore ended %s, with %d errors: %s", s.Phase, s.Errors, s.FailureReason)
	}
	return d.results(ctx)
}

// results reads what the restore said of each object.
func (d *drill) results(ctx context.Context) error {
	said, list, err := artifact.RestoreResults(ctx, d.o.Store(d.location), d.location.Spec.ObjectStorage.Prefix, d.r.Name)
	if errors.Is(err, artifact.ErrNotFound) {
		d.r.problem("the restore left no results in the bucket: what it skipped is unknown")
		return nil
	}
	if err != nil {
		return err
	}
	mark.Messages(d.run, d.r.Name, said)
	outcome := outcomes(list)
	d.r.Restored = outcome.created
	for _, one := range outcome.bad {
		d.r.problem("%s", one)
	}
	d.run.Log.Printf("restored %d objects; %d were not", outcome.created, len(outcome.bad))
	return nil
}
