// Package review makes the namespace of a merge request's review app, and
// takes it away with all that is in it.
package review

import (
	"context"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Labels of a review namespace. The admission policy of the tenancy release
// wants the same, and without all of them nothing is ever deleted.
const (
	labelManaged     = "app.kubernetes.io/managed-by"
	labelService     = "slipway.dev/service"
	labelEnvironment = "slipway.dev/environment"
	labelMR          = "slipway.dev/mr"
	labelPodSecurity = "pod-security.kubernetes.io/enforce"

	annotationCreated = "slipway.dev/created"
	annotationExpires = "slipway.dev/expires"

	manager = "slipway-deploy"
)

// App is the review app of one merge request.
type App struct {
	Service     string        `json:"service"`
	Environment string        `json:"environment"`
	MR          string        `json:"mr"`
	Namespace   string        `json:"namespace"`
	Group       string        `json:"-"` // of the service's review role in the cluster
	StopAfter   time.Duration `json:"-"` // how long it stays after its last deployment; 0 for as long as the merge request
}

// labels are those of the app's namespace.
func (a App) labels() map[string]string {
	return map[string]string{labelManaged: manager, labelService: a.Service, labelEnvironment: a.Environment, labelMR: a.MR, labelPodSecurity: "restricted"}
}

// owns reports whether a namespace is this app's: made by us, for it.
func (a App) owns(ns *corev1.Namespace) bool {
	for name, value := range a.labels() {
		if name != labelPodSecurity && ns.Labels[name] != value {
			return false
		}
	}
	return ns.Name == a.Namespace
}

// errForeign refuses a namespace of the app's name that is not the app's.
func (a App) errForeign() error {
	return tool.Exit(tool.Refused, fmt.Errorf("namespace %q exists, and its labels do not say that it is of merge request %s of %s", a.Namespace, a.MR, a.Service),
		"somebody made it by hand; it is never touched: rename or delete it, then run the job again")
}

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// Ensure makes the app's namespace, or renews the time it stays, and lets the
// service's role in. It returns once the role's rights count, and tells whether
// it made the namespace, also beside an error.
func Ensure(ctx context.Context, cluster *kube.Cluster, a App, now time.Time) (made bool, err error) {
	client := cluster.Clientset().CoreV1().Namespaces()
	for {
		found, err := client.Get(ctx, a.Namespace, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			err = a.create(ctx, client, now)
			made = err == nil
		case err != nil:
			return made, fmt.Errorf("looking for namespace %q: %w", a.Namespace, denied(err))
		case !a.owns(found):
			return made, a.errForeign()
		case found.DeletionTimestamp != nil: // a stop job came first
			if err := gone(ctx, cluster, a.Namespace, string(found.UID)); err != nil {
				return made, err
			}
			continue
		default:
			err = a.renew(ctx, client, found, now)
		}
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
			continue // another job was faster; look again
		}
		if err != nil {
			return made, err
		}
		return made, a.admit(ctx, cluster)
	}
}

func (a App) expires(now time.Time) string {
	return now.Add(a.StopAfter).UTC().Format(time.RFC3339)
}

func (a App) create(ctx context.Context, client corev1client.NamespaceInterface, now time.Time) error {
	notes := map[string]string{annotationCreated: now.UTC().Format(time.RFC3339)}
	if a.StopAfter > 0 {
		notes[annotationExpires] = a.expires(now)
	}
	_, err := client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace, Labels: a.labels(), Annotations: notes}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("making namespace %q: %w", a.Namespace, denied(err))
	}
	return nil
}

// renew writes when the app ends now. The update names the version that was
// read, so that it cannot hide a sweep's decision, nor a sweep this.
func (a App) renew(ctx context.Context, client corev1client.NamespaceInterface, found *corev1.Namespace, now time.Time) error {
	if a.StopAfter == 0 {
		return nil
	}
	if found.Annotations == nil {
		found.Annotations = map[string]string{}
	}
	found.Annotations[annotationExpires] = a.expires(now)
	found.Labels[labelPodSecurity] = a.labels()[labelPodSecurity]
	if _, err := client.Update(ctx, found, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("renewing namespace %q: %w", a.Namespace, denied(err))
	}
	return nil
}

// admit binds the role's group to the cluster role that deployers have, and
// waits until the API server knows it. Its knowledge of rights follows some
// time after the write, and cannot be watched.
func (a App) admit(ctx context.Context, cluster *kube.Cluster) error {
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "slipway-deployers", Namespace: a.Namespace, Labels: map[string]string{labelManaged: manager}},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "slipway-deployer"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: a.Group}}}
	_, err := cluster.Clientset().RbacV1().RoleBindings(a.Namespace).Create(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("letting %q into namespace %q: %w", a.Group, a.Namespace, denied(err))
	}
	ctx, cancel := tool.Deadline(ctx, 30*time.Second, "the API server's learning of the rights in namespace "+a.Namespace)
	defer cancel()
	err = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		review, err := cluster.Clientset().AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: a.Namespace, Verb: "create", Resource: "secrets"}}},
			metav1.CreateOptions{})
		return err == nil && review.Status.Allowed, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the rights in namespace %q: %w", a.Namespace, err)
	}
	return nil
}

// gone waits by watch until a namespace is no more, or another one of its name.
func gone(ctx context.Context, cluster *kube.Cluster, name, uid string) error {
	_, err := cluster.Until(ctx, namespaces, "", name, func(obj *unstructured.Unstructured) (bool, error) {
		return obj == nil || string(obj.GetUID()) != uid, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the end of namespace %q: %w", name, err)
	}
	return nil
}

func denied(err error) error {
	if kube.Denied(err) {
		return tool.Exit(tool.Denied, err, "the tenancy release of the platform lets a service's review role make namespaces: its values have the list review.services")
	}
	return err
}
