// Package lease holds a release for one run: a Lease in its namespace that
// names the owner, is renewed while the owner lives, and is taken over once
// the owner is known to be dead.
package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/owner"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// annotation carries the owner as JSON.
const annotation = "slipway.dev/owner"

// Options of an acquisition.
type Options struct {
	Namespace, Release string
	Owner              owner.Owner
	Wait               time.Duration // how long to wait for a live owner
	// JobState asks GitLab for the state of an owner's job; "" where it cannot
	// be asked. Nil asks nobody.
	JobState func(context.Context, owner.Owner) string
	// Decided is a person's word that an owner of whom it cannot be told whether
	// it lives has ended. One that renews its lease lives, whatever people say.
	Decided bool
	Log     func(format string, args ...any)

	Renew, Expiry time.Duration // owner's, unless a test shortens them
}

// Lease is a held lease.
type Lease struct {
	// Former is the owner that was found dead; nil where the lease was free.
	Former *owner.Owner

	client  coordination.LeaseInterface
	stop    context.CancelFunc
	renewed sync.WaitGroup
	mu      sync.Mutex
	current *coordinationv1.Lease
}

// clocks is how far the clocks of two runners may be apart.
const clocks = 20 * time.Minute

// ErrLost is the cause of a run's end when its lease was taken (its exit code is
// then that of a live owner) or could not be renewed (a temporary failure):
// another run may be at work.
var ErrLost = errors.New("the release's lease was lost: another run may have taken over")

// Name returns the name of a release's lease.
func Name(release string) string { return "slipway-" + release }

// There reports whether anybody has the lease of a release, dead or alive.
func There(ctx context.Context, cluster *kube.Cluster, namespace, release string) (bool, error) {
	_, err := cluster.Clientset().CoordinationV1().Leases(namespace).Get(ctx, Name(release), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the lease of %q: %w", release, refused(err))
	}
	return true, nil
}

// Acquire takes the lease of a release, waiting for a live owner. The context
// it returns ends when the lease is lost.
func Acquire(ctx context.Context, cluster *kube.Cluster, o Options) (context.Context, *Lease, error) {
	if o.Renew == 0 {
		o.Renew, o.Expiry = owner.Renew, owner.Expiry
	}
	l := &Lease{client: cluster.Clientset().CoordinationV1().Leases(o.Namespace)}
	deadline := time.Now().Add(o.Wait)
	seen := observed{}
	for {
		free, err := l.create(ctx, o)
		if err != nil {
			return nil, nil, err
		}
		if free {
			break
		}
		found, err := l.client.Get(ctx, Name(o.Release), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading the lease of %q: %w", o.Release, refused(err))
		}
		taken, next, err := l.consider(ctx, found, &seen, o)
		if err != nil {
			return nil, nil, err
		}
		if taken {
			break
		}
		if !time.Now().Before(deadline) {
			return nil, nil, held(found, o)
		}
		if err := waitForChange(ctx, cluster, found, min(next, time.Until(deadline)), o); err != nil {
			return nil, nil, err
		}
	}
	held, cancel := context.WithCancelCause(ctx)
	renewal, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.renewed.Go(func() { l.renew(renewal, cancel, o) })
	return held, l, nil
}

// observed is when the renewal that a lease shows was first seen, by our own
// clock: the clocks of two runners need not agree.
type observed struct {
	version string
	at      time.Time
}

// consider judges the owner of a lease that was found, and takes it over where
// that owner is dead. next is when to judge again at the latest.
func (l *Lease) consider(ctx context.Context, found *coordinationv1.Lease, seen *observed, o Options) (taken bool, next time.Duration, err error) {
	now := time.Now()
	if seen.version != found.ResourceVersion {
		*seen = observed{found.ResourceVersion, now}
	}
	renewed := seen.at
	if found.Spec.RenewTime == nil || now.Sub(found.Spec.RenewTime.Time) > owner.AgeLimit(o.Expiry)+clocks {
		renewed = now.Add(-owner.AgeLimit(o.Expiry)) // long over, whatever the clocks say
	}
	if left := o.Expiry - now.Sub(renewed); left > 0 {
		o.Log("release %s is held by %s; waiting for its end, or for its lease to expire in %s", o.Release, describe(found), left.Round(time.Second))
		return false, left, nil
	}
	former, err := owner.Decode(found.Annotations[annotation])
	switch {
	case err != nil && o.Decided:
		former = owner.Owner{Kind: "person", User: describe(found), Phase: "unknown"}
	case err != nil:
		return false, 0, undecidable(found, o, err.Error())
	}
	state := ""
	if o.JobState != nil && former.Kind == "job" {
		state = o.JobState(ctx, former)
	}
	verdict, why := owner.Judge(now, owner.Observation{Renewed: renewed, Expiry: o.Expiry, JobState: state})
	switch {
	case o.Decided && (verdict == owner.Unknown || state == ""): // the lease has expired, and GitLab says nothing else
		why += "; " + o.Owner.User + " says that it has ended"
	case verdict == owner.Alive:
		o.Log("release %s is held by %s: %s", o.Release, former, why)
		return false, o.Renew, nil
	case verdict == owner.Unknown:
		return false, 0, undecidable(found, o, why)
	}
	o.Log("taking release %s over from %s: %s", o.Release, former, why)
	mine := found.DeepCopy()
	if err := fill(mine, o); err != nil {
		return false, 0, err
	}
	got, err := l.client.Update(ctx, mine, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return false, 0, nil // somebody was faster, or it lives after all: look again
	}
	if err != nil {
		return false, 0, fmt.Errorf("taking over the lease of %q: %w", o.Release, refused(err))
	}
	l.current, l.Former = got, &former
	return true, 0, nil
}

