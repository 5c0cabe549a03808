package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/cmd"
)

// world is an environment of the test's own in the sandbox's nonprod cluster,
// and the rights of its backup role, which are those of platform/rbac.
type world struct {
	t          *testing.T
	client     *kubernetes.Clientset
	dynamic    dynamic.Interface
	s3         *s3.Client
	suffix     string
	dir        string
	kubeconfig string
	prefix     string // of the storage location
}

func newWorld(t *testing.T) *world {
	t.Helper()
	box := sandboxtest.Open(t)
	w := &world{t: t, suffix: strings.ToLower(rand.Text()[:8]), dir: t.TempDir(), prefix: "nonprod"}
	rest := box.Rest(t, "nonprod")
	var err error
	if w.client, err = kubernetes.NewForConfig(rest); err != nil {
		t.Fatal(err)
	}
	if w.dynamic, err = dynamic.NewForConfig(rest); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ENDPOINT_URL", box.AWS.Endpoint)
	t.Setenv("AWS_REGION", box.AWS.Region)
	t.Setenv("AWS_ACCESS_KEY_ID", box.AWS.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", box.AWS.SecretKey)
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	w.kubeconfig = w.rights(box.Clusters["nonprod"].Kubeconfig)
	w.write("snapshot.json", `{"apiVersion": "slipway/v1", "kind": "LandscapeSnapshot", "name": "nsflow", "region": "eu-central-1",
 "clusters": {"nonprod": {"account": "nonprod", "region": "eu-central-1", "eksName": "nsflow-nonprod"}},
 "services": {"orders": {"environments": ["dev"]}, "catalog": {"environments": ["dev"]}},
 "environments": {"dev": {"clusters": ["nonprod"], "namespace": "{service}-`+w.suffix+`"}},
 "roles": [{"name": "backup-dev", "account": "nonprod", "purpose": "backup", "environment": "dev", "clusters": ["nonprod"], "subjects": []}]}`)
	w.write("backup.yaml", `{apiVersion: slipway/v1, kind: Backup, schedules: {t-`+w.suffix+`: {environment: dev, services: all, every: 1h, keep: 1h, volumes: files}}}`)
	w.write("drill.yaml", `{apiVersion: slipway/v1, kind: Drill, source: {schedule: t-`+w.suffix+`}, target: {cluster: nonprod, namespaces: "drill-{date}-{service}-`+w.suffix+`", ttl: 1h}, objectives: {rpo: 1h, rto: 10m}, checks: [{ready: {all: true, stable: 1s}}]}`)
	for _, service := range []string{"orders", "catalog"} {
		w.service(service)
	}
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// rights applies platform/rbac/backup.yaml under names of the test's own, binds
// it to a group of the test's own, and makes a kubeconfig of that group.
func (w *world) rights(admin string) string {
	t := w.t
	t.Helper()
	raw, err := os.ReadFile("../../platform/rbac/backup.yaml")
	if err != nil {
		t.Fatal(err)
	}
	resources := map[string]schema.GroupVersionResource{
		"ClusterRole":                      {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
		"ValidatingAdmissionPolicy":        {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
		"ValidatingAdmissionPolicyBinding": {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
	}
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096); ; {
		u := &unstructured.Unstructured{}
		if err := d.Decode(u); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		u.SetName(u.GetName() + "-" + w.suffix)
		if policy, ok, _ := unstructured.NestedString(u.Object, "spec", "policyName"); ok {
			if err := unstructured.SetNestedField(u.Object, policy+"-"+w.suffix, "spec", "policyName"); err != nil {
				t.Fatal(err)
			}
		}
		client := w.dynamic.Resource(resources[u.GetKind()])
		if _, err := client.Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		w.cleanup(func(ctx context.Context) error { return client.Delete(ctx, u.GetName(), metav1.DeleteOptions{}) })
	}
	group := "slipway:backup-" + w.suffix
	subjects := []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: group}}
	role := func(name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name + "-" + w.suffix}
	}
	name := metav1.ObjectMeta{Name: "slipway-backup-" + w.suffix}
	if _, err := w.client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: name, Subjects: subjects, RoleRef: role("slipway-backup")}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.cleanup(func(ctx context.Context) error {
		return w.client.RbacV1().ClusterRoleBindings().Delete(ctx, name.Name, metav1.DeleteOptions{})
	})
	if _, err := w.client.RbacV1().RoleBindings("velero").Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: name, Subjects: subjects, RoleRef: role("slipway-backup-velero")}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.cleanup(func(ctx context.Context) error {
		return w.client.RbacV1().RoleBindings("velero").Delete(ctx, name.Name, metav1.DeleteOptions{})
	})
	return w.impersonating(admin)
}

