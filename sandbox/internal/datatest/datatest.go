// Package datatest runs PostgreSQL and RabbitMQ on real nodes for a test, fills
// them, and backs them up and restores them by Velero. The StatefulSets are
// templates, with the fields Image, Password and StorageClass.
package datatest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"text/template"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"gitlab.com/slipway/slipway/sandbox/internal/nodetest"
)

//go:embed postgres.yaml rabbitmq.yaml
var manifests embed.FS

// patience is how long one step with a database may take on a busy machine.
const patience = 3 * time.Minute

// Database is a database in a pod of a real node.
type Database struct {
	Node      *nodetest.Node
	Namespace string
	Name      string // postgres or rabbitmq
	Password  string
}

// Pod is the name of the database's pod.
func (d Database) Pod() string { return d.Name + "-0" }

// In is the database as it is in another namespace, perhaps of another
// cluster, where a backup of it was restored.
func (d Database) In(node *nodetest.Node, namespace string) Database {
	d.Node, d.Namespace = node, namespace
	return d
}

// Start makes a database in the node's namespace and waits until it is ready.
func Start(t *testing.T, node *nodetest.Node, name string) Database {
	t.Helper()
	d := Database{Node: node, Namespace: node.Namespace, Name: name, Password: rand.Text()}
	tmpl, err := template.New(name+".yaml").Option("missingkey=error").ParseFS(manifests, name+".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := tmpl.Execute(&text, map[string]string{
		"Image": node.Sandbox.Images[name], "Password": d.Password, "StorageClass": node.StorageClass,
	}); err != nil {
		t.Fatal(err)
	}
	docs := yaml.NewYAMLReader(bufio.NewReader(&text))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("reading %s.yaml: %v", name, err)
		}
		if err := d.create(t.Context(), object); err != nil {
			t.Fatalf("making %s: %v", name, err)
		}
	}
	d.Ready(t)
	return d
}

func (d Database) create(ctx context.Context, object runtime.Object) (err error) {
	switch o := object.(type) {
	case *corev1.Secret:
		_, err = d.Node.Client.CoreV1().Secrets(d.Namespace).Create(ctx, o, metav1.CreateOptions{})
	case *corev1.Service:
		_, err = d.Node.Client.CoreV1().Services(d.Namespace).Create(ctx, o, metav1.CreateOptions{})
	case *appsv1.StatefulSet:
		_, err = d.Node.Client.AppsV1().StatefulSets(d.Namespace).Create(ctx, o, metav1.CreateOptions{})
	default:
		err = fmt.Errorf("a %T is not expected", o)
	}
	return err
}

// Ready waits until the database's pod is ready and returns it.
func (d Database) Ready(t *testing.T) *corev1.Pod {
	t.Helper()
	return d.Node.Ready(t, d.Namespace, d.Pod())
}

// address is where the host reaches a port of the database's pod.
func (d Database) address(t *testing.T, port string) string {
	t.Helper()
	return net.JoinHostPort(d.Ready(t).Status.PodIP, port)
}

// Restart deletes the database's pod and waits until its next one is ready.
func (d Database) Restart(t *testing.T) {
	t.Helper()
	before := d.Ready(t).UID
	if err := d.Node.Client.CoreV1().Pods(d.Namespace).Delete(t.Context(), d.Pod(), metav1.DeleteOptions{}); err != nil {
		t.Fatalf("deleting the pod %q: %v", d.Pod(), err)
	}
	d.Node.Until(t, d.Namespace, d.Pod(), "there is a new one", func(p *corev1.Pod) bool { return p.UID != before })
	d.Ready(t)
}
