package box

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
)

// definitionsServed waits until the API server lists a resource for every
// resource definition. It does so some time after it has taken the definition,
// and Velero's server ends where one is missing.
func (b *Box) definitionsServed(ctx context.Context, cluster string) error {
	dynamic, err := b.dynamic(cluster)
	if err != nil {
		return err
	}
	client, err := b.client(cluster)
	if err != nil {
		return err
	}
	definitions, err := dynamic.Resource(crdResource()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing the resource definitions: %w", err)
	}
	// Nothing can be watched that tells of it.
	if err := retry(ctx, func(context.Context) error { return allServed(client.Discovery(), definitions.Items) }); err != nil {
		return fmt.Errorf("waiting for the resource definitions: %w", err)
	}
	return nil
}

func allServed(client discovery.DiscoveryInterface, definitions []unstructured.Unstructured) error {
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	served := map[string]bool{}
	for _, list := range lists {
		for _, r := range list.APIResources {
			served[list.GroupVersion+"/"+r.Name] = true
		}
	}
	for _, d := range definitions {
		group, _, _ := unstructured.NestedString(d.Object, "spec", "group")
		plural, _, _ := unstructured.NestedString(d.Object, "spec", "names", "plural")
		versions, _, _ := unstructured.NestedSlice(d.Object, "spec", "versions")
		for _, v := range versions {
			version, ok := v.(map[string]any)
			if name := fmt.Sprintf("%s/%v/%s", group, version["name"], plural); ok && version["served"] == true && !served[name] {
				return fmt.Errorf("%q is not served yet", name)
			}
		}
	}
	return nil
}
