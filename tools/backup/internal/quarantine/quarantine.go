// Package quarantine is the namespaces that a drill restores into: made by us,
// closed by a network policy before anything is in them, marked with their
// drill and their end of life, and deleted by uid alone.
package quarantine

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/mark"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// Area is a drill's part of a cluster.
type Area struct {
	Cluster *kube.Cluster
	Velero  *velero.Client
	Log     func(format string, args ...any)
}

// Namespace is a quarantine namespace.
type Namespace struct {
	Name, UID string
}

// Spec says what a quarantine namespace is for.
type Spec struct {
	Name, Drill, Service string
	Expires              time.Time
	PodSecurity          map[string]string // the labels of the source namespace
}

// policyName is the network policy of every quarantine namespace.
const policyName = "slipway-quarantine"

// Make makes the namespace and closes it. A namespace that is there already is
// refused: it is somebody's. Where closing fails, the namespace is returned
// beside the error, for the clean-up.
func (a Area) Make(ctx context.Context, s Spec) (Namespace, error) {
	labels := map[string]string{mark.Drill: s.Drill, mark.Service: s.Service, mark.Expires: s.Expires.UTC().Format(mark.ExpiresForm)}
	for k, v := range s.PodSecurity {
		labels[k] = v
	}
	made, err := a.Cluster.Clientset().CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Labels: labels}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return Namespace{}, tool.Exit(tool.Refused, fmt.Errorf("making quarantine namespace %q: it is there already", s.Name), "a drill only restores into namespaces that it made itself")
	}
	if err != nil {
		return Namespace{}, denied(fmt.Errorf("making quarantine namespace %q: %w", s.Name, err))
	}
	ns := Namespace{made.Name, string(made.UID)}
	if _, err := a.Cluster.Clientset().NetworkingV1().NetworkPolicies(s.Name).Create(ctx, policy(s.Drill), metav1.CreateOptions{}); err != nil {
		return ns, denied(fmt.Errorf("closing quarantine namespace %q: %w", s.Name, err))
	}
	return ns, nil
}

func denied(err error) error {
	if kube.Denied(err) {
		return tool.Exit(tool.Denied, err, "platform/rbac/backup.yaml lists the rights that slipway-backup needs")
	}
	return err
}

// policy denies every connection in and out, but those between the namespaces
// of one drill, and the cluster's DNS.
func policy(drill string) *networkingv1.NetworkPolicy {
	same := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{mark.Drill: drill}}}
	dns := networkingv1.NetworkPolicyPeer{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "kube-system"}},
		PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}},
	}
	port, udp, tcp := intstr.FromInt32(53), corev1.ProtocolUDP, corev1.ProtocolTCP
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: policyName, Labels: map[string]string{mark.Drill: drill}},
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{same}}},
			Egress: []networkingv1.NetworkPolicyEgressRule{
				{To: []networkingv1.NetworkPolicyPeer{same}},
				{To: []networkingv1.NetworkPolicyPeer{dns}, Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &port}, {Protocol: &tcp, Port: &port}}},
			},
		},
	}
}

// Delete deletes the namespaces, each only if it still is the one with that
// uid, and waits by watch until they are gone.
func (a Area) Delete(ctx context.Context, list []Namespace) error {
	api := a.Cluster.Clientset().CoreV1().Namespaces()
	var errs []error
	var waiting []Namespace
	for _, ns := range list {
		uid := types.UID(ns.UID)
		err := api.Delete(ctx, ns.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		switch {
		case apierrors.IsNotFound(err):
			continue
		case apierrors.IsConflict(err):
			// Another namespace of that name: ours is gone, or being deleted.
			if err = a.stillOurs(ctx, ns); err == nil {
				continue
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("deleting namespace %q: %w", ns.Name, err))
			continue
		}
		waiting = append(waiting, ns)
	}
	for _, ns := range waiting {
		_, err := a.Cluster.Until(ctx, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "", ns.Name,
			func(u *unstructured.Unstructured) (bool, error) { return u == nil || string(u.GetUID()) != ns.UID, nil })
		if err != nil {
			errs = append(errs, fmt.Errorf("deleting namespace %q: %w", ns.Name, err))
			continue
		}
		a.Log("namespace %s is gone", ns.Name)
	}
	return errors.Join(errs...)
}

// stillOurs is an error where the namespace with the uid is there after all.
func (a Area) stillOurs(ctx context.Context, ns Namespace) error {
	have, err := a.Cluster.Clientset().CoreV1().Namespaces().Get(ctx, ns.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && string(have.UID) != ns.UID {
		return nil
	}
	if err == nil {
		err = errors.New("the server refused, and it is still there")
	}
	return err
}

// Leftover is what a drill left behind.
type Leftover struct {
	Kind    string    `json:"kind"` // Namespace | Restore
	Name    string    `json:"name"`
	UID     string    `json:"uid"`
	Drill   string    `json:"drill"`
	Expires time.Time `json:"expires"`
	Expired bool      `json:"expired"`
	Deleted bool      `json:"deleted"`

	running bool // a restore that has not ended
}

// Find returns everything that drills left in the cluster.
func (a Area) Find(ctx context.Context, now time.Time) ([]Leftover, error) {
	list, err := a.Cluster.Clientset().CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: mark.Drill})
	if err != nil {
		return nil, denied(fmt.Errorf("looking for quarantine namespaces: %w", err))
	}
	var out []Leftover
	for _, ns := range list.Items {
		out = append(out, leftover("Namespace", ns.Name, string(ns.UID), ns.Labels, now))
	}
	restores, err := a.Velero.Restores(ctx, mark.Drill)
	if err != nil {
		return nil, err
	}
	for _, r := range restores {
		l := leftover("Restore", r.Meta.Name, r.Meta.UID, r.Meta.Labels, now)
		l.running = !velero.Ended(r.Status.Phase)
		out = append(out, l)
	}
	return out, nil
}

// leftover judges by the labels alone. One without a readable end of life
// never expires: it is not as we make them.
func leftover(kind, name, uid string, labels map[string]string, now time.Time) Leftover {
	l := Leftover{Kind: kind, Name: name, UID: uid, Drill: labels[mark.Drill]}
	if at, err := time.Parse(mark.ExpiresForm, labels[mark.Expires]); err == nil {
		l.Expires, l.Expired = at, now.After(at)
	}
	return l
}

// Settle waits for the end of a restore, or until it makes no progress: one
// that still runs would make the namespaces again that are taken away from it,
// without a policy and without our label.
func (a Area) Settle(ctx context.Context, restore string) {
	if _, err := a.Velero.WaitRestore(ctx, restore); err != nil {
		a.Log("restore %s has not ended: %v", restore, err)
	}
}

// Sweep deletes what has expired, and returns all there was.
func (a Area) Sweep(ctx context.Context, now time.Time) ([]Leftover, error) {
	all, err := a.Find(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		if l.Expired && l.running {
			a.Settle(ctx, l.Name)
		}
	}
	var errs []error
	for i, l := range all {
		if !l.Expired {
			continue
		}
		a.Log("%s %s of drill %s expired at %s: deleting it", l.Kind, l.Name, l.Drill, l.Expires.Format(time.RFC3339))
		var err error
		if l.Kind == "Namespace" {
			err = a.Delete(ctx, []Namespace{{l.Name, l.UID}})
		} else {
			err = a.Velero.DeleteRestore(ctx, l.Name, l.UID)
		}
		all[i].Deleted = err == nil
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}
