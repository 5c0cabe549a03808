// Package quarantine is the namespaces that a drill restores into: made by us,
// closed by a network policy before anything is in them, marked with their
// drill and their end of life, and deleted by uid alone.
package quarantine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

	settle time.Duration // SettleTime where it is zero
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
// beside the error, for the clean-up; else it is nil.
func (a Area) Make(ctx context.Context, s Spec) (*Leftover, error) {
	labels := map[string]string{mark.Drill: s.Drill, mark.Service: s.Service, mark.Expires: s.Expires.UTC().Format(mark.ExpiresForm)}
	for k, v := range s.PodSecurity {
		labels[k] = v
	}
	made, err := a.Cluster.Clientset().CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Labels: labels}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil, tool.Exit(tool.Refused, fmt.Errorf("making quarantine namespace %q: it is there already", s.Name), "a drill only restores into namespaces that it made itself")
	}
	if err != nil {
		return nil, velero.Denied(fmt.Errorf("making quarantine namespace %q: %w", s.Name, err))
	}
	ns := &Leftover{Kind: KindNamespace, Name: made.Name, UID: string(made.UID), Drill: s.Drill, Expires: s.Expires}
	if _, err := a.Cluster.Clientset().NetworkingV1().NetworkPolicies(s.Name).Create(ctx, policy(s.Drill), metav1.CreateOptions{}); err != nil {
		return ns, velero.Denied(fmt.Errorf("closing quarantine namespace %q: %w", s.Name, err))
	}
	return ns, nil
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

