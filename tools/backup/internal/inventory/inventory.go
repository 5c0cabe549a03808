// Package inventory is what there is to back up, taken before the backup.
package inventory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// Object is an object that the backup must hold.
type Object struct {
	artifact.Key
	UID     string `json:"-"`
	Skipped string `json:"skipped,omitempty"` // why Velero leaves it out
}

// Claim is a volume claim and how its data is expected to be taken.
type Claim struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Size      string   `json:"size"`
	Class     string   `json:"class,omitempty"`
	Phase     string   `json:"phase"`
	Volume    string   `json:"volume,omitempty"`
	Pods      []string `json:"pods,omitempty"` // running pods that mount it
	Expected  string   `json:"expected"`
}

// Inventory is what there is in some namespaces.
type Inventory struct {
	Objects []Object `json:"objects"`
	Claims  []Claim  `json:"claims,omitempty"`
}

// kinds are what is compared: what an environment is made of, as far as the
// backup role may list it. Events, pods and replica sets come and go by
// themselves; custom resources would take the right to list everything.
func kinds() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		{Group: "apps", Version: "v1", Resource: "deployments"},
		{Group: "apps", Version: "v1", Resource: "statefulsets"},
		{Group: "apps", Version: "v1", Resource: "daemonsets"},
		{Group: "batch", Version: "v1", Resource: "cronjobs"},
		{Group: "batch", Version: "v1", Resource: "jobs"},
		{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
		{Version: "v1", Resource: "services"},
		{Version: "v1", Resource: "configmaps"},
		{Version: "v1", Resource: "secrets"},
		{Version: "v1", Resource: "serviceaccounts"},
		{Version: "v1", Resource: "persistentvolumeclaims"},
	}
}

// Exists reports whether a namespace is there.
func Exists(ctx context.Context, c *kube.Cluster, namespace string) (bool, error) {
	_, err := c.Clientset().CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, velero.Denied(fmt.Errorf("looking for namespace %q: %w", namespace, err))
	}
	return true, nil
}

// Take lists what there is. Only names are asked for: a secret's content stays
// in the cluster. volumes is the method of the schedule.
func Take(ctx context.Context, c *kube.Cluster, namespaces []string, volumes string) (*Inventory, error) {
	client, err := metadata.NewForConfig(c.REST())
	if err != nil {
		return nil, fmt.Errorf("making the metadata client: %w", err)
	}
	inv := &Inventory{}
	for _, ns := range namespaces {
		for _, gvr := range kinds() {
			list, err := client.Resource(gvr).Namespace(ns).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, velero.Denied(fmt.Errorf("listing %s in namespace %q: %w", gvr.Resource, ns, err))
			}
			for _, o := range list.Items {
				inv.Objects = append(inv.Objects, Object{UID: string(o.UID), Skipped: skipped(&o.ObjectMeta),
					Key: artifact.Key{Resource: gvr.GroupResource().String(), Namespace: ns, Name: o.Name}})
			}
		}
		if err := inv.claims(ctx, c, ns, volumes); err != nil {
			return nil, err
		}
	}
	return inv, nil
}

// skipped says why Velero leaves an object out by itself.
func skipped(m *metav1.ObjectMeta) string {
	switch {
	case m.Labels["velero.io/exclude-from-backup"] == "true":
		return "label velero.io/exclude-from-backup"
	case m.DeletionTimestamp != nil:
		return "it is being deleted"
	}
	return ""
}

func (inv *Inventory) claims(ctx context.Context, c *kube.Cluster, ns, volumes string) error {
	claims, err := c.Clientset().CoreV1().PersistentVolumeClaims(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return velero.Denied(fmt.Errorf("listing the volume claims of namespace %q: %w", ns, err))
	}
	if len(claims.Items) == 0 {
		return nil
	}
	pods, err := c.Clientset().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return velero.Denied(fmt.Errorf("listing the pods of namespace %q: %w", ns, err))
	}
	mounts := mountedBy(pods.Items)
	for _, p := range claims.Items {
		size := p.Status.Capacity[corev1.ResourceStorage]
		if size.IsZero() {
			size = p.Spec.Resources.Requests[corev1.ResourceStorage]
		}
		claim := Claim{Namespace: ns, Name: p.Name, Size: size.String(), Phase: string(p.Status.Phase), Volume: p.Spec.VolumeName, Pods: mounts[p.Name]}
		if p.Spec.StorageClassName != nil {
			claim.Class = *p.Spec.StorageClassName
		}
		claim.Expected = expected(volumes, claim.Pods)
		inv.Claims = append(inv.Claims, claim)
	}
	return nil
}

// expected is the method that a claim's data should be taken by.
func expected(volumes string, pods []string) string {
	switch {
	case volumes == "snapshots":
		return "snapshot"
	case volumes == "moved":
		return "snapshot, moved into the bucket"
	case len(pods) == 0:
		return "none: no running pod mounts it, and files are read through a pod"
	}
	return "files, through pod " + pods[0]
}

// mountedBy returns the running pods that mount each claim.
func mountedBy(pods []corev1.Pod) map[string][]string {
	out := map[string][]string{}
	for _, p := range pods {
		if p.Status.Phase != corev1.PodRunning {
			continue
		}
		for _, v := range p.Spec.Volumes {
			name := ""
			switch {
			case v.PersistentVolumeClaim != nil:
				name = v.PersistentVolumeClaim.ClaimName
			case v.Ephemeral != nil:
				name = p.Name + "-" + v.Name
			}
			if name != "" {
				out[name] = append(out[name], p.Name)
			}
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// Count says how many objects of each kind there are, for the log.
func (inv *Inventory) Count() string {
	counts := map[string]int{}
	for _, o := range inv.Objects {
		counts[o.Resource]++
	}
	var parts []string
	for _, gvr := range kinds() {
		if n := counts[gvr.GroupResource().String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, gvr.Resource))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
