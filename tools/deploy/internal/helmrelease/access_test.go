package helmrelease

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/tool"
)

func account(name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func readAll() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}}}
}

// bind gives a group rights in the world's namespace.
func (w *world) bind(group string, rules []rbacv1.PolicyRule) {
	w.t.Helper()
	rbac := w.cluster.Clientset().RbacV1()
	_, err := rbac.Roles(w.namespace).Create(w.t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: group}, Rules: rules}, metav1.CreateOptions{})
	w.must(err)
	_, err = rbac.RoleBindings(w.namespace).Create(w.t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: group},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: group}, Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: group}}}, metav1.CreateOptions{})
	w.must(err)
	// The server's authorizer takes a binding up a moment after it is stored.
	reviews, first := w.as(group).cluster.Clientset().AuthorizationV1().SelfSubjectAccessReviews(), rules[0]
	w.until("the binding counts", func() bool {
		r, err := reviews.Create(w.t.Context(), &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: w.namespace, Verb: first.Verbs[0], Group: first.APIGroups[0], Resource: first.Resources[0]}}}, metav1.CreateOptions{})
		return err == nil && r.Status.Allowed
	})
}

// tenancy makes the world's namespace one of a service, by the platform's own
// chart. What the chart has once for a cluster bears a name of this test's
// own, so that the cluster's stays as it is.
func (w *world) tenancy(deployers, dryRun string) {
	w.t.Helper()
	c, err := loader.LoadDir(filepath.Join("..", "..", "..", "..", "examples", "platform", "addons", "charts", "tenancy"))
	w.must(err)
	mine := w.namespace + "-"
	for _, f := range c.Templates {
		text := string(f.Data)
		if f.Name == "templates/backup.yaml" {
			text = ""
		}
		for _, name := range []string{"slipway-deployer", "slipway-dry-run", "slipway-services"} {
			text = strings.ReplaceAll(text, name, mine+name)
		}
		text = strings.ReplaceAll(text, "apiVersion: platform.example.com/v1\nkind: Tenant\n", "apiVersion: v1\nkind: ConfigMap\n")
		text = strings.ReplaceAll(text, "\nspec:\n  service:", "\ndata:\n  service:")
		text = strings.ReplaceAll(text, "slipway:dry-run", "slipway:"+mine+"dry-run")
		f.Data = []byte(text)
	}
	s := Spec{Name: "tenancy", Namespace: w.namespace, Chart: &Chart{c: c}, Values: map[string]any{"tenants": []any{map[string]any{
		"name": "orders", "environment": "dev", "namespace": w.namespace, "team": "commerce", "deployers": []any{deployers}, "dryRun": []any{dryRun}}}}}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, name := range []string{"slipway-deployer", "slipway-dry-run", "slipway-services"} {
			_ = w.cluster.Clientset().RbacV1().ClusterRoles().Delete(ctx, mine+name, metav1.DeleteOptions{})
			_ = w.cluster.Clientset().AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, mine+name, metav1.DeleteOptions{})
			_ = w.cluster.Clientset().AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, mine+name, metav1.DeleteOptions{})
		}
	})
	// Its namespace is here already.
	there, err := w.client.Adoptable(w.t.Context(), s, true)
	w.must(err)
	w.must(w.client.Adopt(w.t.Context(), s, there))
	w.apply(s)
	// The server takes policies up a moment after they are stored.
	guest := w.as(dryRun).cluster.Clientset().CoreV1().ConfigMaps(w.namespace)
	host := one(w.t, strings.Replace(secure, "    spec:\n", "    spec:\n      hostNetwork: true\n", 1))
	w.until("the policies count", func() bool {
		_, written := guest.Create(w.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}}, metav1.CreateOptions{})
		_, tried := w.cluster.Dynamic().Resource(deployments).Namespace(w.namespace).Create(w.t.Context(), host.DeepCopy(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return written != nil && tried != nil && strings.Contains(written.Error(), "and make none") && strings.Contains(tried.Error(), "not for services")
	})
}

// secure is a workload that the pod security of a service's namespace lets in.
const secure = `apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers: [{name: app, image: registry.example.com/app:1, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}, resources: {requests: {cpu: 1m, memory: 1Mi}}}]
`

