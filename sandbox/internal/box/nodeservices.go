package box

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"net"
	"slices"
	"strconv"
	"text/template"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"gitlab.com/slipway/slipway/sandbox/internal/node"
)

// storageClassName is the class whose volumes are folders of the real node.
const storageClassName = "folder"

//go:embed nodeservices.yaml
var nodeServicesYAML string

// nodeServices makes what a cluster with a real node has in it: the endpoint
// of the API server's Service, the name server and the storage class.
func (b *Box) nodeServices(ctx context.Context, cluster string) error {
	a, err := b.applier(cluster)
	if err != nil {
		return err
	}
	if err := b.apiEndpoint(ctx, a, cluster); err != nil {
		return err
	}
	t, err := template.New("nodeservices.yaml").Option("missingkey=error").Parse(nodeServicesYAML)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, map[string]string{
		"Image": b.images["coredns"], "Address": b.networks[cluster].DNS().String(), "NodeLabel": nodeLabel, "PolicyUser": policyUser, "StorageClass": storageClassName, "Provisioner": node.Provisioner,
	}); err != nil {
		return fmt.Errorf("writing the services of the node: %w", err)
	}
	if err := a.file(ctx, &text); err != nil {
		return err
	}
	if err := b.policiesEnforced(ctx, cluster); err != nil {
		return err
	}
	client, err := b.client(cluster)
	if err != nil {
		return err
	}
	err = until(ctx, client.AppsV1().RESTClient(), "deployments", "kube-system", "coredns", &appsv1.Deployment{}, func(e watch.Event) (bool, error) {
		d, ok := e.Object.(*appsv1.Deployment)
		if !ok {
			return false, apierrors.FromObject(e.Object)
		}
		return d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == 1 && d.Status.AvailableReplicas == 1 && d.Status.Replicas == 1, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the name server: %w", err)
	}
	// After a restart of the node the cluster may speak of pods that are no more.
	if err := retry(ctx, func(ctx context.Context) error { return b.resolves(ctx, cluster) }); err != nil {
		return fmt.Errorf("waiting for the name server: %w", err)
	}
	return nil
}

// resolves asks the cluster's name server, by its Service, for the API server.
func (b *Box) resolves(ctx context.Context, cluster string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	server := net.JoinHostPort(b.networks[cluster].DNS().String(), "53")
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server)
	}}
	got, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
	if err != nil {
		return err
	}
	if want := b.networks[cluster].APIServer().String(); !slices.Equal(got, []string{want}) {
		return fmt.Errorf("the API server is %v, want %s", got, want)
	}
	return nil
}

// apiEndpoint leads the Service `kubernetes` to the host's end of the node's
// link. The API server, which is on loopback, cannot do it by itself.
func (b *Box) apiEndpoint(ctx context.Context, a *applier, cluster string) error {
	port, err := strconv.ParseInt(b.port("kube-apiserver-"+cluster), 10, 32)
	if err != nil {
		return err
	}
	return a.object(ctx, &discoveryv1.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Name: "kubernetes", Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{b.networks[cluster].Host().String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new("https"), Port: new(int32(port)), Protocol: new(corev1.ProtocolTCP)}},
	})
}
