package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

const veleroNamespace = "velero"

// veleroParts are Velero's server, outside its cluster, and what it needs in
// it: in the cluster nonprod, and where there are real nodes in both, with the
// agents that copy files of volumes.
func veleroParts(withNodes bool) []Part {
	parts := []Part{}
	for _, c := range clusters() {
		parts = append(parts, Part{
			Name: "storage-class-" + c, Needs: []string{"kube-apiserver-" + c},
			Ready: func(ctx context.Context, b *Box) error { return b.storageClass(ctx, c) },
		})
	}
	if !withNodes {
		return append(parts, veleroServer("nonprod")...)
	}
	for _, c := range clusters() {
		parts = append(parts, veleroServer(c, nodePart(c), "node-images")...)
		parts = append(parts, Part{
			Name: "velero-agent-" + c, Needs: []string{"velero-resources-" + c, "node-services-" + c},
			Ready: func(ctx context.Context, b *Box) error { return b.veleroAgent(ctx, c) },
		})
	}
	return parts
}

// veleroServer is the server of one cluster.
func veleroServer(cluster string, needs ...string) []Part {
	server := veleroPart(cluster)
	return []Part{
		{
			Name: "velero-resources-" + cluster, Needs: append([]string{"kube-apiserver-" + cluster}, needs...),
			Ready: func(ctx context.Context, b *Box) error { return b.veleroResources(ctx, cluster) },
		},
		{
			Name: server, Needs: []string{"velero-resources-" + cluster, "kube-controller-manager-" + cluster, "s3"}, Ports: []string{server + "-metrics"},
			Command: func(b *Box) (Spec, error) { return b.velero(cluster) },
			Ready:   func(ctx context.Context, b *Box) error { return b.locationsAvailable(ctx, cluster) },
		},
	}
}

func veleroPart(cluster string) string { return "velero-" + cluster }

func (b *Box) velero(cluster string) (Spec, error) {
	plugins, tmp := b.path("velero", cluster, "plugins"), b.path("velero", cluster, "tmp")
	if err := errors.Join(os.MkdirAll(plugins, 0o700), os.MkdirAll(tmp, 0o700)); err != nil {
		return Spec{}, err
	}
	// Every executable file of the folder is started as a plugin: it holds this one only.
	link, target := plugins+"/velero-plugin-for-aws", b.program("velero-plugin-for-aws")
	if have, err := os.Readlink(link); err != nil || have != target {
		if err := errors.Join(os.RemoveAll(link), os.Symlink(target, link)); err != nil {
			return Spec{}, err
		}
	}
	keys := b.path("velero", cluster, "credentials")
	if err := process.WriteFile(keys, []byte(b.s3Keys())); err != nil {
		return Spec{}, err
	}
	return Spec{
		// `server` comes first: Velero hands what follows it to its plugins.
		Argv: []string{
			b.program("velero"), "server", "--kubeconfig", b.kubeconfigPath(cluster), "--namespace", veleroNamespace, "--plugin-dir", plugins,
			"--metrics-address", b.addr(veleroPart(cluster) + "-metrics"), "--profiler-address", "", "--log-level", "info",
			"--store-validation-frequency", "5s", "--backup-sync-period", "10s", "--item-operation-sync-frequency", "1s",
			"--resource-timeout", "30s", "--default-repo-maintain-frequency", "720h", "--client-qps", "200", "--client-burst", "400",
		},
		Env: []string{
			"VELERO_NAMESPACE=" + veleroNamespace, "TMPDIR=" + tmp, "HOME=" + tmp,
			"AWS_SHARED_CREDENTIALS_FILE=" + keys, "AWS_REGION=" + region, "AWS_EC2_METADATA_DISABLED=true",
			"AWS_CONFIG_FILE=" + tmp + "/none",
			"AWS_REQUEST_CHECKSUM_CALCULATION=when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION=when_required",
		},
		Inputs: []string{keys, b.kubeconfigPath(cluster)},
	}, nil
}

// s3Keys are the object store's, in a file as the AWS SDK reads it.
func (b *Box) s3Keys() string {
	return fmt.Sprintf("[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n", b.secrets.S3AccessKey, b.secrets.S3SecretKey)
}

// storageClass makes the default class, whose claims kwok binds.
func (b *Box) storageClass(ctx context.Context, cluster string) error {
	return b.createFile(ctx, cluster, b.programs["kwok"]+"/storage-class.yaml", schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"})
}

// createFile makes the cluster-wide objects of a YAML file that are not there.
func (b *Box) createFile(ctx context.Context, cluster, path string, resource schema.GroupVersionResource) error {
	client, err := b.dynamic(cluster)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading resources: %w", err)
	}
	defer f.Close()
	dec := yaml.NewYAMLOrJSONDecoder(f, 4096)
	for {
		var o unstructured.Unstructured
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading %q: %w", path, err)
		}
		if len(o.Object) == 0 {
			continue
		}
		if err := b.create(func() error {
			_, err := client.Resource(resource).Create(ctx, &o, metav1.CreateOptions{})
			return err
		}); err != nil {
			return fmt.Errorf("making the %s %q: %w", o.GetKind(), o.GetName(), err)
		}
	}
}

// veleroResources makes Velero's definitions, its namespace and its storage location.
func (b *Box) veleroResources(ctx context.Context, cluster string) error {
	if err := b.createFile(ctx, cluster, b.programs["velero"]+"/crds.yaml", crdResource()); err != nil {
		return err
	}
	if err := b.definitionsServed(ctx, cluster); err != nil {
		return err
	}
	client, err := b.client(cluster)
	if err != nil {
		return err
	}
	if err := b.create(func() error {
		_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: veleroNamespace}}, metav1.CreateOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("making Velero's namespace: %w", err)
	}
	a, err := b.applier(cluster)
	if err != nil {
		return err
	}
	// A restore looks for the server's Deployment, whose image has the helper
	// for restored pods; the server runs outside.
	labels := map[string]string{"app.kubernetes.io/name": "velero"}
	if err := a.object(ctx, &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Name: "velero", Namespace: veleroNamespace, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "velero", Image: b.veleroImageRef()}}}},
		},
	}); err != nil {
		return err
	}
	if err := b.locationsDefined(ctx, cluster); err != nil {
		return err
	}
	for _, l := range storageLocations(cluster) {
		if err := b.storageLocation(ctx, a, cluster, l); err != nil {
			return err
		}
	}
	return nil
}

// watchOne watches an object by name until done says so.
func (b *Box) watchOne(ctx context.Context, client dynamic.ResourceInterface, name string, done func(*unstructured.Unstructured) bool) error {
	selector := "metadata.name=" + name
	list := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return client.Watch(ctx, o)
		},
	}
	_, err := watchtools.UntilWithSync(ctx, list, &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return false, apierrors.FromObject(e.Object)
		}
		return e.Type != watch.Deleted && done(o), nil
	})
	return err
}

func (b *Box) dynamic(cluster string) (*dynamic.DynamicClient, error) {
	cfg, err := b.rest(cluster)
	if err != nil {
		return nil, err
	}
	return dynamic.NewForConfig(cfg)
}
