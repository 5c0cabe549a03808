package apply

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

const (
	crd = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec: {group: example.com, scope: Namespaced, names: {kind: Widget, plural: widgets}, versions: [{name: v1, served: true, storage: true}]}
`
	widget     = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n"
	deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
	gate       = `{{- if .Capabilities.APIVersions.Has "example.com/v1/Widget" }}` + "\n" + widget + "{{- end }}\n"
)

func webhook(kind, resources, selector string) string {
	return "apiVersion: admissionregistration.k8s.io/v1\nkind: " + kind + `
metadata: {name: hook, annotations: {helm.sh/hook: post-install}}
webhooks: [{name: check.example.com, failurePolicy: Fail, namespaceSelector: ` + selector + `, rules: [` + resources + `]}]
`
}

const (
	onWidgets = "{apiGroups: [example.com], apiVersions: [v1], resources: [widgets], operations: [CREATE]}"
	onPods    = `{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}`
	onAll     = `{apiGroups: ["*"], apiVersions: ["*"], resources: ["*/*"], operations: ["*"]}`
	onDeletes = `{apiGroups: ["*"], apiVersions: ["*"], resources: ["*"], operations: [DELETE]}`
)

type part struct {
	files map[string]string
	needs []string
}

// nodes makes a set: name -> its chart's files and declared needs.
// loaded is the chart of the files, written to dir.
func loaded(t *testing.T, dir string, files map[string]string) *helmrelease.Chart {
	t.Helper()
	for file, text := range files {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := helmrelease.LoadDir(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func nodes(t *testing.T, parts map[string]part) []Node {
	t.Helper()
	var out []Node
	for name, p := range parts {
		dir := filepath.Join(t.TempDir(), name)
		p.files["Chart.yaml"] = "apiVersion: v2\nname: " + name + "\nversion: 1.0.0\nkubeVersion: '>=1.25.0-0'\n"
		c := loaded(t, dir, p.files)
		out = append(out, Node{Needs: Declared(p.needs), Request: Request{Spec: helmrelease.Spec{Name: name, Namespace: "ns-" + name, Chart: c, Values: map[string]any{}}}})
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func chartOf(files ...string) map[string]string {
	out := map[string]string{}
	for i, text := range files {
		out[fmt.Sprintf("templates/%d.yaml", i)] = text
	}
	return out
}

func TestInfer(t *testing.T) {
	inCRDs := func() map[string]string { return map[string]string{"crds/deep/w.yaml": crd} }
	for name, c := range map[string]struct {
		parts map[string]part
		want  string // release>need=reason's first words, in order
		told  string
	}{
		"kind in the crds folder": {map[string]part{"a": {files: chartOf(widget)}, "b": {files: inCRDs()}}, "a>b=it brings the kind Widget.example.com", ""},
		"kind among templates":    {map[string]part{"a": {files: chartOf(widget)}, "b": {files: chartOf(crd)}}, "a>b=it brings the kind Widget.example.com", ""},
		"use behind capabilities": {map[string]part{"a": {files: chartOf(gate)}, "b": {files: inCRDs()}}, "a>b=it brings the kind Widget.example.com", ""},
		"both bring it":           {map[string]part{"a": {files: map[string]string{"crds/w.yaml": crd, "templates/w.yaml": widget}}, "b": {files: inCRDs()}}, "", ""},
		"declared as well":        {map[string]part{"a": {files: chartOf(widget), needs: []string{"b"}}, "b": {files: inCRDs()}}, "a>b=declared", ""},
		"declared contrary":       {map[string]part{"a": {files: chartOf(widget)}, "b": {files: inCRDs(), needs: []string{"a"}}}, "b>a=declared", ""},
		"contrary by a third":     {map[string]part{"a": {files: chartOf(widget)}, "b": {files: inCRDs(), needs: []string{"c"}}, "c": {files: chartOf(), needs: []string{"a"}}}, "b>c=declared c>a=declared", ""},
		"a webhook":               {map[string]part{"a": {files: chartOf(widget)}, "b": {files: chartOf(webhook("ValidatingWebhookConfiguration", onWidgets, "{}"))}}, "a>b=its webhook check.example.com judges Widget w", ""},
		"a webhook on pods":       {map[string]part{"a": {files: chartOf(deployment)}, "b": {files: chartOf(deployment, webhook("MutatingWebhookConfiguration", onPods, "{}"))}}, "a>b=its webhook check.example.com judges Deployment d", ""},
		"a webhook on everything": {map[string]part{"a": {files: chartOf(deployment)}, "b": {files: chartOf(webhook("MutatingWebhookConfiguration", onAll, "{}"))}, "c": {files: chartOf(widget)}},
			"a>b=its webhook check.example.com judges Deployment d c>b=its webhook check.example.com judges Widget w", ""},
		"a webhook on deletes": {map[string]part{"a": {files: chartOf(deployment)}, "b": {files: chartOf(webhook("MutatingWebhookConfiguration", onDeletes, "{}"))}}, "", ""},
		"another namespace": {map[string]part{"a": {files: chartOf(widget)}, "b": {files: chartOf(webhook("ValidatingWebhookConfiguration", onWidgets,
			"{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [ns-c]}]}"))}, "c": {files: chartOf(widget)}}, "c>b=its webhook check.example.com judges Widget w", ""},
		"other labels may match": {map[string]part{"a": {files: chartOf(widget)}, "b": {files: chartOf(webhook("ValidatingWebhookConfiguration", onWidgets, "{matchLabels: {inject: enabled}}"))}},
			"a>b=its webhook check.example.com judges Widget w", ""},
		"kinds before webhooks": {map[string]part{"a": {files: chartOf(deployment, webhook("ValidatingWebhookConfiguration", onAll, "{}"), widget)}, "b": {files: map[string]string{"crds/w.yaml": crd, "templates/d.yaml": deployment}}},
			"a>b=it brings the kind Widget.example.com", ""},
		"nothing brought":      {map[string]part{"a": {files: chartOf(widget)}, "b": {files: chartOf(deployment)}}, "", ""},
		"one does not render":  {map[string]part{"a": {files: chartOf(`{{ fail "no" }}`)}, "b": {files: inCRDs()}, "c": {files: chartOf(widget)}}, "c>b=it brings the kind Widget.example.com", "a: its needs are not inferred"},
		"three in a row":       {map[string]part{"a": {files: chartOf(widget)}, "b": {files: inCRDs(), needs: []string{"c"}}, "c": {files: chartOf(deployment)}}, "a>b=it brings the kind Widget.example.com b>c=declared", ""},
		"its own webhook only": {map[string]part{"a": {files: chartOf(widget, crd, webhook("ValidatingWebhookConfiguration", onAll, "{}"))}}, "", ""},
	} {
		list := nodes(t, c.parts)
		told := ""
		if err := Infer(t.Context(), list, func(f string, args ...any) { told += fmt.Sprintf(f, args...) }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, n := range list {
			for _, need := range n.Needs {
				got = append(got, n.Name+">"+need.Name+"="+need.Why)
			}
		}
		if strings.Join(got, " ") != c.want || !strings.HasPrefix(told, c.told) || c.told == "" && told != "" {
			t.Errorf("%s: needs %q, want %q; told %q", name, strings.Join(got, " "), c.want, told)
		}
	}
}
