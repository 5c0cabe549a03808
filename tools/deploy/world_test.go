package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/landscape"
)

// world is a namespace of the sandbox's cluster, a registry and a service.
type world struct {
	t          *testing.T
	dir        string
	namespace  string
	kubeconfig string
	client     *kubernetes.Clientset
	registry   string
	image      string
	env        []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	sb := sandboxtest.Open(t)
	w := &world{t: t, dir: t.TempDir(), namespace: sb.Namespace(t, "nonprod"), kubeconfig: sb.Clusters["nonprod"].Kubeconfig,
		client: kubernetes.NewForConfigOrDie(sb.Rest(t, "nonprod"))}
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	w.registry = strings.TrimPrefix(server.URL, "http://")
	img, err := random.Image(16, 1)
	w.must(err)
	tag, err := name.ParseReference(w.registry + "/nsflow/orders:1")
	w.must(err)
	w.must(remote.Write(tag, img))
	digest, err := img.Digest()
	w.must(err)
	w.image = w.registry + "/nsflow/orders@" + digest.String()
	w.write("slipway.yaml", `apiVersion: slipway/v1
kind: Service
name: orders
chart: {path: chart}
values: [values.yaml, "values/{environment}.yaml"]
images: {app: {value: image, from: IMAGE_REF}}
rollout: {timeout: 60s, stable: 0s}
`)
	w.values("greeting: one")
	w.write("chart/Chart.yaml", "apiVersion: v2\nname: orders\nversion: 1.0.0\n")
	w.write("chart/values.yaml", "scheduler: default-scheduler\n")
	w.write("chart/templates/workload.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}, annotations: {greeting: {{ .Values.greeting | quote }}}}
    spec:
      schedulerName: {{ .Values.scheduler }}
      containers: [{name: app, image: {{ .Values.image | quote }}}]
`)
	snapshot := landscape.Snapshot{APIVersion: "slipway/v1", Kind: "LandscapeSnapshot", Name: "nsflow",
		GitLab:       landscape.GitLab{URL: "https://gitlab.example.com", Environments: landscape.Project{ID: 43}},
		Clusters:     map[string]landscape.Cluster{"nonprod": {Account: "nonprod", EKSName: "nsflow-nonprod"}},
		Environments: map[string]landscape.Environment{"dev": {Clusters: []string{"nonprod"}, Namespace: w.namespace}, "stage": {Clusters: []string{"nonprod"}, Namespace: w.namespace, Gated: true}},
		Services:     map[string]landscape.Service{"orders": {Environments: []string{"dev", "stage"}}},
		Roles: []landscape.Role{{Name: "orders-dev", Purpose: "deploy", Service: "orders", Environment: "dev"},
			{Name: "environments-stage", Purpose: "environment", Environment: "stage"}, {Name: "platform-deploy", Purpose: "platform", Account: "nonprod"}}}
	raw, err := json.Marshal(snapshot)
	w.must(err)
	w.write("landscape.json", string(raw))
	w.env = append(os.Environ(), "IMAGE_REF="+w.image, "SLIPWAY_LANDSCAPE="+filepath.Join(w.dir, "landscape.json"),
		"SLIPWAY_DEPLOY_KUBECONFIG="+w.kubeconfig, "GITLAB_CI=", "CI_JOB_TOKEN=", "SLIPWAY_DEPLOY_REPORT_DIR="+filepath.Join(w.dir, "report"))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(file, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, file)
	w.must(os.MkdirAll(filepath.Dir(path), 0o755))
	w.must(os.WriteFile(path, []byte(text), 0o644))
}

// values sets the service's values; the image's scheduler decides whether a
// pod becomes ready (a fake node) or waits for the test to play its kubelet.
func (w *world) values(text string) { w.write("values.yaml", text+"\n") }

func (w *world) command(args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := exec.Command("slipway-deploy", args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	return cmd, &out, &log
}

// run runs the program, which must end with the exit code.
func (w *world) run(want int, args ...string) (out, log string) {
	w.t.Helper()
	cmd, stdout, stderr := w.command(args...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		w.t.Fatalf("slipway-deploy %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, want, stdout, stderr)
	}
	return stdout.String(), stderr.String()
}

// statuses returns the state of each stored revision, as helm history shows it.
func (w *world) statuses() string { return w.statusesOf("orders") }

func (w *world) statusesOf(release string) string {
	w.t.Helper()
	list, err := w.client.CoreV1().Secrets(w.namespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "owner=helm,name=" + release})
	w.must(err)
	var out []string
	for i := range list.Items {
		for _, s := range list.Items {
			if s.Labels["version"] == fmt.Sprint(i+1) {
				out = append(out, s.Labels["status"])
			}
		}
	}
	return strings.Join(out, " ")
}

// pending waits by watch until a revision is stored in a pending state.
func (w *world) pending(status string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	watch, err := w.client.CoreV1().Secrets(w.namespace).Watch(ctx, metav1.ListOptions{LabelSelector: "owner=helm,status=" + status})
	w.must(err)
	defer watch.Stop()
	if _, ok := <-watch.ResultChan(); !ok {
		w.t.Fatalf("no revision became %s", status)
	}
}

// failPulls plays the kubelet of pods that no scheduler takes: their image
// cannot be pulled.
func (w *world) failPulls() {
	watch, err := w.client.CoreV1().Pods(w.namespace).Watch(w.t.Context(), metav1.ListOptions{LabelSelector: "app=orders"})
	w.must(err)
	go func() {
		defer watch.Stop()
		for ev := range watch.ResultChan() {
			p, ok := ev.Object.(*corev1.Pod)
			if !ok || p.Spec.SchedulerName != "none" || len(p.Status.ContainerStatuses) > 0 {
				continue
			}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "manifest unknown"}}}}
			_, _ = w.client.CoreV1().Pods(w.namespace).UpdateStatus(w.t.Context(), p, metav1.UpdateOptions{})
		}
	}()
}

// expire makes the leases look as they do minutes after their owner died.
func (w *world) expire() {
	w.t.Helper()
	leases := w.client.CoordinationV1().Leases(w.namespace)
	list, err := leases.List(w.t.Context(), metav1.ListOptions{})
	w.must(err)
	old := metav1.NewMicroTime(time.Now().Add(-time.Hour))
	for i := range list.Items {
		list.Items[i].Spec.RenewTime = &old
		_, err = leases.Update(w.t.Context(), &list.Items[i], metav1.UpdateOptions{})
		w.must(err)
	}
}

// job is a hook that runs on a fake node; fail is how it fails, if it does.
func job(name, hook, fail string) string {
	annotations := "helm.sh/hook: " + hook
	pod := ""
	if fail != "" {
		pod = ", annotations: {slipway.dev/fail: " + fail + "}"
	}
	return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: " + name + ", annotations: {" + annotations + "}}\nspec:\n  backoffLimit: 0\n  template:\n" +
		"    metadata: {labels: {job: " + name + "}" + pod + "}\n    spec: {restartPolicy: Never, containers: [{name: run, image: {{ .Values.image | quote }}}]}\n"
}

// live returns the greeting of the deployment that runs.
func (w *world) live() string {
	w.t.Helper()
	d, err := w.client.AppsV1().Deployments(w.namespace).Get(w.t.Context(), "orders", metav1.GetOptions{})
	w.must(err)
	return d.Spec.Template.Annotations["greeting"]
}

func getOptions() metav1.GetOptions { return metav1.GetOptions{} }
