package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// deploy measures what the issue "deploy" asks for, beside helm 3, helm 4 and
// helmfile, against one sandbox.
func deploy(ctx context.Context) (rows []row, err error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return nil, err
	}
	b := &deployBench{root: root, program: filepath.Join(root, "bin", "slipway-deploy")}
	for name, pkg := range map[string]string{"helm3": "helm.sh/helm/v3/cmd/helm", "helm4": "helm.sh/helm/v4/cmd/helm", "helmfile": "github.com/helmfile/helmfile"} {
		if err := b.peer(ctx, name, pkg); err != nil {
			return nil, err
		}
	}
	if b.dir, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return nil, fmt.Errorf("making a folder for the measurements: %w", err)
	}
	defer removeAll(b.dir)
	box := filepath.Join(root, "bin", "sandbox")
	defer func() {
		if derr := command(context.WithoutCancel(ctx), root, box, "down", "--dir", b.sandbox()); err == nil {
			err = derr
		}
	}()
	if err := command(ctx, root, box, "up", "--node=auto", "--dir", b.sandbox()); err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context) ([]row, error){b.peersGoOn, b.one, b.fifty, b.growth, b.memory, b.verdicts} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

type deployBench struct {
	root, program, dir string
	sets               int
}

func (b *deployBench) sandbox() string { return filepath.Join(b.dir, "sandbox") }

func (b *deployBench) bin(peer string) string { return filepath.Join(b.root, "bench-report", peer) }

func (b *deployBench) peer(ctx context.Context, name, pkg string) error {
	return command(ctx, filepath.Join(b.root, "bench", "peers", name), "go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", b.bin(name), pkg)
}

// workload is a Deployment whose pods are ready 0.1 s after they are started.
const workload = `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations: {slipway.dev/fail: slow-start, slipway.dev/fail-for: "0.1", note: {{ .Values.note | quote }}}
    spec:
      {{- if .Values.real }}
      nodeSelector: {slipway.dev/node: real}
      tolerations: [{key: slipway.dev/node, operator: Exists}]
      {{- end }}
      containers:
        - name: app
          image: {{ .Values.image | quote }}
          args: {{ toJson .Values.args }}
`

// set is a folder with a chart and n releases of it, in a namespace of its own.
type set struct {
	dir, namespace string
	n              int
}

// set makes the files of a set for all the programs.
func (b *deployBench) set(n int) (*set, error) {
	b.sets++
	s := &set{n: n, namespace: fmt.Sprintf("bench-%d", b.sets)}
	s.dir = filepath.Join(b.dir, s.namespace)
	files := map[string]string{"chart/Chart.yaml": "apiVersion: v2\nname: bench\nversion: 1.0.0\n", "chart/templates/workload.yaml": workload,
		"chart/values.yaml": "replicas: 1\nnote: one\nargs: []\nreal: false\nimage: registry.example.com/bench:1\n", "values.yaml": "note: one\n",
		"landscape.json": `{"apiVersion":"slipway/v1","kind":"LandscapeSnapshot","name":"bench","gitlab":{"url":"https://gitlab.example.com"},` +
			`"clusters":{"nonprod":{"account":"nonprod","eksName":"nonprod"}},"roles":[{"name":"platform-deploy","purpose":"platform","account":"nonprod"}]}`}
	var ours, helmfile strings.Builder
	ours.WriteString("apiVersion: slipway/v1\nkind: ReleaseSet\ndefaults: {timeout: 5m, stable: 0s}\nreleases:\n")
	helmfile.WriteString("helmDefaults: {wait: true, timeout: 300, createNamespace: true}\nreleases:\n")
	for i := range n {
		fmt.Fprintf(&ours, "  - {name: %s, namespace: %s, createNamespace: true, chart: {path: chart}, values: [values.yaml]}\n", s.release(i), s.namespace)
		fmt.Fprintf(&helmfile, "  - {name: %s, namespace: %s, chart: ./chart, values: [values.yaml]}\n", s.release(i), s.namespace)
	}
	files["releases.yaml"], files["helmfile.yaml"] = ours.String(), helmfile.String()
	for name, text := range files {
		if err := s.write(name, text); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *set) release(i int) string { return fmt.Sprintf("r%d", i+1) }

func (s *set) write(name, text string) error {
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making a set: %w", err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("making a set: %w", err)
	}
	return nil
}

// spent is what a program took.
type spent struct {
	seconds float64
	peak    float64 // MB of memory
	output  string
}

// ours applies the set with slipway-deploy, which must end with the code.
func (b *deployBench) ours(ctx context.Context, s *set, code int) (spent, error) {
	return b.run(ctx, s, code, b.program, "apply", "--releases", "releases.yaml", "--cluster", "nonprod", "--landscape", "landscape.json", "--kubeconfig", b.kubeconfig())
}

// helm upgrades or installs a release of the set with a helm of version 3 or 4.
func (b *deployBench) helm(ctx context.Context, version string, s *set, release string) (spent, error) {
	return b.run(ctx, s, 0, b.bin(version), "upgrade", "--install", release, "chart", "--namespace", s.namespace, "--create-namespace",
		"--values", "values.yaml", "--wait", "--timeout", "5m")
}

func (b *deployBench) kubeconfig() string {
	return filepath.Join(b.sandbox(), "clusters", "nonprod", "kubeconfig")
}

func (b *deployBench) run(ctx context.Context, s *set, code int, args ...string) (spent, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = s.dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SLIPWAY_") && !strings.HasPrefix(e, "CI_") && !strings.HasPrefix(e, "GITLAB_CI=") && !strings.HasPrefix(e, "KUBECONFIG=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "KUBECONFIG="+b.kubeconfig(), "HELM_CACHE_HOME="+filepath.Join(b.dir, "cache"))
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := spent{seconds: time.Since(start).Seconds(), output: string(out)}
	if cmd.ProcessState == nil {
		return took, fmt.Errorf("running %q: %w", args, err)
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		took.peak = float64(usage.Maxrss) / 1024
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		return took, fmt.Errorf("running %q: it ended with %d, not %d:\n%s", args, got, code, out)
	}
	return took, nil
}

// eight runs f for each of n, eight at a time, and returns how long all took.
func eight(n int, f func(i int) error) (float64, error) {
	start := time.Now()
	slots, errs := make(chan struct{}, 8), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = f(i)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds(), nil
}
