package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/config"
	"gitlab.com/slipway/slipway/tools/backup/internal/inventory"
	"gitlab.com/slipway/slipway/tools/backup/internal/quarantine"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// outcome is what became of the objects of a restore.
type outcome struct {
	created int
	bad     []string
}

// outcomes reads Velero's list: "apps/v1/Deployment" to "ns/name(created)".
// What every new namespace has by itself is skipped rightly, and so are the
// volumes of claims that are provisioned anew.
func outcomes(list map[string][]string) outcome {
	var o outcome
	for _, kind := range slices.Sorted(maps.Keys(list)) {
		for _, entry := range list[kind] {
			name, state, ok := strings.Cut(strings.TrimSuffix(entry, ")"), "(")
			_, base, _ := strings.Cut(name, "/")
			switch {
			case ok && (state == "created" || state == "updated"):
				o.created++
			case kind == "v1/Namespace", kind == "v1/PersistentVolume" && state == "skipped", kind == "v1/ServiceAccount" && base == "default", kind == "v1/ConfigMap" && base == "kube-root-ca.crt":
			default:
				o.bad = append(o.bad, fmt.Sprintf("%s %s was not restored: %s", kind, name, state))
			}
		}
	}
	return o
}

// workloads returns the restored workloads and claims by the archive: what it
// holds must be there. Missing ones are named.
func (d *drill) workloads(ctx context.Context) (there []*unstructured.Unstructured, missing []string, err error) {
	for key, item := range d.artifact.Items {
		ns, ours := d.targets[key.Namespace]
		switch key.Resource {
		case "deployments.apps", "statefulsets.apps", "daemonsets.apps", "persistentvolumeclaims":
		default:
			continue
		}
		if !ours {
			continue
		}
		gv, err := schema.ParseGroupVersion(item.APIVersion)
		if err != nil {
			return nil, nil, fmt.Errorf("reading %s of the backup: %w", key, err)
		}
		gvr, _, err := d.o.Cluster.Resource(gv.WithKind(item.Kind))
		if err != nil {
			return nil, nil, err
		}
		live, err := d.o.Cluster.Dynamic().Resource(gvr).Namespace(ns).Get(ctx, key.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			missing = append(missing, fmt.Sprintf("%s %s is in the backup and not in %s", item.Kind, key.Name, ns))
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading back %s %s in %q: %w", item.Kind, key.Name, ns, err)
		}
		there = append(there, live)
	}
	slices.Sort(missing)
	slices.SortFunc(there, func(a, b *unstructured.Unstructured) int {
		return strings.Compare(a.GetNamespace()+a.GetKind()+a.GetName(), b.GetNamespace()+b.GetKind()+b.GetName())
	})
	return there, missing, nil
}

// ready waits for the restored workloads, whether a check asks for it or not:
// without them there is no recovery time.
func (d *drill) ready(ctx context.Context) error {
	c := Check{Name: "ready", Status: Green}
	stable := rollout.DefaultStable
	for _, x := range d.o.Drill.Checks {
		if x.Ready != nil && x.Ready.Stable > 0 {
			stable = x.Ready.Stable.Std()
		}
	}
	objects, missing, err := d.workloads(ctx)
	if err != nil {
		return err
	}
	for _, one := range missing {
		d.r.problem("%s", one)
	}
	if len(objects) == 0 {
		c.Status, c.Detail = Unproven, "the backup holds no workload"
		d.r.check(c)
		return nil
	}
	bounded, cancel := tool.Deadline(ctx, d.o.ReadyTime, "the readiness of the restored workloads")
	defer cancel()
	result, err := rollout.Wait(bounded, d.o.Cluster, objects, rollout.Options{Stable: stable, Patient: true,
		Progress: func(line string) { d.run.Log.Printf("%s", line) }, Logs: rollout.Logs(d.o.Cluster.Clientset())})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, f := range result.Findings {
		d.run.Report.Find(report.Finding{Level: "warning", Class: f.Class, Object: f.Workload.String(), Message: f.Message, Evidence: f.LogTail, Next: f.Next})
	}
	switch {
	case err != nil:
		c.Status, c.Detail = Red, err.Error()
	case len(missing) > 0:
		c.Status, c.Detail = Red, strings.Join(missing, "; ")
	default:
		c.Detail = fmt.Sprintf("%d workloads and claims, stable for %s", len(objects), stable)
		d.r.green(d.o.Now())
	}
	d.r.check(c)
	return nil
}

// others are the checks that this version cannot do: they are named, and
// prove nothing.
func (d *drill) others(context.Context) error {
	for _, x := range d.o.Drill.Checks {
		if x.Ready != nil {
			continue
		}
		c := Check{Name: x.Name(), Status: Unproven, Detail: "this version of slipway-backup does not do this check"}
		if x.Postgres != nil || x.RabbitMQ != nil {
			c.Detail += ", and takes no baseline to compare with"
		}
		d.r.check(c)
		d.run.Log.Printf("%s: unproven: %s", c.Name, c.Detail)
	}
	return nil
}

