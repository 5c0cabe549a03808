package velero

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Client speaks to the Velero of one cluster.
type Client struct {
	Cluster   *kube.Cluster
	Namespace string                           // where Velero is
	Progress  func(format string, args ...any) // gets a line whenever something changed
	Stall     time.Duration                    // without any change for so long, a wait is over
}

// probeTime is how long a server has to answer. It takes about a second.
const probeTime = 20 * time.Second

// Probe asks the server to answer, and returns its version. Nothing but the
// question itself, which Velero takes away again, is made.
func (c *Client) Probe(ctx context.Context) (string, error) {
	request, err := write("ServerStatusRequest", map[string]any{"metadata": map[string]any{"generateName": "slipway-backup-"}, "spec": map[string]any{}})
	if err != nil {
		return "", err
	}
	api := c.Cluster.Dynamic().Resource(serverStatusRequests()).Namespace(c.Namespace)
	made, err := api.Create(ctx, request, metav1.CreateOptions{})
	if err != nil {
		return "", c.explain(fmt.Errorf("asking Velero's server for its state: %w", err))
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		// Velero takes it away by itself after a minute; a server that is down does not.
		if err := api.Delete(ctx, made.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			c.Progress("could not take away the server status request %q: %v", made.GetName(), err)
		}
	}()
	ctx, cancel := tool.Deadline(ctx, probeTime, "Velero's answer")
	defer cancel()
	answer, err := c.Cluster.Until(ctx, serverStatusRequests(), c.Namespace, made.GetName(), func(u *unstructured.Unstructured) (bool, error) {
		if u == nil {
			return false, nil
		}
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		return phase == "Processed", nil
	})
	if err != nil {
		return "", tool.Exit(code(err, tool.Temporary), err,
			fmt.Sprintf("Velero's server does not answer: look at deployment velero in namespace %q and its log", c.Namespace))
	}
	version, _, _ := unstructured.NestedString(answer.Object, "status", "serverVersion")
	return version, nil
}

// Spaced returns a version to be put behind a name: a server that was built
// without a version says none.
func Spaced(version string) string {
	if version == "" {
		return ""
	}
	return " " + version
}

// code keeps a cancellation a cancellation.
func code(err error, other int) int {
	if errors.Is(err, context.Canceled) {
		return tool.Cancelled
	}
	return other
}

// explain says what a refused or unknown kind means.
func (c *Client) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return tool.Exit(tool.Temporary, err, fmt.Sprintf("Velero, or its namespace %q, is not in this cluster", c.Namespace))
	}
	return Denied(err)
}

// Denied says, of an error by which a cluster refuses us, which rights it takes.
// An answer that may be another one next time is worth a retry.
func Denied(err error) error {
	if apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) {
		return tool.Exit(tool.Temporary, err)
	}
	if kube.Denied(err) {
		return tool.Exit(tool.Denied, err, "platform/rbac/backup.yaml lists the rights that slipway-backup needs")
	}
	return err
}

// Location returns the storage location of a name, or the default one, and
// fails where backups cannot be written to or read from it.
func (c *Client) Location(ctx context.Context, name string, write bool) (Location, error) {
	list, err := c.Cluster.Dynamic().Resource(locations()).Namespace(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return Location{}, c.explain(fmt.Errorf("listing Velero's storage locations: %w", err))
	}
	for i := range list.Items {
		var l Location
		if err := read(&list.Items[i], &l); err != nil {
			return Location{}, err
		}
		if l.Meta.Name == name || name == "" && l.Spec.Default {
			return l, usable(l, write)
		}
	}
	if name == "" {
		name = "default"
	}
	return Location{}, tool.Exitf(tool.Temporary, "finding Velero's storage location %q: there are %d, and none is it", name, len(list.Items))
}

func usable(l Location, write bool) error {
	switch {
	case l.Spec.Provider != "aws" && l.Spec.Provider != "velero.io/aws":
		return tool.Exitf(tool.Usage, "storage location %q is of provider %q: only aws is read here", l.Meta.Name, l.Spec.Provider)
	case l.Status.Phase != "Available":
		return tool.Exit(tool.Temporary, fmt.Errorf("storage location %q is %q: %s", l.Meta.Name, l.Status.Phase, l.Status.Message),
			"Velero cannot reach bucket "+l.Spec.ObjectStorage.Bucket+"; nothing was created")
	case write && l.Spec.AccessMode == "ReadOnly":
		return tool.Exitf(tool.Usage, "storage location %q is read-only: no backup can be written to it", l.Meta.Name)
	}
	return nil
}

// Backups returns the backups with a label.
func (c *Client) Backups(ctx context.Context, selector string) ([]Backup, error) {
	return list[Backup](ctx, c, backups(), selector)
}

// Restores returns the restores with a label.
func (c *Client) Restores(ctx context.Context, selector string) ([]Restore, error) {
	return list[Restore](ctx, c, restores(), selector)
}

