package helmrelease

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"gitlab.com/slipway/slipway/internal/faultproxy"
	"gitlab.com/slipway/slipway/internal/sandboxtest"
	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/rollout"
)

// world is a namespace of the sandbox's cluster, and our client to it.
type world struct {
	t         *testing.T
	namespace string
	cluster   *kube.Cluster
	client    *Client
	log       *faultproxy.Log // where calls go through a proxy
	told      []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	sb := sandboxtest.Open(t)
	return (&world{t: t, namespace: sb.Namespace(t, "nonprod")}).reach(sb.Clusters["nonprod"].Kubeconfig)
}

// reach makes a client that goes by a kubeconfig.
func (w *world) reach(kubeconfig string) *world {
	w.t.Helper()
	cluster, err := kube.New(kube.Config{Kubeconfig: kubeconfig, UserAgent: "slipway-test"})
	w.must(err)
	watcher := rollout.NewWatcher(cluster)
	w.t.Cleanup(watcher.Close)
	out := &world{t: w.t, namespace: w.namespace, cluster: cluster, log: w.log}
	out.client = New(cluster, watcher, func(format string, args ...any) { out.told = append(out.told, fmt.Sprintf(format, args...)) })
	return out
}

// proxied returns the same world, reached through a proxy that counts.
func (w *world) proxied(rules ...faultproxy.Rule) *world {
	w.t.Helper()
	p, kubeconfig := sandboxtest.Open(w.t).Through(w.t, "nonprod", w.t.TempDir(), faultproxy.Config{Rules: rules, Seed: 1})
	out := w.reach(kubeconfig)
	out.log = p.Log
	return out
}

// as returns the same world, reached as somebody of some groups.
func (w *world) as(groups ...string) *world {
	w.t.Helper()
	raw, err := clientcmd.LoadFromFile(sandboxtest.Open(w.t).Clusters["nonprod"].Kubeconfig)
	w.must(err)
	user := raw.Contexts[raw.CurrentContext].AuthInfo
	auth := raw.AuthInfos[user].DeepCopy()
	auth.Impersonate, auth.ImpersonateGroups = "somebody", append(groups, "system:authenticated")
	raw.AuthInfos = map[string]*api.AuthInfo{user: auth}
	path := filepath.Join(w.t.TempDir(), "kubeconfig")
	w.must(clientcmd.WriteToFile(*raw, path))
	return w.reach(path)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// spec is a release of a chart with the files given, by their path in it.
func (w *world) spec(name string, files ...string) Spec {
	w.t.Helper()
	all := []*loader.BufferedFile{{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: " + name + "\nversion: 1.0.0\n")}}
	for i := 0; i < len(files); i += 2 {
		all = append(all, &loader.BufferedFile{Name: files[i], Data: []byte(files[i+1])})
	}
	c, err := loader.LoadFiles(all)
	w.must(err)
	return Spec{Name: name, Namespace: w.namespace, Chart: &Chart{c: c}, Values: map[string]any{}}
}

func (w *world) plan(s Spec) *Plan {
	w.t.Helper()
	p, err := w.client.Plan(w.t.Context(), s, Look{Lookup: true})
	w.must(err)
	return p
}

// apply puts a release in place, which must go well.
func (w *world) apply(s Spec) Outcome {
	w.t.Helper()
	p := w.plan(s)
	w.must(p.Err())
	o, err := w.client.Apply(w.t.Context(), p, Wait{Timeout: time.Minute})
	w.must(err)
	return o
}

// refused plans a release that must be refused, with all of the texts, and
// without a call that changes anything.
func (w *world) refused(s Spec, code int, texts ...string) {
	w.t.Helper()
	p := w.plan(s)
	err := p.Err()
	if err == nil {
		w.t.Fatalf("nothing stands against the release; %v", p.Problems)
	}
	if got := codeOf(err); got != code {
		w.t.Errorf("code %d, want %d: %v", got, code, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			w.t.Errorf("the error lacks %q: %v", text, err)
		}
	}
	if w.log != nil {
		if m := w.log.Mutating(); len(m) > 0 {
			w.t.Errorf("something was changed: %v", m)
		}
	}
}

func (w *world) unchanged(s Spec) {
	w.t.Helper()
	if p := w.plan(s); !p.Unchanged() {
		w.t.Errorf("there is a change: %+v, problems %v", actions(p), p.Problems)
	}
}

func actions(p *Plan) map[string]string {
	out := map[string]string{}
	for _, ch := range p.Changes() {
		out[ch.Object] = ch.Action
	}
	return out
}

var (
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	definitions = schema.GroupVersionResource{Group: crdGroup, Version: "v1", Resource: "customresourcedefinitions"}
)

func (w *world) get(gvr schema.GroupVersionResource, name string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.cluster.Dynamic().Resource(gvr).Namespace(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	w.must(err)
	return u
}

func (w *world) gone(gvr schema.GroupVersionResource, name string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	_, err := w.cluster.Until(ctx, gvr, w.namespace, name, func(u *unstructured.Unstructured) (bool, error) { return u == nil, nil })
	w.must(err)
}

// patch is somebody who changes an object by hand.
func (w *world) patch(gvr schema.GroupVersionResource, name, body string) {
	w.t.Helper()
	_, err := w.cluster.Dynamic().Resource(gvr).Namespace(w.namespace).Patch(w.t.Context(), name, "application/merge-patch+json", []byte(body), metav1.PatchOptions{})
	w.must(err)
}

func field(u *unstructured.Unstructured, path ...string) any {
	v, _, _ := unstructured.NestedFieldNoCopy(u.Object, path...)
	return v
}

// statuses are the stored revisions, the oldest first.
func (w *world) statuses() string {
	w.t.Helper()
	list, err := w.client.records(w.t.Context(), w.namespace, "orders")
	w.must(err)
	var out []string
	for i := range list {
		out = append(out, list[len(list)-1-i].status)
	}
	return strings.Join(out, " ")
}

// until waits for what no watch tells of.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("waiting until %s: it does not come", what)
		}
	}
}
