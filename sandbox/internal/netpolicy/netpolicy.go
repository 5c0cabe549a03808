// Package netpolicy enforces NetworkPolicies for the pods of one node, with
// rules in the kernel's nftables. It has to run in the node's network
// namespace, where every pod has a link of its own, so that all of its
// traffic is routed by the node and passes the rules.
//
// The rules of all pods are one table, replaced in one step at each change. A
// connection that was allowed once goes on, whatever the policies become. As
// with most enforcers a new pod is guarded from when its address is known to
// the API server, a moment after it has started.
package netpolicy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/client-go/util/retry"
)

// Options of the enforcer.
type Options struct {
	Node string // whose pods are guarded
	Log  *log.Logger
}

// retryAfter is the pause after rules that could not be set.
const retryAfter = time.Second

// Run enforces the cluster's policies until ctx ends. The rules stay then: it
// is the namespace that takes them away. Once they are set for the first time
// the node's condition NetworkUnavailable is false, as with any enforcer.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	changed := make(chan struct{}, 1)
	all, err := watchAll(ctx, client, changed)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	enforced := make(chan struct{})
	group.Go(func() error { return enforce(ctx, all, o, changed, enforced) })
	group.Go(func() error {
		select {
		case <-enforced:
		case <-ctx.Done():
			return nil
		}
		if err := sayEnforced(ctx, client, o.Node); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
	return group.Wait()
}

// enforce sets the rules at every change. It closes enforced once it has done
// so for the first time.
func enforce(ctx context.Context, all *listers, o Options, changed <-chan struct{}, enforced chan<- struct{}) error {
	last := ""
	for {
		rules, err := all.compile(o.Node)
		if err == nil && rules != last {
			err = Apply(ctx, rules)
		}
		var again <-chan time.Time
		switch {
		case err != nil && ctx.Err() == nil:
			o.Log.Printf("policies: error: %v", err)
			again = time.After(retryAfter)
		case err == nil && rules != last:
			if last == "" {
				close(enforced)
			}
			last = rules
			o.Log.Printf("policies: %d lines of rules are set", strings.Count(rules, "\n"))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again:
		}
	}
}

// Apply replaces the rules in the kernel by those of Compile, in one step.
func Apply(ctx context.Context, rules string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("setting the rules of the policies with nft: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

type listers struct {
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister
}

// watchAll returns once all is known. What changes from then on is told on
// changed, which has room for one.
func watchAll(ctx context.Context, client kubernetes.Interface, changed chan<- struct{}) (*listers, error) {
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces, policies := factory.Core().V1().Pods(), factory.Core().V1().Namespaces(), factory.Networking().V1().NetworkPolicies()
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, i := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { tell() }, UpdateFunc: func(any, any) { tell() }, DeleteFunc: func(any) { tell() },
		}); err != nil {
			return nil, fmt.Errorf("watching the cluster: %w", err)
		}
	}
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return nil, fmt.Errorf("watching the cluster's %s: %w", kind, context.Cause(ctx))
		}
	}
	return &listers{pods.Lister(), namespaces.Lister(), policies.Lister()}, nil
}

func (l *listers) compile(node string) (string, error) {
	w := World{Node: node}
	var err error
	if w.Pods, err = l.pods.List(labels.Everything()); err != nil {
		return "", err
	}
	if w.Namespaces, err = l.namespaces.List(labels.Everything()); err != nil {
		return "", err
	}
	if w.Policies, err = l.policies.List(labels.Everything()); err != nil {
		return "", err
	}
	return Compile(w)
}

// sayEnforced tells by the node's condition that policies are enforced, as
// soon as there is a node.
func sayEnforced(ctx context.Context, client kubernetes.Interface, node string) error {
	list := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", "", fields.OneTermEqualSelector("metadata.name", node))
	if _, err := watchtools.UntilWithSync(ctx, list, &corev1.Node{}, nil, func(e watch.Event) (bool, error) { return e.Type != watch.Deleted, nil }); err != nil {
		return fmt.Errorf("waiting for the node %q: %w", node, err)
	}
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{
		Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, LastHeartbeatTime: now, LastTransitionTime: now,
		Reason: Enforced, Message: "network policies are enforced",
	}}}})
	if err != nil {
		return err
	}
	// A call that is lost is no reason to end the node.
	if err := retry.OnError(retry.DefaultBackoff, func(error) bool { return ctx.Err() == nil }, func() error {
		_, err := client.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	}); err != nil {
		return fmt.Errorf("telling the node's condition: %w", err)
	}
	return nil
}

// Enforced is the reason of the node's condition NetworkUnavailable where its
// policies are enforced.
const Enforced = "NetworkPoliciesEnforced"
