package box

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"text/template"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

//go:embed veleroagent.yaml
var veleroAgentYAML string

// veleroImageRef is the image that restored pods wait with for their files.
// Without real nodes nothing pulls it.
func (b *Box) veleroImageRef() string {
	if ref, ok := b.images[veleroImageName]; ok {
		return ref
	}
	return "velero/velero:v1.18.3"
}

// veleroAgent runs the agent that copies files of volumes on the cluster's
// real node. It is in the pods' network: it listens on a port of its own,
// which on the node's would be everybody's.
func (b *Box) veleroAgent(ctx context.Context, cluster string) error {
	a, err := b.applier(cluster)
	if err != nil {
		return err
	}
	if err := a.object(ctx, &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "cloud-credentials", Namespace: veleroNamespace},
		Data: map[string][]byte{"cloud": []byte(b.s3Keys())},
	}); err != nil {
		return err
	}
	t, err := template.New("veleroagent.yaml").Option("missingkey=error").Parse(veleroAgentYAML)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, map[string]string{
		"Image": b.veleroImageRef(), "NodeLabel": nodeLabel, "KubeletPods": b.describeNode(cluster).KubeletPods, "Region": region,
	}); err != nil {
		return fmt.Errorf("writing Velero's agent: %w", err)
	}
	if err := a.file(ctx, &text); err != nil {
		return err
	}
	client, err := b.client(cluster)
	if err != nil {
		return err
	}
	err = until(ctx, client.AppsV1().RESTClient(), "daemonsets", veleroNamespace, "node-agent", &appsv1.DaemonSet{}, func(e watch.Event) (bool, error) {
		d, ok := e.Object.(*appsv1.DaemonSet)
		if !ok {
			return false, apierrors.FromObject(e.Object)
		}
		s := d.Status
		return s.ObservedGeneration >= d.Generation && s.DesiredNumberScheduled == 1 && s.UpdatedNumberScheduled == 1 && s.NumberAvailable == 1, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for Velero's agent: %w", err)
	}
	return nil
}