func list[T any](ctx context.Context, c *Client, gvr schema.GroupVersionResource, selector string) ([]T, error) {
	found, err := c.Cluster.Dynamic().Resource(gvr).Namespace(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, c.explain(fmt.Errorf("listing Velero's %s: %w", gvr.Resource, err))
	}
	out := make([]T, len(found.Items))
	for i := range found.Items {
		if err := read(&found.Items[i], &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// CreateBackup makes a backup.
func (c *Client) CreateBackup(ctx context.Context, b Backup) error {
	return c.create(ctx, backups(), "Backup", b)
}

// CreateRestore makes a restore.
func (c *Client) CreateRestore(ctx context.Context, r Restore) error {
	return c.create(ctx, restores(), "Restore", r)
}

// create makes an object. Where the reply is lost the cluster is asked whether
// it is there: its name holds the moment and is nobody else's.
func (c *Client) create(ctx context.Context, gvr schema.GroupVersionResource, kind string, v any) error {
	u, err := write(kind, v)
	if err != nil {
		return err
	}
	api := c.Cluster.Dynamic().Resource(gvr).Namespace(c.Namespace)
	_, err = api.Create(ctx, u, metav1.CreateOptions{})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("making the %s %q: %w", kind, u.GetName(), err)
	var answer apierrors.APIStatus
	if errors.As(err, &answer) || ctx.Err() != nil { // told to end: what follows cleans up
		return c.explain(err)
	}
	switch _, gerr := api.Get(ctx, u.GetName(), metav1.GetOptions{}); {
	case gerr == nil:
		c.Progress("the reply to making %s %s was lost; it is there", gvr.Resource, u.GetName())
		return nil
	case apierrors.IsNotFound(gerr):
		return tool.Exit(tool.Temporary, err)
	}
	return tool.Exit(tool.Broken, err, fmt.Sprintf("whether it was made is not known: look for %s %q in namespace %q", gvr.Resource, u.GetName(), c.Namespace))
}

// WaitBackup waits by watch until the backup has ended.
func (c *Client) WaitBackup(ctx context.Context, name string) (Backup, error) {
	var b Backup
	err := c.wait(ctx, backups(), name, func(u *unstructured.Unstructured) (string, bool, error) {
		b = Backup{}
		if err := read(u, &b); err != nil {
			return "", false, err
		}
		s := b.Status
		line := fmt.Sprintf("backup %s: %s, %d of %d items", name, phase(s.Phase), s.Progress.ItemsBackedUp, s.Progress.TotalItems)
		if s.QueuePosition > 0 {
			line += fmt.Sprintf(", place %d in Velero's queue", s.QueuePosition)
		}
		return line, Ended(s.Phase), nil
	})
	return b, err
}

// WaitRestore waits by watch until the restore has ended.
func (c *Client) WaitRestore(ctx context.Context, name string) (Restore, error) {
	var r Restore
	err := c.wait(ctx, restores(), name, func(u *unstructured.Unstructured) (string, bool, error) {
		r = Restore{}
		if err := read(u, &r); err != nil {
			return "", false, err
		}
		s := r.Status
		return fmt.Sprintf("restore %s: %s, %d of %d items", name, phase(s.Phase), s.Progress.ItemsRestored, s.Progress.TotalItems), Ended(s.Phase), nil
	})
	return r, err
}

func phase(p string) string {
	if p == "" {
		return "not yet taken up"
	}
	return p
}

// wait follows an object until it has ended, and gives up where nothing
// changes any more, in it or in the data of its volumes: Velero has states that
// it never leaves. A list may come out of a cache that is older than the object;
// whether it is there at all is therefore asked for first.
func (c *Client) wait(ctx context.Context, gvr schema.GroupVersionResource, name string, look func(*unstructured.Unstructured) (line string, ended bool, err error)) error {
	gone := errors.New("it is gone: somebody deleted it")
	if _, err := c.Cluster.Dynamic().Resource(gvr).Namespace(c.Namespace).Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return fmt.Errorf("waiting for %s %q: %w", gvr.Resource, name, gone)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stalled := fmt.Errorf("nothing changed for %s", c.Stall)
	timer := time.AfterFunc(c.Stall, func() { cancel(stalled) })
	defer timer.Stop()
	moves := func(line string) {
		timer.Reset(c.Stall)
		c.Progress("%s", line)
	}
	var following sync.WaitGroup
	following.Go(func() { c.follow(ctx, gvr, name, moves) })
	defer following.Wait()
	defer cancel(nil)
	last, seen := "", false
	_, err := c.Cluster.Until(ctx, gvr, c.Namespace, name, func(u *unstructured.Unstructured) (bool, error) {
		if u == nil && seen {
			return false, gone
		}
		if u == nil {
			return false, nil // the server's cache is older than the object
		}
		seen = true
		line, ended, err := look(u)
		if line != last {
			last = line
			moves(line)
		}
		return ended, err
	})
	if err != nil && (errors.Is(err, stalled) || errors.Is(ctx.Err(), context.DeadlineExceeded)) {
		return tool.Exit(tool.Temporary, fmt.Errorf("%w; the last state was %q", err, last),
			"look at the log of Velero's server; version 1.18.3 and older can block their queue until the server is restarted (velero#10519)")
	}
	return err
}

// DeleteRestore asks for the deletion of a restore, where it still is the one
// with the uid, if that is known. One that is not there is no error.
func (c *Client) DeleteRestore(ctx context.Context, name, uid string) error {
	opts := metav1.DeleteOptions{}
	if uid != "" {
		id := types.UID(uid)
		opts.Preconditions = &metav1.Preconditions{UID: &id}
	}
	err := c.Cluster.Dynamic().Resource(restores()).Namespace(c.Namespace).Delete(ctx, name, opts)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return c.explain(err)
}

// RestoreGone waits until a restore is gone: the server takes what it keeps of
// it out of the bucket before.
func (c *Client) RestoreGone(ctx context.Context, name string) error {
	_, err := c.Cluster.Until(ctx, restores(), c.Namespace, name, func(u *unstructured.Unstructured) (bool, error) { return u == nil, nil })
	return err
}
