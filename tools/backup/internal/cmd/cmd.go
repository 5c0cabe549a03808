// Package cmd reads the flags of slipway-backup and joins its verbs with the
// session of the job, the cluster and the bucket.
//
// In the cluster the tool needs the rights of platform/rbac/backup.yaml.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/check"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
	"gitlab.com/slipway/slipway/tools/backup/internal/drill"
	"gitlab.com/slipway/slipway/tools/backup/internal/explain"
	"gitlab.com/slipway/slipway/tools/backup/internal/quarantine"
	"gitlab.com/slipway/slipway/tools/backup/internal/run"
)

// Program returns slipway-backup.
func Program() tool.Program {
	return tool.Program{
		Name:  "slipway-backup",
		Usage: "Velero backups that are read back, and drills that restore them",
		Commands: []tool.Command{
			{Name: "run", Usage: "back up now what a schedule says, and read it back",
				Flags: append(clusterFlags(), fileFlag("backup.yaml", "`FILE` with the schedules"), session.LandscapeFlag(),
					&cli.StringFlag{Name: "schedule", Usage: "`NAME` of the schedule (required)"}, timeoutFlag()), Run: runRun},
			{Name: "check", Usage: "read a backup out of its bucket, without Velero and without its cluster",
				Flags: []cli.Flag{session.LandscapeFlag(),
					&cli.StringFlag{Name: "backup", Usage: "`NAME` of the backup (required)"},
					&cli.StringFlag{Name: "bucket", Usage: "`BUCKET` of the storage location (required)"},
					&cli.StringFlag{Name: "prefix", Usage: "`PREFIX` of the storage location"},
					&cli.StringFlag{Name: "region", Usage: "`REGION` of the bucket (default: the landscape's)"},
					&cli.StringFlag{Name: "environment", Usage: "`ENVIRONMENT` whose backup role reads the bucket (required in a job)"}}, Run: runCheck},
			{Name: "drill", Usage: "restore the newest backup into quarantine, check it, time it, and take it away again",
				Flags: append(clusterFlags(), fileFlag("drill.yaml", "`FILE` of the drill"), backupFileFlag(), session.LandscapeFlag(), timeoutFlag(),
					&cli.DurationFlag{Name: "ready-timeout", Value: 10 * time.Minute, Usage: "`TIME` that the restored workloads have to become ready"}), Run: runDrill},
			{Name: "sweep", Usage: "take away what drills left behind and whose time to live is over",
				Flags: append(clusterFlags(), fileFlag("drill.yaml", "`FILE` of the drill"), backupFileFlag(), session.LandscapeFlag(), timeoutFlag()), Run: runSweep},
			{Name: "explain", Usage: "print what the files come to; changes nothing",
				Flags: []cli.Flag{fileFlag("backup.yaml", "`FILE` with the schedules"), session.LandscapeFlag(),
					&cli.StringFlag{Name: "drill-file", Usage: "`FILE` of a drill, to explain as well"}}, Run: runExplain},
		},
	}
}

func fileFlag(value, usage string) cli.Flag {
	return &cli.StringFlag{Name: "file", Value: value, Usage: usage}
}

func backupFileFlag() cli.Flag {
	return &cli.StringFlag{Name: "backup-file", Value: "backup.yaml", Usage: "`FILE` that declares the drill's source schedule"}
}

// timeoutFlag leaves a job of an hour, GitLab's default, the time for what does
// not count: the sweep before a drill and the clean-up after it.
func timeoutFlag() cli.Flag {
	return &cli.DurationFlag{Name: "timeout", Value: 45 * time.Minute, Usage: "`TIME` for all of it, but the clean-up of a drill"}
}

// need names every missing or senseless flag at once.
func need(r *tool.Run, flags *cli.Context, names ...string) error {
	var p tool.Problems
	for _, name := range names {
		value := flags.String(name)
		if name == "landscape" {
			value = session.Landscape(flags, r.Env)
		}
		p.Need(value, name)
	}
	for _, name := range []string{"timeout", "ready-timeout", "stall"} {
		if v, ok := flags.Value(name).(time.Duration); ok {
			p.Check(v > 0, "--%s must be above zero, got %s", name, v)
		}
	}
	p.Check(flags.String("context") == "" || flags.String("kubeconfig") != "", "--context is of a kubeconfig: give --kubeconfig too")
	return p.Err()
}

func open(ctx context.Context, r *tool.Run, flags *cli.Context) (*session.Session, error) {
	var s *session.Session
	err := r.Step(ctx, "read the landscape", func(ctx context.Context) error {
		var err error
		s, err = session.Open(ctx, r, session.Options{Landscape: session.Landscape(flags, r.Env)})
		return err
	})
	return s, err
}

func file(flags *cli.Context, flag string) (config.File, error) {
	name := flags.String(flag)
	raw, err := os.ReadFile(name)
	if err != nil {
		return config.File{}, tool.Exit(tool.Usage, fmt.Errorf("reading %q: %w", name, err), "--"+flag+" names a file of the environments project")
	}
	return config.File{Name: name, Raw: raw}, nil
}

