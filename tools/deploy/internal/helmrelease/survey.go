package helmrelease

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kubeVersion is what charts are told where no cluster is asked: that of the
// libraries. The SDK's own default is 1.20, which many charts refuse.
const kubeVersion = "v1.37.0"

// Definition is a kind that a release brings.
type Definition struct {
	schema.GroupKind
	Versions []string
}

// Object is an object that a release renders.
type Object struct {
	schema.GroupVersionKind
	Namespace, Name string
}

// Webhook is a webhook that a release brings.
type Webhook struct {
	Name      string
	Rules     []admissionv1.RuleWithOperations
	Namespace *metav1.LabelSelector // of the namespaces it answers for
}

// Survey is what a release brings into a cluster, and what it consists of.
type Survey struct {
	Definitions []Definition
	Webhooks    []Webhook
	Objects     []Object
}

// Brings reports whether a chart may bring kinds or webhooks. It looks at the
// text alone, so that a set without any of them is not rendered twice.
func (c *Chart) Brings() bool { return brings(c.c) }

func brings(c *chart.Chart) bool {
	for _, f := range append(slices.Clone(c.Templates), c.CRDs()...) {
		if bytes.Contains(f.Data, []byte("CustomResourceDefinition")) || bytes.Contains(f.Data, []byte("WebhookConfiguration")) {
			return true
		}
	}
	return slices.ContainsFunc(c.Dependencies(), brings)
}

// Definitions returns the kinds of a chart's crds folder, which need no
// rendering.
func (c *Chart) Definitions() ([]Definition, error) {
	var s Survey
	for _, crd := range c.c.CRDObjects() {
		docs, err := documents(string(crd.File.Data))
		if err != nil {
			return nil, badChart(c.Name(), fmt.Errorf("reading %q: %w", crd.Filename, err))
		}
		for _, d := range docs {
			if err := s.add(d, ""); err != nil {
				return nil, badChart(c.Name(), fmt.Errorf("reading %q: %w", crd.Filename, err))
			}
		}
	}
	return s.Definitions, nil
}

// Look surveys a release without a cluster. known are kinds that will be there
// when the release is applied: charts ask for them as capabilities.
func (s Spec) Look(ctx context.Context, known []Definition) (Survey, error) {
	i := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	i.ReleaseName, i.Namespace = s.Name, s.Namespace
	i.DryRun, i.ClientOnly, i.IncludeCRDs, i.Replace, i.SkipSchemaValidation = true, true, true, true, true
	i.KubeVersion = &chartutil.KubeVersion{Version: kubeVersion, Major: "1", Minor: "37"}
	for _, d := range known {
		for _, v := range d.Versions {
			i.APIVersions = append(i.APIVersions, d.Group+"/"+v, d.Group+"/"+v+"/"+d.Kind)
		}
	}
	values, _ := duplicateValue(s.Values).(map[string]any)
	c := duplicate(s.Chart.c)
	c.Metadata.KubeVersion = "" // the cluster has its say when the release is planned
	rel, err := i.RunWithContext(ctx, c, values)
	if err != nil {
		return Survey{}, fmt.Errorf("rendering chart %q: %w", s.Chart.Name(), err)
	}
	docs, err := documents(manifestOf(rel))
	if err != nil {
		return Survey{}, fmt.Errorf("rendering chart %q: %w", s.Chart.Name(), err)
	}
	var out Survey
	for _, d := range docs {
		if err := out.add(d, s.Namespace); err != nil {
			return Survey{}, fmt.Errorf("rendering chart %q: %w", s.Chart.Name(), err)
		}
	}
	return out, nil
}

// add takes an object into the survey.
func (s *Survey) add(doc map[string]any, namespace string) error {
	u := unstructured.Unstructured{Object: doc}
	gv, err := schema.ParseGroupVersion(u.GetAPIVersion())
	if err != nil {
		return fmt.Errorf("reading %s %q: %w", u.GetKind(), u.GetName(), err)
	}
	if own := u.GetNamespace(); own != "" {
		namespace = own
	}
	s.Objects = append(s.Objects, Object{GroupVersionKind: gv.WithKind(u.GetKind()), Namespace: namespace, Name: u.GetName()})
	switch {
	case gv.Group == "apiextensions.k8s.io" && u.GetKind() == "CustomResourceDefinition":
		return s.definition(doc)
	case gv.Group == admissionv1.GroupName && (u.GetKind() == "ValidatingWebhookConfiguration" || u.GetKind() == "MutatingWebhookConfiguration"):
		return s.webhooks(doc)
	}
	return nil
}

func (s *Survey) definition(doc map[string]any) error {
	var crd struct {
		Spec struct {
			Group string `json:"group"`
			Names struct {
				Kind string `json:"kind"`
			} `json:"names"`
			Versions []struct {
				Name string `json:"name"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(doc, &crd); err != nil {
		return fmt.Errorf("reading a definition: %w", err)
	}
	d := Definition{GroupKind: schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}}
	for _, v := range crd.Spec.Versions {
		d.Versions = append(d.Versions, v.Name)
	}
	s.Definitions = append(s.Definitions, d)
	return nil
}

func (s *Survey) webhooks(doc map[string]any) error {
	// Both kinds are alike in what is asked for here.
	var config admissionv1.ValidatingWebhookConfiguration
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(doc, &config); err != nil {
		return fmt.Errorf("reading a webhook: %w", err)
	}
	for _, w := range config.Webhooks {
		s.Webhooks = append(s.Webhooks, Webhook{Name: w.Name, Rules: w.Rules, Namespace: w.NamespaceSelector})
	}
	return nil
}