func (l *Lease) create(ctx context.Context, o Options) (bool, error) {
	fresh := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: Name(o.Release), Namespace: o.Namespace}}
	if err := fill(fresh, o); err != nil {
		return false, err
	}
	got, err := l.client.Create(ctx, fresh, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("taking the lease of %q: %w", o.Release, refused(err))
	}
	l.current = got
	return true, nil
}

func fill(lease *coordinationv1.Lease, o Options) error {
	text, err := o.Owner.Encode()
	if err != nil {
		return err
	}
	now := metav1.NowMicro()
	seconds := max(1, int32(o.Expiry.Seconds())) // for people; the expiry is judged by our own clock
	holder := o.Owner.User
	if o.Owner.Kind == "job" {
		holder = fmt.Sprintf("project %d job %d", o.Owner.Project, o.Owner.Job)
	}
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[annotation] = text
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now}
	return nil
}

// renew renews until the lease is given back. It ends the run when somebody
// else has the lease, or when it could not be renewed for as long as others
// wait before they take it.
func (l *Lease) renew(ctx context.Context, lost context.CancelCauseFunc, o Options) {
	tick := time.NewTicker(o.Renew)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Others count from when the server wrote, which is after this.
		started := time.Now()
		err := l.renewOnce(ctx, o.Renew)
		switch {
		case err == nil:
			last = started
		case ctx.Err() != nil:
			return
		case apierrors.IsConflict(err): // with the name of another owner on it
			lost(tool.Exit(tool.Held, fmt.Errorf("%w: %w", ErrLost, err)))
			return
		case apierrors.IsNotFound(err), time.Since(last) > o.Expiry-o.Renew:
			lost(tool.Exit(tool.Temporary, fmt.Errorf("%w: %w", ErrLost, err)))
			return
		default:
			o.Log("renewing the lease of %s: %v", o.Release, err)
		}
	}
}

// renewOnce renews within most, so that a call that hangs is an error in time.
func (l *Lease) renewOnce(ctx context.Context, most time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	next := l.current.DeepCopy()
	now := metav1.NowMicro()
	next.Spec.RenewTime = &now
	got, err := l.client.Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		// Perhaps it is our own write that is in the way, and only its reply was lost.
		found, gerr := l.client.Get(ctx, l.current.Name, metav1.GetOptions{})
		if gerr != nil {
			return gerr
		}
		if found.UID != l.current.UID || found.Annotations[annotation] != l.current.Annotations[annotation] {
			return err
		}
		got, err = found, nil
	}
	if err == nil {
		l.current = got
	}
	return err
}

// Release gives the lease back. It is deleted only while it is still ours.
func (l *Lease) Release(ctx context.Context) error {
	l.stop()
	l.renewed.Wait()
	err := l.client.Delete(ctx, l.current.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &l.current.UID, ResourceVersion: &l.current.ResourceVersion}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("giving back the lease %q: %w", l.current.Name, err)
	}
	return nil
}

// Abandon stops renewing and leaves the lease to expire: for a run that could
// not put its release into order, so that the next one knows who left it.
func (l *Lease) Abandon() {
	l.stop()
	l.renewed.Wait()
}

// waitForChange watches the lease until it changes, but not longer than most.
func waitForChange(ctx context.Context, cluster *kube.Cluster, found *coordinationv1.Lease, most time.Duration, o Options) error {
	short, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	_, err := cluster.Until(short, coordinationv1.SchemeGroupVersion.WithResource("leases"), o.Namespace, found.Name,
		func(u *unstructured.Unstructured) (bool, error) {
			return u == nil || u.GetResourceVersion() != found.ResourceVersion, nil
		})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && short.Err() == nil {
		return refused(err)
	}
	return nil
}

func describe(l *coordinationv1.Lease) string {
	if o, err := owner.Decode(l.Annotations[annotation]); err == nil {
		return o.String()
	}
	if l.Spec.HolderIdentity != nil {
		return *l.Spec.HolderIdentity
	}
	return "somebody"
}

func held(l *coordinationv1.Lease, o Options) error {
	err := fmt.Errorf("release %q is held by %s, and was not given back within %s", o.Release, describe(l), o.Wait)
	hint := "run again when it has ended, or raise --lock-timeout"
	if own, derr := owner.Decode(l.Annotations[annotation]); derr == nil && own.URL != "" {
		hint = own.URL + ": " + hint
	}
	return tool.Exit(tool.Held, err, hint)
}

func undecidable(l *coordinationv1.Lease, o Options, why string) error {
	return tool.Exit(tool.Undecidable, fmt.Errorf("it cannot be told whether the holder of release %q lives: %s", o.Release, why),
		"once you have made sure that it has ended, a person runs: slipway-deploy recover --nobody-is-at-work, with the flags of this run")
}

func refused(err error) error {
	if kube.Denied(err) {
		return tool.Exit(tool.Denied, err, "the role's group needs rights to leases in the namespace; the tenancy release gives them")
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) && apierrors.IsNotFound(err) {
		return tool.Exit(tool.Failed, err, "the namespace does not exist: the tenancy release of the platform makes it")
	}
	return err
}
