package helmrelease

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// record is a revision and the Secret that it is stored in, whose version
// guards every write. The Secret is nil until the first one.
type record struct {
	rel     *release.Release
	secret  *corev1.Secret
	foreign bool // it was read: another version of Helm may have written it
}

func (r *record) encode() ([]byte, error) {
	if r.foreign {
		return rewritten(r.secret, r.rel)
	}
	return encode(r.rel)
}

// save writes a record as Helm's driver does: the first time it must not exist
// yet, later it must be as it was read.
func (c *Client) save(ctx context.Context, r *record) error {
	data, err := r.encode()
	if err != nil {
		return fmt.Errorf("encoding revision %d of release %q: %w", r.rel.Version, r.rel.Name, err)
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	set := labels.Set{}
	maps.Copy(set, r.rel.Labels)
	maps.Copy(set, labels.Set{"name": r.rel.Name, "owner": "helm", "status": string(r.rel.Info.Status), "version": strconv.Itoa(r.rel.Version)})
	secrets := c.cluster.Clientset().CoreV1().Secrets(r.rel.Namespace)
	if r.secret == nil {
		set["createdAt"] = now
		r.secret, err = secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: recordName(r.rel.Name, r.rel.Version), Labels: set},
			Type: recordType, Data: map[string][]byte{"release": data}}, metav1.CreateOptions{})
		if err != nil {
			r.secret = nil
			return fmt.Errorf("storing revision %d of release %q: %w", r.rel.Version, r.rel.Name, denied(err))
		}
		return nil
	}
	set["modifiedAt"] = now
	if at := r.secret.Labels["createdAt"]; at != "" {
		set["createdAt"] = at
	}
	next := r.secret.DeepCopy()
	next.Labels, next.Data = set, map[string][]byte{"release": data}
	if next, err = secrets.Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("storing revision %d of release %q: %w", r.rel.Version, r.rel.Name, denied(err))
	}
	r.secret = next
	return nil
}

// prune makes room for one more revision. What is deployed stays.
func (c *Client) prune(ctx context.Context, namespace string, list []stored) error {
	spare, newest := len(list)-(maxHistory-1), slices.IndexFunc(list, stored.deployed)
	for i, r := range slices.Backward(list) {
		if spare <= 0 {
			break
		}
		if i == newest {
			continue
		}
		err := c.cluster.Clientset().CoreV1().Secrets(namespace).Delete(ctx, r.secret, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting record %q: %w", r.secret, denied(err))
		}
		spare--
	}
	return nil
}

// supersede marks what was deployed before. It comes after the new revision
// was marked deployed: a run that dies in between leaves two of them, of which
// Helm takes the later, rather than none.
func (c *Client) supersede(ctx context.Context, namespace, name string, list []stored) error {
	for _, s := range list {
		if !s.deployed() {
			continue
		}
		r, err := c.load(ctx, namespace, name, s.number)
		if err != nil {
			return err
		}
		r.rel.Info.Status = release.StatusSuperseded
		if err := c.save(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
