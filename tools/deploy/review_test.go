package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// reviewWorld is a world whose service has review apps, with the rights that
// the example's tenancy chart gives its role, in the real API server.
type reviewWorld struct {
	*world
	service, group string
	admin          *kubernetes.Clientset
	role           *kubernetes.Clientset // as the service's review role
}

func newReviewWorld(t *testing.T) *reviewWorld {
	t.Helper()
	w := &reviewWorld{world: newWorld(t)}
	sb := sandboxtest.Open(t)
	w.service = "r" + w.namespace[strings.LastIndex(w.namespace, "-")+1:]
	w.group, w.admin = "slipway:"+w.service+"-review", w.client
	w.write("slipway.yaml", `apiVersion: slipway/v1
kind: Service
name: `+w.service+`
chart: {path: chart}
values: [values.yaml]
images: {app: {value: image, from: IMAGE_REF}}
rollout: {timeout: 60s, stable: 0s}
`)
	w.write("chart/templates/workload.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}, annotations: {greeting: {{ .Values.greeting | quote }}}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers: [{name: app, image: {{ .Values.image | quote }}, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
`)
	raw, err := json.Marshal(landscape.Snapshot{APIVersion: "slipway/v1", Kind: "LandscapeSnapshot", Name: "nsflow", Domain: "{service}.{environment}.example.com",
		GitLab:       landscape.GitLab{URL: "https://gitlab.example.com"},
		Clusters:     map[string]landscape.Cluster{"nonprod": {Account: "nonprod", EKSName: "nsflow-nonprod"}},
		Environments: map[string]landscape.Environment{"review": {Clusters: []string{"nonprod"}, Namespace: "{service}-mr-{mr}", StopAfter: "48h"}},
		Services:     map[string]landscape.Service{w.service: {Environments: []string{"review"}}},
		Roles: []landscape.Role{{Name: w.service + "-review", Purpose: "review", Service: w.service, Environment: "review"},
			{Name: "platform-deploy", Purpose: "platform", Account: "nonprod"}}})
	w.must(err)
	w.write("landscape.json", string(raw))
	w.tenancy(sb)
	w.impersonate(sb)
	t.Cleanup(w.cleanUp)
	return w
}

// tenancy applies what the example's chart has for review apps, under names of
// the test's own, and waits until the policy is in force.
func (w *reviewWorld) tenancy(sb *sandboxtest.Sandbox) {
	w.t.Helper()
	dir := filepath.Join("..", "..", "examples", "platform", "addons", "charts", "tenancy")
	chart, err := helmrelease.LoadDir(dir, dir)
	w.must(err)
	text, err := helmrelease.Render(w.t.Context(), helmrelease.Spec{Name: "tenancy", Namespace: "platform-system", Chart: chart, Values: map[string]any{
		"tenants": []any{map[string]any{"name": w.service, "environment": "dev", "namespace": w.namespace, "team": "commerce", "deployers": []any{}, "dryRun": []any{w.group}}},
		"review":  map[string]any{"environment": "review", "services": []any{map[string]any{"name": w.service, "group": w.group}}}}})
	w.must(err)
	cluster, err := kube.New(kube.Config{Kubeconfig: w.kubeconfig})
	w.must(err)
	for _, doc := range strings.Split("\n"+text, "\n---") {
		u := &unstructured.Unstructured{}
		w.must(yaml.Unmarshal([]byte(doc), &u.Object))
		name := u.GetName()
		mine := name == "slipway-review" || name == "slipway-deployer" || name == "slipway-dry-run" && u.GetKind() != "ValidatingAdmissionPolicy" && u.GetKind() != "ValidatingAdmissionPolicyBinding"
		if !mine {
			continue
		}
		switch {
		case name == "slipway-deployer": // named in every binding: shared, and the tenancy release may take it over
			u.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "Helm"})
			u.SetAnnotations(map[string]string{"meta.helm.sh/release-name": "tenancy", "meta.helm.sh/release-namespace": "platform-system"})
		case u.GetNamespace() == "":
			u.SetName(name + "-" + w.service)
		}
		for _, field := range [][]string{{"roleRef", "name"}, {"spec", "policyName"}} {
			if s, ok, _ := unstructured.NestedString(u.Object, field...); ok && s != "slipway-deployer" {
				w.must(unstructured.SetNestedField(u.Object, s+"-"+w.service, field...))
			}
		}
		gvr, namespaced, err := cluster.Resource(u.GroupVersionKind())
		w.must(err)
		var r dynamic.ResourceInterface = cluster.Dynamic().Resource(gvr)
		if namespaced {
			r = cluster.Dynamic().Resource(gvr).Namespace(u.GetNamespace())
		}
		_, err = r.Create(w.t.Context(), u, metav1.CreateOptions{})
		if name == "slipway-deployer" && (err == nil || apierrors.IsAlreadyExists(err)) {
			continue
		}
		w.must(err)
		w.t.Cleanup(func() { _ = r.Delete(context.Background(), u.GetName(), metav1.DeleteOptions{}) })
	}
}

// impersonate makes the program, and the test's second client, the review role.
func (w *reviewWorld) impersonate(sb *sandboxtest.Sandbox) {
	w.t.Helper()
	kc, err := clientcmd.LoadFromFile(w.kubeconfig)
	w.must(err)
	for _, a := range kc.AuthInfos {
		a.Impersonate, a.ImpersonateGroups = "gl-77-1-1", []string{w.group, "system:authenticated"}
	}
	file := filepath.Join(w.dir, "kubeconfig-review")
	w.must(clientcmd.WriteToFile(*kc, file))
	w.env = append(w.env, "SLIPWAY_DEPLOY_KUBECONFIG="+file)
	cfg := sb.Rest(w.t, "nonprod")
	cfg.Impersonate.UserName, cfg.Impersonate.Groups = "gl-77-1-1", []string{w.group, "system:authenticated"}
	w.role, err = kubernetes.NewForConfig(cfg)
	w.must(err)
	// Rights and policies count some time after they are written. The policy is
	// in force when what it forbids is refused, and what it permits is not.
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	w.must(retry.OnError(retry.DefaultBackoff, func(error) bool { return ctx.Err() == nil }, func() error {
		_, err := w.role.CoreV1().Namespaces().Create(ctx, w.labelled("1"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}))
	for {
		_, err := w.role.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.service + "-probe"}}, metav1.CreateOptions{})
		if err != nil && strings.Contains(err.Error(), "a review role writes only") {
			return
		}
		if err == nil {
			w.must(w.admin.CoreV1().Namespaces().Delete(ctx, w.service+"-probe", metav1.DeleteOptions{}))
		}
		if ctx.Err() != nil {
			w.t.Fatalf("the policy does not come into force: %v", err)
		}
	}
}

// labelled is the namespace of a merge request as the policy wants it.
func (w *reviewWorld) labelled(mr string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.service + "-mr-" + mr, Labels: map[string]string{
		"app.kubernetes.io/managed-by": "slipway-deploy", "slipway.dev/service": w.service, "slipway.dev/environment": "review", "slipway.dev/mr": mr,
		"pod-security.kubernetes.io/enforce": "restricted"}}}
}

func (w *reviewWorld) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	list, err := w.admin.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: "slipway.dev/service=" + w.service})
	if err != nil {
		w.t.Error(err)
		return
	}
	for _, ns := range list.Items {
		_ = w.admin.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{})
	}
}

// TestReviewApp: a merge request's app is made, renewed, stopped and stopped
// again, by a role that has no rights but those of the tenancy chart.
func TestReviewApp(t *testing.T) {
	w := newReviewWorld(t)
	name := w.service + "-mr-12"
	w.run(0, "apply", "--environment", "review", "--mr", "12", "--dotenv", "url.env", "--annotations", "links.json")
	ns, err := w.admin.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
	w.must(err)
	first := ns.Annotations["slipway.dev/expires"]
	until, err := time.Parse(time.RFC3339, first)
	if err != nil || time.Until(until) < 47*time.Hour || ns.Labels["slipway.dev/mr"] != "12" {
		t.Errorf("the namespace has the labels %v and the annotations %v", ns.Labels, ns.Annotations)
	}
	if got := w.read("url.env"); got != "SLIPWAY_ENVIRONMENT_URL=https://"+w.service+"-mr-12.review.example.com\n" {
		t.Errorf("the address is %q", got)
	}
	w.values("greeting: two")
	w.run(0, "apply", "--environment", "review", "--mr", "12")
	out, _ := w.run(0, "stop", "--environment", "review", "--mr", "12", "--service", w.service)
	if !strings.Contains(out, "namespace "+name+" is gone") {
		t.Errorf("stop says %q", out)
	}
	if _, err := w.admin.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace is still there: %v", err)
	}
	if out, _ = w.run(0, "stop", "--environment", "review", "--mr", "12", "--service", w.service); !strings.Contains(out, "nothing to remove") {
		t.Errorf("the second stop says %q", out)
	}
}

// TestReviewIsRefusedFirst: what a service may not bring is refused before its
// namespace is made, and what is found later says that it was.
func TestReviewIsRefusedFirst(t *testing.T) {
	w := newReviewWorld(t)
	name := w.service + "-mr-14"
	there := func() bool {
		_, err := w.admin.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	w.write("chart/templates/extra.yaml", "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: "+w.service+"}\n"+
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n")
	_, log := w.run(4, "apply", "--environment", "review", "--mr", "14")
	w.holds(log, "kind ClusterRoleBinding", "nothing was changed")
	if there() {
		t.Error("the namespace was made")
	}
	w.write("chart/templates/extra.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndta: {a: b}\n")
	_, log = w.run(6, "apply", "--environment", "review", "--mr", "14")
	w.holds(log, "dta", "was made for it and stays")
	if !there() {
		t.Error("the namespace was not made")
	}
}

// TestReviewLeavesOthersAlone: what has the name and not the labels is refused.
func TestReviewLeavesOthersAlone(t *testing.T) {
	w := newReviewWorld(t)
	name := w.service + "-mr-13"
	_, err := w.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	w.must(err)
	t.Cleanup(func() { _ = w.admin.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{}) })
	for _, args := range [][]string{{"apply"}, {"stop", "--service", w.service}} {
		_, log := w.run(4, append(args, "--environment", "review", "--mr", "13")...)
		if !strings.Contains(log, "its labels do not say") {
			t.Errorf("%v says:\n%s", args, log)
		}
	}
}

// TestReviewRights: the cluster holds the role to its own namespaces, whatever
// program it runs.
func TestReviewRights(t *testing.T) {
	w := newReviewWorld(t)
	ctx := t.Context()
	namespaces := w.role.CoreV1().Namespaces()
	own, err := namespaces.Create(ctx, w.labelled("7"), metav1.CreateOptions{})
	w.must(err)
	binding := func(ns, role, group string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "mine", Namespace: ns}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: group}}}
	}
	foreign := w.labelled("8")
	foreign.Name = "other-mr-8"
	unlabelled := w.labelled("9")
	unlabelled.Labels = nil
	lax := w.labelled("9")
	lax.Labels["pod-security.kubernetes.io/enforce"] = "privileged"
	relabelled := own.DeepCopy()
	relabelled.Labels["pod-security.kubernetes.io/enforce"] = "privileged"
	taken := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.service + "-mr-99"}}
	_, err = w.admin.CoreV1().Namespaces().Create(ctx, taken, metav1.CreateOptions{})
	w.must(err)
	t.Cleanup(func() {
		_ = w.admin.CoreV1().Namespaces().Delete(context.Background(), taken.Name, metav1.DeleteOptions{})
	})
	create := func(ns *corev1.Namespace) error {
		_, err := namespaces.Create(ctx, ns, metav1.CreateOptions{})
		return err
	}
	bind := func(b *rbacv1.RoleBinding) error {
		_, err := w.role.RbacV1().RoleBindings(b.Namespace).Create(ctx, b, metav1.CreateOptions{})
		return err
	}
	for what, err := range map[string]error{
		"a namespace of another service":          create(foreign),
		"a namespace without labels":              create(unlabelled),
		"a namespace without pod security":        create(lax),
		"its pod security taken away":             func() error { _, err := namespaces.Update(ctx, relabelled, metav1.UpdateOptions{}); return err }(),
		"the service's own environment deleted":   namespaces.Delete(ctx, w.namespace, metav1.DeleteOptions{}),
		"a namespace somebody made deleted":       namespaces.Delete(ctx, taken.Name, metav1.DeleteOptions{}),
		"letting itself into dev":                 bind(binding(w.namespace, "slipway-deployer", w.group)),
		"letting itself into a namespace by name": bind(binding(taken.Name, "slipway-deployer", w.group)),
		"making itself more than a deployer":      bind(binding(own.Name, "cluster-admin", w.group)),
		"writing into dev, where it may only try": func() error {
			_, err := w.role.CoreV1().ConfigMaps(w.namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
			return err
		}(),
		"the system's secrets": func() error {
			_, err := w.role.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{})
			return err
		}(),
		"deleting what it may read": w.role.CoreV1().ConfigMaps(w.namespace).Delete(ctx, "kube-root-ca.crt", metav1.DeleteOptions{}),
	} {
		if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
			t.Errorf("%s is not refused: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"letting itself into its own namespace": bind(binding(own.Name, "slipway-deployer", w.group)),
		"trying a change of dev": func() error {
			_, err := w.role.CoreV1().ConfigMaps(w.namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		}(),
		"reading dev's releases": func() error {
			_, err := w.role.CoreV1().Secrets(w.namespace).List(ctx, metav1.ListOptions{})
			return err
		}(),
		"deleting its own namespace": namespaces.Delete(ctx, own.Name, metav1.DeleteOptions{}),
	} {
		if err != nil {
			t.Errorf("%s is refused: %v", what, err)
		}
	}
}

// TestSweep: what is over goes, and nothing else.
func TestSweep(t *testing.T) {
	w := newReviewWorld(t)
	w.run(0, "apply", "--environment", "review", "--mr", "21")
	w.run(0, "apply", "--environment", "review", "--mr", "22")
	w.expireApp("22")
	odd := w.labelled("23") // labels that do not fit its name
	odd.Name = w.service + "-mr-24"
	odd.Annotations = map[string]string{"slipway.dev/expires": "2020-01-01T00:00:00Z"}
	_, err := w.admin.CoreV1().Namespaces().Create(t.Context(), odd, metav1.CreateOptions{})
	w.must(err)
	w.env = append(w.env, "SLIPWAY_DEPLOY_KUBECONFIG="+w.kubeconfig) // the platform's role
	out, _ := w.run(0, "sweep", "--environment", "review", "--dry-run")
	if !strings.Contains(out, w.service+"-mr-22 would be removed") {
		t.Errorf("the dry run says:\n%s", out)
	}
	out, _ = w.run(0, "sweep", "--environment", "review")
	for _, want := range []string{w.service + "-mr-21 kept until", w.service + "-mr-22 removed: its time was over", w.service + "-mr-24 kept: its labels do not fit"} {
		if !strings.Contains(out, want) {
			t.Errorf("the sweep lacks %q:\n%s", want, out)
		}
	}
	list, err := w.admin.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{LabelSelector: "slipway.dev/service=" + w.service})
	w.must(err)
	var left []string
	for _, ns := range list.Items {
		left = append(left, ns.Name)
	}
	if got := strings.Join(left, " "); got != w.service+"-mr-21 "+w.service+"-mr-24" {
		t.Errorf("left are %s", got)
	}
}

// expireApp makes an app look as it does when its time is over.
func (w *reviewWorld) expireApp(mr string) {
	w.t.Helper()
	ns, err := w.admin.CoreV1().Namespaces().Get(w.t.Context(), w.service+"-mr-"+mr, metav1.GetOptions{})
	w.must(err)
	ns.Annotations["slipway.dev/expires"] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	_, err = w.admin.CoreV1().Namespaces().Update(w.t.Context(), ns, metav1.UpdateOptions{})
	w.must(err)
}