// stillOurs is an error where the namespace with the uid is there after all.
func (a Area) stillOurs(ctx context.Context, ns Leftover) error {
	have, err := a.Cluster.Clientset().CoreV1().Namespaces().Get(ctx, ns.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && string(have.UID) != ns.UID {
		return nil
	}
	if err == nil {
		err = errors.New("the server refused, and it is still there")
	}
	return err
}

// Kinds of what drills make.
const (
	KindNamespace = "Namespace"
	KindRestore   = "Restore"
)

// Leftover is what a drill made, and may have left behind.
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

// Same reports whether two are the same object. A uid that is not known is no
// difference.
func (l Leftover) Same(other Leftover) bool {
	return l.Kind == other.Kind && l.Name == other.Name && (l.UID == other.UID || l.UID == "" || other.UID == "")
}

// Find returns everything that drills left in the cluster.
func (a Area) Find(ctx context.Context, now time.Time) ([]Leftover, error) {
	list, err := a.Cluster.Clientset().CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: mark.Drill})
	if err != nil {
		return nil, velero.Denied(fmt.Errorf("looking for quarantine namespaces: %w", err))
	}
	var out []Leftover
	for _, ns := range list.Items {
		out = append(out, leftover(KindNamespace, ns.Name, string(ns.UID), ns.Labels, now))
	}
	restores, err := a.Velero.Restores(ctx, mark.Drill)
	if err != nil {
		return nil, err
	}
	for _, r := range restores {
		l := leftover(KindRestore, r.Meta.Name, r.Meta.UID, r.Meta.Labels, now)
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

// SettleTime is how long running restores may take to end before what they
// make is taken from under them.
const SettleTime = time.Minute

// Settle waits for the end of restores, all together for a minute at most: one
// that still runs would make the namespaces again that are taken away from it,
// without a policy and without our label. One that never ends keeps nothing
// from being deleted.
func (a Area) Settle(ctx context.Context, restores ...string) {
	ctx, cancel := tool.Deadline(ctx, cmp.Or(a.settle, SettleTime), "the end of what still runs")
	defer cancel()
	for _, name := range restores {
		if _, err := a.Velero.WaitRestore(ctx, name); err != nil {
			a.Log("restore %s has not ended: %v", name, err)
		}
	}
}

// Delete deletes everything of the list, each only if it still is the one with
// that uid, and notes what is gone. All of it is asked for before any of it is
// waited for, by watch: one that hangs keeps nothing else. Volumes that stay
// when their namespace is gone are an error.
func (a Area) Delete(ctx context.Context, list []Leftover) error {
	errs := make([]error, len(list))
	for i, l := range list {
		errs[i] = a.ask(ctx, l)
	}
	var waiting sync.WaitGroup
	for i, l := range list {
		waiting.Go(func() {
			if errs[i] == nil {
				errs[i] = a.gone(ctx, l)
			}
			if errs[i] != nil {
				errs[i] = fmt.Errorf("deleting %s %q: %w", strings.ToLower(l.Kind), l.Name, errs[i])
				return
			}
			list[i].Deleted = true
			a.Log("%s %s is gone", strings.ToLower(l.Kind), l.Name)
		})
	}
	waiting.Wait()
	var gone []string
	for _, l := range list {
		if l.Deleted && l.Kind == KindNamespace {
			gone = append(gone, l.Name)
		}
	}
	return errors.Join(append(errs, a.volumesGone(ctx, gone))...)
}

// ask asks for the deletion of one. What is not there any more is no error.
func (a Area) ask(ctx context.Context, l Leftover) error {
	if l.Kind == KindRestore {
		return a.Velero.DeleteRestore(ctx, l.Name, l.UID)
	}
	uid := types.UID(l.UID)
	err := a.Cluster.Clientset().CoreV1().Namespaces().Delete(ctx, l.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		// Another namespace of that name: ours is gone, or being deleted.
		return a.stillOurs(ctx, l)
	}
	return velero.Denied(err)
}

// gone waits until one is not there any more.
func (a Area) gone(ctx context.Context, l Leftover) error {
	if l.Kind == KindRestore {
		return a.Velero.RestoreGone(ctx, l.Name)
	}
	_, err := a.Cluster.Until(ctx, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "", l.Name,
		func(u *unstructured.Unstructured) (bool, error) { return u == nil || string(u.GetUID()) != l.UID, nil })
	return err
}

// volumesGone waits until no volume is left that a claim of the namespaces was
// bound to. One that is kept by its reclaim policy holds a copy of production's
// data that nothing ever takes away, and its label is not ours to find it by.
func (a Area) volumesGone(ctx context.Context, namespaces []string) error {
	if len(namespaces) == 0 {
		return nil
	}
	var left []string
	err := a.Cluster.UntilList(ctx, schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumes"}, "", metav1.ListOptions{},
		func(list []*unstructured.Unstructured) (bool, error) {
			var going int
			left, going = volumesOf(list, namespaces)
			return going == 0, nil
		})
	if err != nil {
		err = velero.Denied(fmt.Errorf("looking for the volumes of %s: %w", strings.Join(namespaces, ", "), err))
	}
	if len(left) > 0 {
		err = tool.Hint(errors.Join(fmt.Errorf("volumes are left behind: %s", strings.Join(left, "; ")), err),
			"they hold a copy of the source's data: delete each, and the storage that it stands for, by hand")
	}
	return err
}

// volumesOf returns the volumes that were bound in some namespaces, and how
// many of them are still to be deleted by their provisioner.
func volumesOf(list []*unstructured.Unstructured, namespaces []string) (left []string, going int) {
	for _, u := range list {
		ns, _, _ := unstructured.NestedString(u.Object, "spec", "claimRef", "namespace")
		if !slices.Contains(namespaces, ns) {
			continue
		}
		claim, _, _ := unstructured.NestedString(u.Object, "spec", "claimRef", "name")
		policy, _, _ := unstructured.NestedString(u.Object, "spec", "persistentVolumeReclaimPolicy")
		left = append(left, fmt.Sprintf("%s of claim %s/%s (%s)", u.GetName(), ns, claim, policy))
		if policy == string(corev1.PersistentVolumeReclaimDelete) {
			going++
		}
	}
	slices.Sort(left)
	return left, going
}

// Sweep deletes what has expired, and returns all there was.
func (a Area) Sweep(ctx context.Context, now time.Time) ([]Leftover, error) {
	all, err := a.Find(ctx, now)
	if err != nil {
		return nil, err
	}
	// What has expired comes first, so that Delete writes into the list itself.
	slices.SortStableFunc(all, func(x, y Leftover) int { return order(x) - order(y) })
	n := 0
	var running []string
	for ; n < len(all) && all[n].Expired; n++ {
		a.Log("%s %s of drill %s expired at %s: deleting it", all[n].Kind, all[n].Name, all[n].Drill, all[n].Expires.Format(time.RFC3339))
		if all[n].running {
			running = append(running, all[n].Name)
		}
	}
	a.Settle(ctx, running...)
	return all, a.Delete(ctx, all[:n])
}

func order(l Leftover) int {
	if l.Expired {
		return 0
	}
	return 1
}
