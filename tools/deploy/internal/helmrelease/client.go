package helmrelease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	helmkube "helm.sh/helm/v3/pkg/kube"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/rollout"
)

// client is Helm's client with its writing and its waiting replaced: it sends
// the patches of our own engine, and where Helm polls, it watches, it judges by
// our own rules, and it ends as soon as the cause is known.
type client struct {
	*helmkube.Client
	ctx     context.Context //nolint:containedctx // Helm's interface has none
	cluster *kube.Cluster
	watcher *rollout.Watcher
	engine  *Client
	release string // in the namespace of Helm's client
	number  int    // of the revision that is put in place; 0 where none is
	timeout time.Duration
	options rollout.Options
	tell    func(line string) // what hooks write; nil follows no log

	before  [][]object                          // what was asked for before a rollback
	going   []change                            // what an uninstallation takes away
	spared  map[key]bool                        // and what it leaves
	deleted bool                                // it has begun to take away
	made    map[types.UID]bool                  // hooks of this run
	hook    func(name string) (end func(error)) // told of each hook that runs; may be nil
	mutated bool                                // a call went out that may have changed the cluster
	left    error                               // why objects could not be deleted, which Helm only logs
	result  rollout.Result
	failure *rollout.Failure
}

var (
	_ helmkube.Interface              = (*client)(nil)
	_ helmkube.InterfaceExt           = (*client)(nil)
	_ helmkube.InterfaceThreeWayMerge = (*client)(nil)
)

// Build reads a manifest. Helm's validation downloads the API's whole schema
// and, against a server that validates fields itself, checks nothing.
func (c *client) Build(r io.Reader, _ bool) (helmkube.ResourceList, error) {
	return c.Client.Build(r, false)
}

// Create creates the objects of a hook; all others come by Update. They are
// marked as the release's: by its name alone nobody could tell whose a hook is.
func (c *client) Create(list helmkube.ResourceList) (*helmkube.Result, error) {
	wanted, err := placed(list)
	if err != nil {
		return nil, err
	}
	changes := make([]change, len(wanted))
	for i, o := range wanted {
		mark(o, c.release, c.Namespace)
		changes[i] = change{object: o, action: Create}
	}
	err = c.engine.carryOut(c.ctx, changes, c.began)
	for _, o := range results(changes) {
		c.made[o.GetUID()] = true
	}
	if err != nil {
		return nil, err
	}
	return resultOf(list, nil, changes)
}

// Update brings objects from all that was asked for to a manifest. Helm's from
// is that of the last revision alone.
func (c *client) Update(from, to helmkube.ResourceList, _ bool) (*helmkube.Result, error) {
	wanted, err := placed(to)
	if err != nil {
		return &helmkube.Result{}, err
	}
	changes, err := c.engine.differ(c.ctx, c.name(), wanted, c.before...)
	for _, ch := range changes {
		if ch.action != Keep {
			continue
		}
		if owner := foreign(ch.live, c.name()); owner != "" {
			c.engine.warn("%s stays: it belongs to release %s by now", ch.key(), owner)
		}
	}
	if err == nil {
		err = c.engine.carryOut(c.ctx, changes, c.began)
	}
	if err != nil {
		return &helmkube.Result{}, err
	}
	return resultOf(to, from, changes)
}

// UpdateThreeWayMerge is Update, which always compares three ways.
func (c *client) UpdateThreeWayMerge(from, to helmkube.ResourceList, force bool) (*helmkube.Result, error) {
	return c.Update(from, to, force)
}

// name is the release as its objects are marked with it.
func (c *client) name() string { return qualified(c.Namespace, c.release) }

func (c *client) began() { c.mutated = true }

// placed turns what Helm has built into objects of ours.
func placed(list helmkube.ResourceList) ([]object, error) {
	objects, err := objectsOf(list)
	if err != nil {
		return nil, err
	}
	out := make([]object, len(list))
	for i, u := range objects {
		out[i] = object{Unstructured: u, gvr: list[i].Mapping.Resource}
	}
	return out, nil
}

// resultOf tells Helm what was done, and refreshes its objects.
func resultOf(to, from helmkube.ResourceList, changes []change) (*helmkube.Result, error) {
	r := &helmkube.Result{}
	for i, info := range to { // the first changes are what is wanted, in its order
		ch := changes[i]
		if err := info.Refresh(ch.result, true); err != nil {
			return r, fmt.Errorf("reading %s: %w", ch.key(), err)
		}
		if ch.action == Create {
			r.Created = append(r.Created, info)
		} else {
			r.Updated = append(r.Updated, info)
		}
	}
	r.Deleted = from.Difference(to)
	return r, nil
}

// Wait waits until the objects are ready and stay so.
func (c *client) Wait(list helmkube.ResourceList, timeout time.Duration) error {
	return c.wait(list, timeout, c.options)
}

// WaitWithJobs waits for jobs as well, which the rules do anyway.
func (c *client) WaitWithJobs(list helmkube.ResourceList, timeout time.Duration) error {
	return c.wait(list, timeout, c.options)
}

func (c *client) wait(list helmkube.ResourceList, timeout time.Duration, o rollout.Options) error {
	objects, err := objectsOf(list)
	if err != nil {
		return err
	}
	return c.await(objects, timeout, o)
}

func (c *client) await(objects []*unstructured.Unstructured, timeout time.Duration, o rollout.Options) error {
	ctx, cancel := context.WithTimeoutCause(c.ctx, timeout, fmt.Errorf("not ready after %s", timeout))
	defer cancel()
	result, err := c.watcher.Wait(ctx, objects, o)
	if !o.Completed || err != nil {
		c.result = result
	}
	var failure *rollout.Failure
	if errors.As(err, &failure) {
		c.failure = failure // Helm keeps the text of a hook's error and loses the rest
	}
	return err
}

// WaitForDelete waits by watch until the objects are gone.
func (c *client) WaitForDelete(list helmkube.ResourceList, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(c.ctx, timeout, fmt.Errorf("not deleted after %s", timeout))
	defer cancel()
	for _, info := range c.mortal(list) {
		gone := func(u *unstructured.Unstructured) (bool, error) { return u == nil, nil }
		if _, err := c.cluster.Until(ctx, info.Mapping.Resource, info.Namespace, info.Name, gone); err != nil {
			return err
		}
	}
	return nil
}

// objectsOf returns the objects as the last call's answer has them, with the
// generation that it gave them.
func objectsOf(list helmkube.ResourceList) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, 0, len(list))
	for _, info := range list {
		u, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(info.Object)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", info.ObjectName(), err)
			}
			u = &unstructured.Unstructured{Object: m}
			u.SetGroupVersionKind(info.Mapping.GroupVersionKind)
		}
		u = u.DeepCopy()
		u.SetNamespace(info.Namespace)
		u.SetName(info.Name)
		out = append(out, u)
	}
	return out, nil
}