// impersonating returns an administrator's kubeconfig, as the group of rights.
func (w *world) impersonating(admin string) string {
	w.t.Helper()
	kc, err := clientcmd.LoadFromFile(admin)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, user := range kc.AuthInfos {
		user.Impersonate, user.ImpersonateGroups = "backup-"+w.suffix, []string{"slipway:backup-" + w.suffix, "system:authenticated"}
	}
	path := filepath.Join(w.dir, "kubeconfig")
	if err := clientcmd.WriteToFile(api.Config{Clusters: kc.Clusters, AuthInfos: kc.AuthInfos, Contexts: kc.Contexts, CurrentContext: kc.CurrentContext}, path); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) cleanup(do func(context.Context) error) {
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := do(ctx); err != nil && !apierrors.IsNotFound(err) {
			w.t.Errorf("cleaning up: %v", err)
		}
	})
}

func (w *world) namespace(name string, labels map[string]string) {
	w.t.Helper()
	if _, err := w.client.CoreV1().Namespaces().Create(w.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.cleanup(func(ctx context.Context) error {
		return w.client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	})
}

func (w *world) service(name string) {
	t := w.t
	t.Helper()
	ns := name + "-" + w.suffix
	w.namespace(ns, nil)
	meta := metav1.ObjectMeta{Name: name, Namespace: ns, Labels: map[string]string{"app": name}}
	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "example.com/" + name + "@sha256:" + strings.Repeat("0", 64)}}}}
	_, err := w.client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: meta.Labels}, Template: pod}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.client.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"password": "x"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// pod makes a pod without an owner.
func (w *world) pod(namespace, name string, labels map[string]string) {
	w.t.Helper()
	_, err := w.client.CoreV1().Pods(namespace).Create(w.t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "example.com/app@sha256:" + strings.Repeat("0", 64)}}}}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
}

// copiedPods are the copies of the pods without an owner in this test's quarantines.
func (w *world) copiedPods() []string {
	pods, err := w.client.CoreV1().Pods("").List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Error(err)
		return nil
	}
	var out []string
	for _, p := range pods.Items {
		if strings.HasPrefix(p.Namespace, "drill-") && strings.HasSuffix(p.Namespace, w.suffix) && (p.Name == "plain" || p.Name == "work") {
			out = append(out, p.Name)
		}
	}
	return out
}

// trigger calls do once, when the log has shown the text.
type trigger struct {
	mu   sync.Mutex
	log  bytes.Buffer
	text string
	do   func()
}

func (g *trigger) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log.Write(p)
	if g.do != nil && strings.Contains(g.log.String(), g.text) {
		g.do()
		g.do = nil
	}
	return len(p), nil
}

// slipway runs the program. Where cancelAt is not empty, it is cancelled when
// the log shows that text.
func (w *world) slipway(cancelAt string, args ...string) (code int, out, log string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	if cancelAt == "" {
		return w.slipwayWith(ctx, &trigger{}, args...)
	}
	return w.slipwayWith(ctx, &trigger{text: cancelAt, do: cancel}, args...)
}

