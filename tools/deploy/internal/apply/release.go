// Package apply puts releases into a cluster: one under its lease, with what
// the last run left half done repaired first and what fails put back, or a
// set of them in the order of their needs.
package apply

import (
	"context"
	"time"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Deps is what releases are put in place with.
type Deps struct {
	Run         *tool.Run
	Cluster     *kube.Cluster
	Watcher     *rollout.Watcher
	Owner       owner.Owner
	LockTimeout time.Duration
	JobState    func(context.Context, owner.Owner) string
	Decided     bool // a person says that nobody is at work on the release
	// Renew and Expiry of leases: owner's, unless a test shortens them.
	Renew, Expiry time.Duration
}

// Request is a release, and what to do when it fails.
type Request struct {
	helmrelease.Spec
	Timeout, Stable time.Duration
	CreateNamespace bool
	MadeNamespace   bool   // the caller has just made it for this release
	Lookup          bool   // templates may read the cluster
	Restore         bool   // roll a failed upgrade back
	WhyNot          string // why a failed one is left, where Restore is false
	RemoveFirst     bool   // remove a failed first installation again
	// Refuse ends the run before anything is changed, by what is stored; it is
	// asked under the lease too. Nil refuses nothing.
	Refuse func(helmrelease.State) error
	// Progress takes what the release is at, Tell what its hooks write; nil logs
	// every line of both.
	Progress, Tell func(line string)
}

// The states a release may be left in.
const (
	Deployed  = "deployed"
	Unchanged = "unchanged" // it was deployed before, and nothing was to do
	Restored  = "restored"
	Failed    = "failed"
)

// Result is how a release ended.
type Result struct {
	Release   string          `json:"release"`
	Namespace string          `json:"namespace"`
	Status    string          `json:"status"` // empty where it was not found out what runs
	Revision  int             `json:"revision,omitempty"`
	Chart     string          `json:"chart,omitempty"`
	Ready     float64         `json:"readySeconds"`
	Seconds   float64         `json:"seconds,omitempty"` // from its turn in a set to its end
	Objects   []rollout.State `json:"objects,omitempty"`
	Message   string          `json:"message,omitempty"`
	// Running is the revision that is in place now; nil where there is none.
	Running *helmrelease.Revision `json:"running,omitempty"`
}

// Stepper runs a named step of a release.
type Stepper func(ctx context.Context, name string, fn func(context.Context) error) error

// after bounds what is done once the run itself was told to end.
const after = 30 * time.Second

// untouched is the hint of a run that ended before it changed anything.
const untouched = "nothing was changed"

// Release puts one release in place.
func Release(ctx context.Context, d Deps, r Request, step Stepper) (Result, error) {
	j := newJob(d, r)
	if err := j.makePlan(ctx, step); err != nil {
		return j.result, r.untouched(err)
	}
	return j.release(ctx, step)
}

func newJob(d Deps, r Request) *job {
	return &job{deps: d, request: r, client: helmrelease.New(d.Cluster, d.Watcher, d.Run.Log.Printf), made: &namespaces{},
		result: Result{Release: r.Name, Namespace: r.Namespace, Chart: r.Chart.Name() + "-" + r.Chart.Version()}}
}

// release carries out what was planned.
func (j *job) release(ctx context.Context, step Stepper) (Result, error) {
	done, made, err := j.prepare(ctx, step)
	if !done && err == nil {
		j.deps.Watcher.Warm(j.plan.Objects())
		err = j.hold(ctx, step, "releasing", func(ctx context.Context) error { return j.apply(ctx, step) })
		if !j.looked {
			j.result.Status = "" // somebody else is at work: what runs is theirs to say
		}
	}
	if made {
		err = MadeFor(j.request.Namespace, err)
	}
	return j.result, err
}

// refused asks whether what is stored may be replaced.
func (r Request) refused(s helmrelease.State) error {
	if r.Refuse == nil {
		return nil
	}
	return r.Refuse(s)
}

// untouched tells of a run that ended before it changed anything of the
// release.
func (r Request) untouched(err error) error {
	if r.MadeNamespace {
		return MadeFor(r.Namespace, err)
	}
	return tool.Hint(err, untouched)
}

// job is the work on one release.
type job struct {
	deps    Deps
	request Request
	client  *helmrelease.Client
	before  helmrelease.State
	index   *helmrelease.Index
	made    *namespaces
	looked  bool // before is what was there
	settled bool // it was read back as it was to be
	touched bool // something of the release was changed, or may have been
	plan    *helmrelease.Plan
	result  Result
}

func (j *job) apply(ctx context.Context, step Stepper) (err error) {
	if done, err := j.again(ctx, step); done || err != nil {
		return err
	}
	var outcome helmrelease.Outcome
	err = step(ctx, "apply release "+j.request.Name, func(ctx context.Context) error {
		outcome, err = j.client.Apply(ctx, j.plan, j.wait())
		j.touched = j.touched || outcome.Changed || outcome.Revision > 0
		j.evidence(ctx, outcome, err)
		return err
	})
	j.result.Revision, j.result.Ready, j.result.Objects = outcome.Revision, outcome.Ready.Seconds(), outcome.Objects
	switch {
	case err == nil:
		j.result.Status = Deployed
		return j.readBack(ctx)
	case ctx.Err() != nil:
		return err // handBack says in which state
	case outcome.Changed && outcome.Revision > 0:
		return j.putBack(ctx, err, step)
	}
	state, rerr := j.client.Read(ctx, j.request.Namespace, j.request.Name)
	j.result.Running = state.Deployed
	if rerr != nil {
		j.result.Status = ""
	}
	return beforeIt(outcome, err)
}

// beforeIt is the error of a release that failed before its revision was
// stored: there is nothing to put back, and what was changed stays.
func beforeIt(o helmrelease.Outcome, err error) error {
	if !o.Changed {
		return err
	}
	return changed(err, "the release itself was not touched; run it again when it is mended")
}

func (j *job) wait() helmrelease.Wait {
	w := helmrelease.Wait{Timeout: j.request.Timeout, Stable: j.request.Stable, Progress: j.request.Progress, Tell: j.request.Tell}
	for _, f := range []*func(string){&w.Progress, &w.Tell} {
		if *f == nil {
			*f = func(line string) { j.deps.Run.Log.Printf("%s: %s", j.request.Name, line) }
		}
	}
	return w
}