// deleteTime is how long the deletions of the clean-up may take.
const deleteTime = 3 * time.Minute

// cleanUp takes everything away that the drill made. It goes on when the drill
// was cancelled, or has used up its time.
func (d *drill) cleanUp(ctx context.Context) error {
	if !d.making {
		d.r.CleanedUp = true // nothing was made
		return nil
	}
	err := d.run.Step(context.WithoutCancel(ctx), "clean up", d.takeAway)
	d.r.CleanedUp = err == nil
	return tool.Exit(tool.Broken, err, "a namespace or restore that is left has the label slipway.dev/drill="+d.r.Name+"; 'slipway-backup sweep' removes it once its time to live is over")
}

func (d *drill) takeAway(ctx context.Context) error {
	if d.restore != nil && !velero.Ended(d.restore.Status.Phase) {
		d.area.Settle(ctx, d.r.Name)
	}
	// However long that took, the deletions have a time of their own.
	ctx, cancel := tool.Deadline(ctx, deleteTime, "the clean-up")
	defer cancel()
	all := slices.Clone(d.made)
	if d.restore != nil {
		all = append(all, quarantine.Leftover{Kind: quarantine.KindRestore, Name: d.r.Name})
	}
	// A call that was cancelled may have been done all the same, so the cluster
	// is asked as well as our own memory.
	found, err := d.area.Find(ctx, d.o.Now())
	errs := []error{err}
	for _, l := range found {
		if l.Drill == d.r.Name && !slices.ContainsFunc(all, l.Same) {
			all = append(all, l)
		}
	}
	errs = append(errs, d.area.Delete(ctx, all))
	for _, l := range all {
		if l.Kind != quarantine.KindNamespace || !l.Deleted {
			continue
		}
		there, err := inventory.Exists(ctx, d.o.Cluster, l.Name)
		if there {
			err = fmt.Errorf("namespace %q is there again after it was deleted: the restore made it, and it must be deleted by hand", l.Name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// verdict holds the figures against the objectives, and says what is not proven.
func (d *drill) verdict() error {
	r, want := d.r, d.o.Drill.Objectives
	r.objectives(want)
	r.unproven(d.o.Drill)
	for _, p := range r.Problems {
		d.run.Report.Find(report.Finding{Level: "error", Class: "drill", Object: r.Name, Message: p})
		d.run.Log.Printf("problem: %s", p)
	}
	for _, p := range r.Unproven {
		d.run.Report.Find(report.Finding{Level: "warning", Class: "unproven", Object: r.Name, Message: p})
		d.run.Log.Printf("%s", p)
	}
	held := map[string]int{}
	if d.artifact != nil {
		for key := range d.artifact.Items {
			held[key.Resource]++
		}
	}
	for _, e := range r.Excluded {
		if held[e.Resource] == 0 {
			continue
		}
		d.run.Report.Find(report.Finding{Level: "info", Class: "neutralised", Object: e.Resource, Message: fmt.Sprintf("%d in the backup, none restored: it %s", held[e.Resource], e.Why)})
	}
	switch {
	case len(r.Problems) > 0:
		return tool.Exit(tool.Unproven, fmt.Errorf("drill %q: %s", r.Name, strings.Join(append(slices.Clone(r.Problems), r.Unproven...), "; ")))
	case len(r.Unproven) > 0:
		return tool.Exit(tool.Unproven, fmt.Errorf("drill %q: %s", r.Name, strings.Join(r.Unproven, "; ")))
	}
	return nil
}

// objectives compares the figures with what was asked for.
func (r *Result) objectives(want config.Objectives) {
	if want.RPO > 0 && r.RPO.Std() > want.RPO.Std() {
		r.problem("RPO %s is beyond the objective of %s", r.RPO, want.RPO.Std())
	}
	switch {
	case r.RTO == nil:
		r.problem("there is no RTO: no check went green")
	case want.RTO > 0 && r.RTO.Std() > want.RTO.Std():
		r.problem("RTO %s is beyond the objective of %s", *r.RTO, want.RTO.Std())
	}
}

// unproven says what the drill has not shown. No check of this version looks at
// data, so that is always among it.
func (r *Result) unproven(drill *config.Drill) {
	for _, c := range r.Checks {
		switch c.Status {
		case Red:
			r.problem("check %s failed: %s", c.Name, c.Detail)
		case Unproven:
			r.Unproven = append(r.Unproven, fmt.Sprintf("check %s is unproven: %s", c.Name, c.Detail))
		}
	}
	if drill.Objectives.WorseBy > 0 {
		r.Unproven = append(r.Unproven, "objective worseBy is unproven: this version of slipway-backup keeps no trend")
	}
	data := "data unproven: the backup holds no volume, and no check compared restored data with the source"
	if n := len(r.Claims); n > 0 {
		data = fmt.Sprintf("data unproven: no check compared the restored data of %d claims with the source", n)
	}
	r.Unproven = append(r.Unproven, data)
}
