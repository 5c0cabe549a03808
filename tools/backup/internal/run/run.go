// Package run is the verb run: a backup now, waited for, read back and held
// against what there was.
package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
	"gitlab.com/slipway/slipway/tools/backup/internal/cover"
	"gitlab.com/slipway/slipway/tools/backup/internal/inventory"
	"gitlab.com/slipway/slipway/tools/backup/internal/mark"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// Options are what a backup needs.
type Options struct {
	Name       string // of the schedule
	Schedule   config.Schedule
	RPO        time.Duration
	Baseline   []config.Baseline
	Namespaces map[string]string // service to namespace
	Landscape  string            // digest
	ClusterID  string            // the cluster's name in the landscape
	Cluster    *kube.Cluster
	Velero     *velero.Client
	Store      func(velero.Location) artifact.Store
	Owner      owner.Owner
	Timeout    time.Duration
	Now        func() time.Time
}

// Result is what the run found.
type Result struct {
	Backup        string            `json:"backup"`
	Schedule      string            `json:"schedule"`
	Environment   string            `json:"environment"`
	Cluster       string            `json:"cluster"`
	Namespaces    map[string]string `json:"namespaces"`
	Location      string            `json:"location"`
	Bucket        string            `json:"bucket"`
	Prefix        string            `json:"prefix,omitempty"`
	VeleroVersion string            `json:"veleroVersion"`
	Phase         string            `json:"phase"`
	Errors        int               `json:"errors"`
	Warnings      int               `json:"warnings"`
	Start         *time.Time        `json:"start,omitempty"`
	End           *time.Time        `json:"end,omitempty"`
	Expires       *time.Time        `json:"expires,omitempty"`
	RecoveryPoint *time.Time        `json:"recoveryPoint,omitempty"`
	RecoveryFrom  string            `json:"recoveryFrom,omitempty"`
	Previous      string            `json:"previous,omitempty"` // the last good backup before this
	Gap           string            `json:"gap,omitempty"`      // from its start to this one's recovery point
	Files         []artifact.File   `json:"files,omitempty"`
	Coverage      cover.Coverage    `json:"coverage"`
	Problems      []string          `json:"problems,omitempty"`
	Verdict       string            `json:"verdict"`
}

// Run takes the backup.
func Run(ctx context.Context, run *tool.Run, o Options) error {
	ctx, cancel := tool.Deadline(ctx, o.Timeout, "the backup")
	defer cancel()
	r := &Result{Schedule: o.Name, Environment: o.Schedule.Environment, Cluster: o.ClusterID, Namespaces: map[string]string{}}
	b := &backup{run: run, o: o, r: r}
	err := b.all(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && tool.CodeOf(err) == tool.Failed {
		err = tool.Exit(tool.Temporary, err)
	}
	if r.Backup == "" {
		return err
	}
	if err == nil {
		err = b.verdict()
	}
	err = made(err)
	r.Verdict = tool.Outcome(tool.CodeOf(err))
	if rerr := run.Result(r, r.text()); rerr != nil && err == nil {
		err = rerr
	}
	return err
}

// made gives an error its code where the backup was made: 1 would say that
// nothing was changed. Of a backup that failed, or could not be read back, the
// evidence is not good enough.
func made(err error) error {
	if tool.CodeOf(err) == tool.Failed {
		return tool.Exit(tool.Unproven, err)
	}
	return err
}

type backup struct {
	run      *tool.Run
	o        Options
	r        *Result
	location velero.Location
	before   *inventory.Inventory
	absent   []string // namespaces that should be there
	previous *velero.Backup
	status   velero.Backup
	artifact *artifact.Artifact
}

func (b *backup) all(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"ask Velero", b.ask},
		{"inventory", b.inventory},
		{"back up", b.take},
		{"read the backup back", b.readBack},
	} {
		if err := b.run.Step(ctx, step.name, step.do); err != nil {
			return err
		}
	}
	return nil
}

// ask makes sure that a backup can succeed before anything is made.
func (b *backup) ask(ctx context.Context) error {
	version, err := b.o.Velero.Probe(ctx)
	if err != nil {
		return err
	}
	if b.location, err = b.o.Velero.Location(ctx, "", true); err != nil {
		return err
	}
	b.r.VeleroVersion, b.r.Location = version, b.location.Meta.Name
	b.r.Bucket, b.r.Prefix = b.location.Spec.ObjectStorage.Bucket, b.location.Spec.ObjectStorage.Prefix
	b.run.Log.Printf("Velero%s answers; location %s, bucket %s, prefix %q", velero.Spaced(version), b.r.Location, b.r.Bucket, b.r.Prefix)
	earlier, err := b.o.Velero.Backups(ctx, mark.Schedule+"="+b.o.Name)
	if err != nil {
		return err
	}
	b.previous, _ = velero.Newest(earlier, b.o.Now())
	return nil
}