// TestServiceStaysInItsBounds: what a service may not bring is refused by us
// before the first write, and by the cluster for whoever goes past us.
func TestServiceStaysInItsBounds(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t)
	group := "slipway:" + w.namespace
	w.tenancy(group, "slipway:"+w.namespace+"-dry-run:orders")
	service := w.as(group)
	s := w.spec("orders", "templates/a.yaml", secure, "templates/b.yaml", config("a", "a: b"),
		"templates/role.yaml", "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: orders}\nrules: [{apiGroups: [\"\"], resources: [configmaps], verbs: [get]}]\n")
	s.Tenant = true
	service.apply(s)
	service.unchanged(s)

	bad := map[string]string{
		"binding.yaml":    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: " + w.namespace + "}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n",
		"elsewhere.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: " + other.namespace + "}\n",
		"quota.yaml":      "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: a}\n",
		"path.yaml":       strings.Replace(strings.Replace(secure, "{name: orders}", "{name: path}", 1), "    spec:\n", "    spec:\n      volumes: [{name: v, hostPath: {path: /}}]\n", 1),
		"network.yaml":    strings.Replace(strings.Replace(secure, "{name: orders}", "{name: network}", 1), "    spec:\n", "    spec:\n      hostNetwork: true\n", 1),
		"privileged.yaml": strings.Replace(strings.Replace(secure, "{name: orders}", "{name: privileged}", 1), "allowPrivilegeEscalation: false", "privileged: true", 1),
		"port.yaml":       strings.Replace(strings.Replace(secure, "{name: orders}", "{name: port}", 1), "{name: app,", "{name: app, ports: [{containerPort: 80, hostPort: 80}],", 1),
		"set.yaml":        strings.Replace(secure, "kind: Deployment\nmetadata: {name: orders}", "kind: DaemonSet\nmetadata: {name: set}", 1),
	}
	files := []string{"templates/a.yaml", secure}
	for name, text := range bad {
		files = append(files, "templates/"+name, text)
	}
	all := w.spec("orders", files...)
	all.Tenant = true
	counted := w.proxied()
	counted.refused(all, tool.Refused, "kind ClusterRoleBinding", "namespace \""+other.namespace+"\"", "kind ResourceQuota", "hostPath", "hostNetwork", "privileged", "hostPort", "kind DaemonSet")
	for name, text := range bad {
		alone := w.spec("sneaky", "templates/"+name, text) // not held to anything by us
		p, err := service.client.Plan(t.Context(), alone, Look{Lookup: true})
		if err == nil {
			err = p.Err()
		}
		if err == nil {
			t.Errorf("%s: the cluster lets the service do it", name)
		} else if !strings.Contains(err.Error(), "cannot") && !strings.Contains(err.Error(), "not for services") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDryRunGroup: it compares, lookup aside, and can change nothing.
func TestDryRunGroup(t *testing.T) {
	w := newWorld(t)
	group := "slipway:" + w.namespace + "-dry-run:orders"
	w.tenancy("slipway:"+w.namespace, group)
	s := w.spec("orders", "templates/a.yaml", config("a", "a: b"), "templates/b.yaml", config("b", `looked: "{{ len (lookup "v1" "ConfigMap" .Release.Namespace "").items }}"`))
	w.apply(s)
	s = w.spec("orders", "templates/a.yaml", config("a", "a: c"), "templates/new.yaml", config("new", "a: b"), "templates/typo.yaml", config("typo", "a: b")+"datta: {}\n")
	guest := w.as(group)
	var p *Plan
	deadline, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p, err := guest.client.Plan(deadline, s, Look{Lenient: true})
	w.must(err)
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), `unknown field "datta"`) {
		t.Errorf("the dry run was not made: %v, %v", err, p.Problems)
	}
	for _, ch := range p.Changes() {
		if !ch.Checked && !strings.HasSuffix(ch.Object, "/typo") {
			t.Errorf("%s was not tried", ch.Object)
		}
	}
	maps := guest.cluster.Clientset().CoreV1().ConfigMaps(w.namespace)
	_, err = maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "real"}}, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "and make none") {
		t.Errorf("a guest's write: %v", err)
	}
	if err := maps.Delete(t.Context(), "a", metav1.DeleteOptions{}); err == nil || !strings.Contains(err.Error(), "and make none") {
		t.Errorf("a guest's deletion: %v", err)
	}
}

// TestWithoutLookupTemplatesSeeNothing of the cluster.
func TestWithoutLookupTemplatesSeeNothing(t *testing.T) {
	w := newWorld(t)
	w.apply(w.spec("first", "templates/a.yaml", config("a", "secret: sesame")))
	s := w.spec("orders", "templates/b.yaml", config("b", `looked: {{ dig "data" "secret" "nothing" (lookup "v1" "ConfigMap" .Release.Namespace "a") }}`))
	for _, allowed := range []bool{true, false} {
		p, err := w.client.Plan(t.Context(), s, Look{Lookup: allowed})
		w.must(err)
		got := fmt.Sprint(p.Changes()[0].After["data"])
		if strings.Contains(got, "sesame") != allowed {
			t.Errorf("lookup %v: %s", allowed, got)
		}
	}
}
