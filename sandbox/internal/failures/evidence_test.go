package failures

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

// fixture is a situation as it was recorded.
type fixture struct {
	Name   string         `json:"name"`
	Expect label          `json:"expect"`
	Bundle rollout.Bundle `json:"bundle"`
}

// registryPort is where the registry that answers as it is asked to listens,
// on the node's own loopback, so that no certificate is needed.
const registryPort = "5999"

// answering starts that registry, once for all situations.
func answering(t *testing.T) {
	t.Helper()
	n := nodetest.Open(t, "nonprod")
	_, port, _ := strings.Cut(n.Sandbox.Registry.Address, ":")
	p := n.Pod("registry", push(t, "answering"), "registry", "127.0.0.1:"+registryPort, n.Host+":"+port)
	p.Spec.HostNetwork = true
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: "127.0.0.1", Port: nodetest.TCPProbe(5999).TCPSocket.Port, Path: "/v2/"}}}
	n.Start(t, p)
}

// TestRealNodeSituations makes each situation on the real node, and lets the
// engine diagnose what it shows: rules and nodes may not grow apart.
// SLIPWAY_RECORD=1 makes them all and records the evidence for the tests of
// pkg/rollout, which takes long; else it is a sample of those that are recorded.
func TestRealNodeSituations(t *testing.T) {
	answering(t)
	t.Run("all", func(t *testing.T) {
		for _, s := range situations() {
			if os.Getenv("SLIPWAY_RECORD") == "" && !sampled(s.name) {
				continue
			}
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				n := nodetest.Open(t, "nonprod")
				st := &stage{T: t, Node: n, image: push(t, "situation-"+s.name), registry: "127.0.0.1:" + registryPort}
				got := observed(t, s, st)
				if os.Getenv("SLIPWAY_RECORD") != "" {
					got.write(t, n)
					return
				}
				if why := got.Expect.judge(got.Bundle); why != "" {
					t.Error(why)
				}
			})
		}
	})
}

// sampled picks a few of the recorded situations by their names, and none of
// those that are kept aside from the rules.
func sampled(name string) bool {
	sum := sha256.Sum256([]byte(name))[0]
	_, err := os.Stat(filepath.Join("..", "..", "..", "pkg", "rollout", "testdata", "situations", name+".json"))
	return err == nil && sum%3 != 0 && sum%4 == 1
}

// observed makes a situation, waits until it shows, and returns the evidence.
func observed(t *testing.T, s situation, st *stage) fixture {
	t.Helper()
	_, err := st.Client.CoreV1().ConfigMaps(st.Namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}}, metav1.CreateOptions{})
	st.must(err)
	start := time.Now().UTC()
	s.make(st)
	w := rollout.NewWatcher(clusterOf(t, st.Node))
	defer w.Close()
	got := fixture{Name: s.name, Expect: s.label}
	nodetest.Retry(t, s.name+" shows", func(ctx context.Context) error {
		r, err := w.Look(ctx, st.objects, rollout.Options{})
		if err == nil && !slices.ContainsFunc(r.Evidence, s.shows) {
			err = fmt.Errorf("it shows %+v", r.Objects)
		}
		return err
	})
	r, err := w.Look(t.Context(), st.objects, rollout.Options{Logs: rollout.Logs(st.Client)})
	st.must(err)
	for i := range r.Evidence {
		r.Evidence[i].Start = start
	}
	got.Bundle = rollout.Bundle{Schema: rollout.BundleSchema, Release: "orders", Namespace: st.Namespace, Start: start, Saved: time.Now().UTC(), Objects: r.Objects, Evidence: r.Evidence}
	if s.heals {
		nodetest.Retry(t, s.name+" gets ready", func(ctx context.Context) error {
			r, err := w.Look(ctx, st.objects, rollout.Options{})
			if err == nil && slices.ContainsFunc(r.Objects, func(o rollout.State) bool { return !o.Ready }) {
				err = fmt.Errorf("it is at %+v: %+v", r.Objects, r.Findings)
			}
			return err
		})
	}
	return got
}

// judge holds a diagnosis against the label, and says what is wrong with it.
func (l label) judge(b rollout.Bundle) string {
	found := b.Diagnose()
	if l.Healthy {
		for _, f := range found {
			if f.Ends(b.Saved) {
				return "it is called failed: " + f.Sentence()
			}
		}
		return ""
	}
	if len(found) == 0 {
		return "nothing was found"
	}
	f := found[0]
	wrong := f.Class != l.Class || f.Container != l.Container || f.Transient != l.Waits || l.Workload != "" && f.Workload.Name != l.Workload
	for _, s := range l.Says {
		wrong = wrong || !strings.Contains(f.Sentence(), s)
	}
	if wrong {
		return fmt.Sprintf("it says %s (%s, transient %t), want %+v", f.Sentence(), f.Class, f.Transient, l)
	}
	return ""
}

type clusterAccess struct{ cluster }

var clusters sync.Map // of the node's cluster: discovery is slow where many do it at once

func clusterOf(t *testing.T, n *nodetest.Node) rollout.Cluster {
	t.Helper()
	if c, ok := clusters.Load(n.Rest.Host); ok {
		return c.(clusterAccess)
	}
	dyn, err := dynamic.NewForConfig(n.Rest)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(discovery.NewDiscoveryClientForConfigOrDie(n.Rest))
	if err != nil {
		t.Fatal(err)
	}
	c := clusterAccess{cluster{dyn: dyn, mapper: restmapper.NewDiscoveryRESTMapper(groups)}}
	clusters.Store(n.Rest.Host, c)
	return c
}

// write keeps a fixture, without what names this machine and this run.
func (f fixture) write(t *testing.T, n *nodetest.Node) {
	t.Helper()
	raw, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	node := n.Name
	text := strings.NewReplacer(n.Namespace, "shop", n.Sandbox.Registry.Address, "registry.example.com", `"`+node+`"`, `"node-1"`, " "+node, " node-1", "/"+node, "/node-1", "("+node, "(node-1").Replace(string(raw))
	known := map[string]string{}
	text = regexp.MustCompile(`\b10\.\d+\.\d+\.\d+\b`).ReplaceAllStringFunc(text, func(ip string) string {
		if _, ok := known[ip]; !ok {
			known[ip] = fmt.Sprintf("192.0.2.%d", len(known)+1)
		}
		return known[ip]
	})
	dir := filepath.Join("..", "..", "..", "pkg", "rollout", "testdata", "situations")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the repository
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, f.Name+".json"), []byte(shift(text)+"\n"), 0o644); err != nil { //nolint:gosec // a file of the repository
		t.Fatal(err)
	}
}
