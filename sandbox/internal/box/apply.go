package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// applier makes objects as they are wanted, by server-side apply.
type applier struct {
	client dynamic.Interface
	mapper meta.RESTMapper
}

func (b *Box) applier(cluster string) (*applier, error) {
	cfg, err := b.rest(cluster)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	discover, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &applier{client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discover))}, nil
}

// file applies the documents of a YAML file.
func (a *applier) file(ctx context.Context, text io.Reader) error {
	dec := yaml.NewYAMLOrJSONDecoder(text, 4096)
	for {
		var o unstructured.Unstructured
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading resources: %w", err)
		}
		if len(o.Object) == 0 {
			continue
		}
		if err := a.unstructured(ctx, &o); err != nil {
			return err
		}
	}
}

// object applies one object, whose kind and version are set.
func (a *applier) object(ctx context.Context, o runtime.Object) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(raw); err != nil {
		return err
	}
	return a.unstructured(ctx, &u)
}

func (a *applier) unstructured(ctx context.Context, o *unstructured.Unstructured) error {
	kind := o.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return fmt.Errorf("applying the %s %q: %w", o.GetKind(), o.GetName(), err)
	}
	var client dynamic.ResourceInterface = a.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		client = a.client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	if _, err := client.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "sandbox", Force: true}); err != nil {
		return fmt.Errorf("applying the %s %q: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}