func (w *world) slipwayWith(ctx context.Context, log1 *trigger, args ...string) (code int, out, log string) {
	w.t.Helper()
	var stdout bytes.Buffer
	args = append(append([]string{"slipway-backup"}, args...), w.common()...)
	env := func(name string) string {
		if strings.HasPrefix(name, "AWS_") {
			return os.Getenv(name)
		}
		return ""
	}
	code = tool.Start(ctx, args, env, tool.Streams{In: strings.NewReader(""), Out: &stdout, Err: log1}, "test", cmd.Program())
	return code, stdout.String(), log1.log.String()
}

func (w *world) common() []string {
	return []string{"--landscape", filepath.Join(w.dir, "snapshot.json"), "--report-dir", w.report(), "--output", "json"}
}

func (w *world) report() string { return filepath.Join(w.dir, "report") }

func (w *world) cluster(verb string, more ...string) []string {
	args := []string{verb, "--kubeconfig", w.kubeconfig, "--file", filepath.Join(w.dir, "drill.yaml"), "--backup-file", filepath.Join(w.dir, "backup.yaml")}
	if verb == "run" {
		args = []string{verb, "--kubeconfig", w.kubeconfig, "--file", filepath.Join(w.dir, "backup.yaml"), "--schedule", "t-" + w.suffix}
	}
	return append(args, more...)
}

// leftovers are what drills of this test left in the cluster. A namespace that a
// restore has made again has no label of ours, so the names decide.
func (w *world) leftovers() []string {
	w.t.Helper()
	var out []string
	namespaces, err := w.client.CoreV1().Namespaces().List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, ns := range namespaces.Items {
		if strings.HasPrefix(ns.Name, "drill-") && strings.HasSuffix(ns.Name, w.suffix) {
			out = append(out, ns.Name)
		}
	}
	restores, err := w.dynamic.Resource(schema.GroupVersionResource{Group: "velero.io", Version: "v1", Resource: "restores"}).Namespace("velero").
		List(w.t.Context(), metav1.ListOptions{LabelSelector: "slipway.dev/schedule=t-" + w.suffix})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range restores.Items {
		out = append(out, r.GetName())
	}
	return out
}