func runRun(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	if err := need(r, flags, "schedule", "landscape"); err != nil {
		return err
	}
	s, err := open(ctx, r, flags)
	if err != nil {
		return err
	}
	f, err := file(flags, "file")
	if err != nil {
		return err
	}
	b, err := config.ReadBackup(f, s.Snapshot)
	if err != nil {
		return err
	}
	name := flags.String("schedule")
	schedule, ok := b.Schedules[name]
	if !ok {
		return tool.Exitf(tool.Usage, "--schedule: %s has no schedule %q; it has %s", f.Name, name, strings.Join(slices.Sorted(maps.Keys(b.Schedules)), ", "))
	}
	namespaces := map[string]string{}
	for _, service := range config.ServicesOf(s.Snapshot, schedule) {
		if namespaces[service], err = s.Snapshot.Namespace(schedule.Environment, service, ""); err != nil {
			return tool.Exit(tool.Usage, err)
		}
	}
	if len(namespaces) == 0 {
		return tool.Exitf(tool.Usage, "schedule %q: no service of the landscape is in environment %q", name, schedule.Environment)
	}
	clusters := s.Snapshot.Environments[schedule.Environment].Clusters
	if len(clusters) > 1 {
		r.Report.Find(report.Finding{Level: "warning", Class: "backup", Object: name,
			Message: fmt.Sprintf("environment %s is in the clusters %s; only the first is backed up", schedule.Environment, strings.Join(clusters, ", "))})
	}
	a, err := connect(ctx, r, flags, s, schedule.Environment, clusters[0])
	if err != nil {
		return err
	}
	return run.Run(ctx, r, run.Options{Name: name, Schedule: schedule, RPO: b.RPO.Std(), Baseline: b.Baseline, Namespaces: namespaces,
		Landscape: s.Digest, ClusterID: clusters[0], Cluster: a.cluster, Velero: a.velero, Store: a.store, Owner: s.Owner,
		Timeout: flags.Duration("timeout"), Now: time.Now})
}

func runCheck(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	if err := need(r, flags, "backup", "bucket"); err != nil {
		return err
	}
	store, err := bucket(ctx, r, flags)
	if err != nil {
		return err
	}
	return check.Run(ctx, r, store, flags.String("prefix"), flags.String("backup"), time.Now)
}

// drillOf reads both files and reaches the drill's cluster.
func drillOf(ctx context.Context, r *tool.Run, flags *cli.Context) (*session.Session, *config.Drill, config.Schedule, *access, error) {
	var none config.Schedule
	if err := need(r, flags, "landscape"); err != nil {
		return nil, nil, none, nil, err
	}
	s, err := open(ctx, r, flags)
	if err != nil {
		return nil, nil, none, nil, err
	}
	df, derr := file(flags, "file")
	bf, berr := file(flags, "backup-file")
	if err := errors.Join(derr, berr); err != nil {
		return nil, nil, none, nil, err
	}
	d, b, err := config.ReadDrill(df, bf, s.Snapshot)
	if err != nil {
		return nil, nil, none, nil, err
	}
	schedule := b.Schedules[d.Source.Schedule]
	a, err := connect(ctx, r, flags, s, schedule.Environment, d.Target.Cluster)
	return s, d, schedule, a, err
}

func runDrill(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	s, d, schedule, a, err := drillOf(ctx, r, flags)
	if err != nil {
		return err
	}
	result, err := drill.Run(ctx, r, drill.Options{Drill: d, Environment: schedule.Environment, Clusters: s.Snapshot.Environments[schedule.Environment].Clusters,
		Services: config.ServicesOf(s.Snapshot, schedule), Cluster: a.cluster, Velero: a.velero, Store: a.store,
		Timeout: flags.Duration("timeout"), ReadyTime: flags.Duration("ready-timeout"), Now: time.Now})
	return errors.Join(err, result.Write(flags.String("report-dir"), r.Log.Mask))
}

func runSweep(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	_, _, _, a, err := drillOf(ctx, r, flags)
	if err != nil {
		return err
	}
	ctx, cancel := tool.Deadline(ctx, flags.Duration("timeout"), "the sweep")
	defer cancel()
	var left []quarantine.Leftover
	err = r.Step(ctx, "sweep", func(ctx context.Context) error {
		var err error
		left, err = quarantine.Area{Cluster: a.cluster, Velero: a.velero, Log: r.Log.Printf}.Sweep(ctx, time.Now())
		return err
	})
	lines := []string{}
	for _, l := range left {
		state := "is kept until " + l.Expires.Format(time.RFC3339)
		switch {
		case l.Deleted:
			state = "is gone"
		case l.Expired:
			state = "could not be deleted"
		case l.Expires.IsZero():
			state = "has no end of life that can be read: delete it by hand"
		}
		lines = append(lines, fmt.Sprintf("%s %s of drill %s %s", l.Kind, l.Name, l.Drill, state))
	}
	if len(lines) == 0 && err == nil {
		lines = []string{"drills left nothing behind"}
	}
	if left == nil {
		left = []quarantine.Leftover{}
	}
	return errors.Join(err, r.Result(left, strings.Join(lines, "\n")))
}

func runExplain(ctx context.Context, r *tool.Run, flags *cli.Context) error {
	if err := need(r, flags, "landscape"); err != nil {
		return err
	}
	s, err := open(ctx, r, flags)
	if err != nil {
		return err
	}
	f, err := file(flags, "file")
	if err != nil {
		return err
	}
	if flags.String("drill-file") == "" {
		b, err := config.ReadBackup(f, s.Snapshot)
		if err != nil {
			return err
		}
		return explain.Print(r, explain.Backup(b, s.Snapshot, f.Name))
	}
	df, err := file(flags, "drill-file")
	if err != nil {
		return err
	}
	d, b, err := config.ReadDrill(df, f, s.Snapshot)
	if err != nil {
		return err
	}
	return explain.Print(r, append(explain.Backup(b, s.Snapshot, f.Name), explain.Drill(d, df.Name)...))
}

// purpose is the purpose of our roles in the landscape.
const purpose = landscape.PurposeBackup
