package box

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"gitlab.com/slipway/slipway/sandbox/internal/netpolicy"
)

// policyUser is the enforcer of network policies, in RBAC.
const policyUser = "sandbox-network-policy"

// policiesEnforced waits until the node enforces network policies.
func (b *Box) policiesEnforced(ctx context.Context, cluster string) error {
	client, err := b.client(cluster)
	if err != nil {
		return err
	}
	// What the enforcer of an earlier node said does not count. The condition's
	// time is in whole seconds, and is said once.
	entry, _ := b.journal.Entry(nodePart(cluster))
	started, err := entry.StartedAt()
	if err != nil {
		return err
	}
	started = started.Truncate(time.Second)
	err = until(ctx, client.CoreV1().RESTClient(), "nodes", "", nodeName, &corev1.Node{}, func(e watch.Event) (bool, error) {
		n, ok := e.Object.(*corev1.Node)
		if !ok {
			return false, apierrors.FromObject(e.Object)
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeNetworkUnavailable {
				return c.Status == corev1.ConditionFalse && c.Reason == netpolicy.Enforced && !c.LastHeartbeatTime.Time.Before(started), nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for network policies to be enforced: %w", err)
	}
	return nil
}