// TestBackupAndDrill takes a real backup with the real Velero and drills it.
func TestBackupAndDrill(t *testing.T) {
	w := newWorld(t)
	source := "orders-" + w.suffix
	w.pod(source, "plain", nil)
	w.pod(source, "work", map[string]string{"batch.kubernetes.io/job-name": "work"})

	code, out, log := w.slipway("", w.cluster("run")...)
	var backup struct {
		Backup, Phase string
		Coverage      struct{ Objects int }
		Files         []any
	}
	if err := json.Unmarshal([]byte(out), &backup); err != nil || code != tool.OK || backup.Phase != "Completed" || backup.Coverage.Objects < 8 || len(backup.Files) < 6 {
		t.Fatalf("run ended %d (%v): %+v\n%s", code, err, backup, log)
	}

	if strings.Contains(log, "not followed") {
		t.Errorf("the rights of platform/rbac do not show how far the data of volumes is:\n%s", log)
	}

	before, err := w.client.AppsV1().Deployments(source).Get(t.Context(), "orders", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("drill", func(t *testing.T) {
		var copied []string
		look := &trigger{text: "== wait for the workloads", do: func() { copied = w.copiedPods() }}
		code, _, log := w.slipwayWith(t.Context(), look, w.cluster("drill")...)
		if fmt.Sprint(copied) != "[plain]" {
			t.Errorf("of the bare pods, %v were restored; the one of a job must not be", copied)
		}
		raw, err := os.ReadFile(filepath.Join(w.report(), "drill.json"))
		if err != nil {
			t.Fatal(err)
		}
		var drill struct {
			Backup    string
			RTO       float64
			RPO       float64
			CleanedUp bool
			Problems  []string
			Checks    []struct{ Name, Status string }
		}
		if err := json.Unmarshal(raw, &drill); err != nil {
			t.Fatal(err)
		}
		if code != tool.Unproven || !strings.Contains(log, "data unproven") || drill.Backup != backup.Backup || drill.RTO <= 0 || drill.RPO <= 0 || !drill.CleanedUp || len(drill.Problems) > 0 {
			t.Errorf("drill ended %d: %+v\n%s", code, drill, log)
		}
		if fmt.Sprint(drill.Checks) != "[{ready green}]" {
			t.Errorf("checks %v", drill.Checks)
		}
		if left := w.leftovers(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		after, err := w.client.AppsV1().Deployments(source).Get(t.Context(), "orders", metav1.GetOptions{})
		if err != nil || after.ResourceVersion != before.ResourceVersion {
			t.Errorf("the source was touched: %v", err)
		}
	})

	for _, moment := range []string{"made namespace", "== restore", "== wait for the workloads"} {
		t.Run("cancelled at "+moment, func(t *testing.T) {
			code, _, log := w.slipway(moment, w.cluster("drill")...)
			if code != tool.Cancelled {
				t.Errorf("drill ended %d\n%s", code, log)
			}
			if left := w.leftovers(); len(left) > 0 {
				t.Errorf("left behind: %v\n%s", left, log)
			}
		})
	}

	t.Run("a volume without a copy of its data", func(t *testing.T) {
		meta := metav1.ObjectMeta{Name: "data", Namespace: source}
		_, err := w.client.CoreV1().PersistentVolumeClaims(source).Create(t.Context(), &corev1.PersistentVolumeClaim{ObjectMeta: meta, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		code, _, log := w.slipway("", w.cluster("run")...)
		if code != tool.Unproven || !strings.Contains(log, "the data of claim "+source+"/data is not in the backup") {
			t.Errorf("run ended %d\n%s", code, log)
		}
	})

	t.Run("from the bucket alone", func(t *testing.T) { w.fromTheBucket(t, backup.Backup) })
}

// fromTheBucket checks a backup, and again after its archive was spoiled.
func (w *world) fromTheBucket(t *testing.T, backup string) {
	args := []string{"check", "--backup", backup, "--bucket", "nsflow-velero", "--prefix", w.prefix}
	if code, _, log := w.slipway("", args...); code != tool.OK {
		t.Fatalf("check ended %d\n%s", code, log)
	}
	key := w.prefix + "/backups/" + backup + "/" + backup + ".tar.gz"
	object, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("nsflow-velero"), Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(object.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("nsflow-velero"), Key: &key, Body: bytes.NewReader(raw[:len(raw)-20])}); err != nil {
		t.Fatal(err)
	}
	code, _, log := w.slipway("", args...)
	if code != tool.Unproven || !strings.Contains(log, "unexpected EOF") {
		t.Errorf("check of a truncated archive ended %d\n%s", code, log)
	}
}

// TestSweep: only what carries our label and is over is taken away.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	past, future := time.Now().UTC().Add(-time.Minute).Format("20060102T150405Z"), time.Now().UTC().Add(time.Hour).Format("20060102T150405Z")
	w.namespace("over-"+w.suffix, map[string]string{"slipway.dev/drill": "d", "slipway.dev/expires": past})
	w.namespace("running-"+w.suffix, map[string]string{"slipway.dev/drill": "d", "slipway.dev/expires": future})
	w.namespace("odd-"+w.suffix, map[string]string{"slipway.dev/drill": "d"})
	w.namespace("other-"+w.suffix, map[string]string{"slipway.dev/expires": past})
	code, out, log := w.slipway("", w.cluster("sweep")...)
	if code != tool.OK {
		t.Fatalf("sweep ended %d\n%s", code, log)
	}
	for name, want := range map[string]bool{"over-": false, "running-": true, "odd-": true, "other-": true} {
		_, err := w.client.CoreV1().Namespaces().Get(t.Context(), name+w.suffix, metav1.GetOptions{})
		if there := !apierrors.IsNotFound(err); there != want {
			t.Errorf("%s is there: %t\n%s", name+w.suffix, there, out)
		}
	}
}