func (b *backup) inventory(ctx context.Context) error {
	for _, service := range slices.Sorted(maps.Keys(b.o.Namespaces)) {
		ns := b.o.Namespaces[service]
		there, err := inventory.Exists(ctx, b.o.Cluster, ns)
		if err != nil {
			return err
		}
		if there {
			b.r.Namespaces[service] = ns
			continue
		}
		b.absent = append(b.absent, ns)
		b.run.Log.Printf("namespace %s of service %s is not there", ns, service)
	}
	if len(b.r.Namespaces) == 0 {
		return tool.Exit(tool.Failed, fmt.Errorf("none of the namespaces %s is in cluster %q: there is nothing to back up", strings.Join(b.absent, ", "), b.o.ClusterID))
	}
	var err error
	if b.before, err = inventory.Take(ctx, b.o.Cluster, slices.Sorted(maps.Values(b.r.Namespaces)), b.o.Schedule.Volumes); err != nil {
		return err
	}
	b.run.Log.Printf("in %s: %s", strings.Join(slices.Sorted(maps.Values(b.r.Namespaces)), ", "), b.before.Count())
	for _, c := range b.before.Claims {
		b.run.Log.Printf("claim %s/%s, %s, %s: data by %s", c.Namespace, c.Name, c.Size, c.Phase, c.Expected)
	}
	return nil
}

func (b *backup) take(ctx context.Context) error {
	object, err := b.o.object(b.r.Namespaces, b.location.Meta.Name)
	if err != nil {
		return err
	}
	if err := b.o.Velero.CreateBackup(ctx, object); err != nil {
		return err
	}
	b.r.Backup = object.Meta.Name
	b.run.Log.Printf("made backup %s", b.r.Backup)
	b.status, err = b.o.Velero.WaitBackup(ctx, b.r.Backup)
	s := b.status.Status
	b.r.Phase, b.r.Errors, b.r.Warnings = s.Phase, s.Errors, s.Warnings
	b.r.Start, b.r.End, b.r.Expires = mark.Time(s.StartTimestamp), mark.Time(s.CompletionTimestamp), mark.Time(s.Expiration)
	if err != nil {
		return tool.Hint(err, fmt.Sprintf("Velero goes on with backup %q without us", b.r.Backup))
	}
	switch s.Phase {
	case velero.FailedValidation:
		return tool.Exitf(tool.Usage, "backup %q was refused by Velero, and nothing was backed up: %s", b.r.Backup, strings.Join(s.ValidationErrors, "; "))
	case velero.Failed, velero.Deleting:
		return tool.Exitf(tool.Failed, "backup %q ended %s: %s", b.r.Backup, s.Phase, s.FailureReason)
	}
	return nil
}

// object is the Backup to make.
func (o Options) object(namespaces map[string]string, location string) (velero.Backup, error) {
	services, err := json.Marshal(namespaces)
	if err != nil {
		return velero.Backup{}, fmt.Errorf("encoding the namespaces: %w", err)
	}
	now := o.Now().UTC()
	name := o.Name + "-" + now.Format("20060102150405") + "-by-hand"
	labels := map[string]string{mark.Schedule: o.Name, mark.Environment: o.Schedule.Environment, mark.Cluster: o.ClusterID}
	if o.Owner.Job != 0 {
		name = fmt.Sprintf("%s-%s-%d-%d", o.Name, now.Format("20060102150405"), o.Owner.Pipeline, o.Owner.Job)
		labels[mark.Project] = strconv.FormatInt(o.Owner.Project, 10)
		labels[mark.Pipeline] = strconv.FormatInt(o.Owner.Pipeline, 10)
		labels[mark.Job] = strconv.FormatInt(o.Owner.Job, 10)
	}
	files, snapshots, moved := o.Schedule.Volumes == "files", o.Schedule.Volumes != "files", o.Schedule.Volumes == "moved"
	return velero.Backup{
		Meta: velero.Meta{Name: name, Labels: labels, Annotations: map[string]string{mark.Namespaces: string(services), mark.Landscape: o.Landscape}},
		Spec: velero.BackupSpec{IncludedNamespaces: slices.Sorted(maps.Values(namespaces)), StorageLocation: location, TTL: o.Schedule.Keep.Std().String(),
			SnapshotVolumes: &snapshots, SnapshotMoveData: &moved, DefaultVolumesToFsBackup: &files},
	}, nil
}

func (b *backup) readBack(ctx context.Context) error {
	var err error
	if b.artifact, err = artifact.Read(ctx, b.o.Store(b.location), b.r.Prefix, b.r.Backup); err != nil {
		return err
	}
	a := b.artifact
	b.r.Files, b.r.Coverage = a.Files, cover.Compare(b.before, a)
	if len(b.r.Coverage.Missing) > 0 {
		now, err := inventory.Take(ctx, b.o.Cluster, slices.Sorted(maps.Values(b.r.Namespaces)), b.o.Schedule.Volumes)
		if err != nil {
			return err
		}
		b.r.Coverage.Forget(b.before, now)
	}
	point, what := cover.RecoveryPoint(b.status, a.Volumes)
	b.r.RecoveryPoint, b.r.RecoveryFrom = &point, what
	if b.previous != nil {
		b.r.Previous = b.previous.Meta.Name
		b.r.Gap = point.Sub(b.previous.Status.StartTimestamp.Time).Round(time.Second).String()
	}
	b.run.Log.Printf("read %d files to their end; %d objects are in the archive; %d of %d that had to be there are", len(a.Files), len(a.Items),
		b.r.Coverage.Objects-len(b.r.Coverage.Missing), b.r.Coverage.Objects)
	return nil
}

// verdict judges by phase, coverage and integrity.
func (b *backup) verdict() error {
	s := b.status.Status
	var problems []string
	if s.Phase != velero.Completed {
		problems = append(problems, fmt.Sprintf("the backup ended %s, with %d errors", s.Phase, s.Errors))
	}
	problems = append(problems, b.artifact.Problems...)
	for _, ns := range b.absent {
		problems = append(problems, fmt.Sprintf("namespace %s is not in the cluster, so nothing of it is in the backup", ns))
	}
	problems = append(problems, b.r.Coverage.Gaps()...)
	for _, x := range b.o.Baseline {
		if _, ok := b.o.Namespaces[x.Service]; ok {
			problems = append(problems, fmt.Sprintf("the baseline of %s of service %s was not taken: this version of slipway-backup takes none", x.Store, x.Service))
		}
	}
	b.r.Problems = problems
	for _, p := range problems {
		b.run.Report.Find(report.Finding{Level: "error", Class: "backup", Object: b.r.Backup, Message: p})
		b.run.Log.Printf("problem: %s", p)
	}
	mark.Messages(b.run, b.r.Backup, b.artifact.Results)
	for _, key := range b.r.Coverage.Gone {
		b.run.Report.Find(report.Finding{Level: "info", Class: "coverage", Object: key.String(), Message: "it was deleted or replaced while the backup was taken"})
	}
	for _, one := range b.r.Coverage.Skipped {
		b.run.Report.Find(report.Finding{Level: "info", Class: "coverage", Object: b.r.Backup, Message: "left out: " + one})
	}
	if gap, err := time.ParseDuration(b.r.Gap); err == nil && b.o.RPO > 0 && gap > b.o.RPO {
		b.run.Report.Find(report.Finding{Level: "warning", Class: "rpo", Object: b.r.Backup,
			Message: fmt.Sprintf("the good backup before this one is %s older; the objective is %s", gap, b.o.RPO)})
	}
	if len(problems) == 0 {
		return nil
	}
	return tool.Exit(tool.Unproven, errors.New(summary(b.r.Backup, problems)))
}

func summary(backup string, problems []string) string {
	text := fmt.Sprintf("backup %q is not good enough: %s", backup, problems[0])
	if len(problems) > 1 {
		text += fmt.Sprintf(" (and %d more)", len(problems)-1)
	}
	return text
}

func (r *Result) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "backup          %s\n", r.Backup)
	fmt.Fprintf(&s, "phase           %s, %d errors, %d warnings\n", r.Phase, r.Errors, r.Warnings)
	fmt.Fprintf(&s, "namespaces      %s\n", strings.Join(slices.Sorted(maps.Values(r.Namespaces)), ", "))
	if r.Start != nil && r.End != nil {
		fmt.Fprintf(&s, "taken           %s, in %s\n", r.Start.Format(time.RFC3339), r.End.Sub(*r.Start))
	}
	if r.RecoveryPoint != nil {
		fmt.Fprintf(&s, "recovery point  %s: %s\n", r.RecoveryPoint.Format(time.RFC3339), r.RecoveryFrom)
	}
	if r.Gap != "" {
		fmt.Fprintf(&s, "gap             %s since %s\n", r.Gap, r.Previous)
	}
	if r.Expires != nil {
		fmt.Fprintf(&s, "expires         %s\n", r.Expires.Format(time.RFC3339))
	}
	fmt.Fprintf(&s, "read back       %d files, %d of %d objects of the kinds compared", len(r.Files), r.Coverage.Objects-len(r.Coverage.Missing), r.Coverage.Objects)
	covered := 0
	for _, c := range r.Coverage.Claims {
		if c.State == cover.Covered {
			covered++
		}
	}
	fmt.Fprintf(&s, ", the data of %d of %d claims\n", covered, len(r.Coverage.Claims))
	fmt.Fprintf(&s, "verdict         %s", r.Verdict)
	return s.String()
}
