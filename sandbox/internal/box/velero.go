package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

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

func crdResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

func locationResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "velero.io", Version: "v1", Resource: "backupstoragelocations"}
}

// veleroParts are Velero's server, outside its cluster, and what it needs in it.
func veleroParts() []Part {
	cluster := "nonprod"
	return []Part{
		{
			Name: "storage-class-nonprod", Needs: []string{"kube-apiserver-nonprod"},
			Ready: func(ctx context.Context, b *Box) error { return b.storageClass(ctx, "nonprod") },
		},
		{
			Name: "storage-class-prod", Needs: []string{"kube-apiserver-prod"},
			Ready: func(ctx context.Context, b *Box) error { return b.storageClass(ctx, "prod") },
		},
		{
			Name: "velero-resources", Needs: []string{"kube-apiserver-" + cluster},
			Ready: func(ctx context.Context, b *Box) error { return b.veleroResources(ctx, cluster) },
		},
		{
			Name: "velero", Needs: []string{"velero-resources", "kube-controller-manager-" + cluster, "s3"}, Ports: []string{"velero-metrics"},
			Command: func(b *Box) (Spec, error) { return b.velero(cluster) },
			Ready:   func(ctx context.Context, b *Box) error { return b.locationAvailable(ctx, cluster) },
		},
	}
}

func (b *Box) velero(cluster string) (Spec, error) {
	plugins, tmp := b.path("velero", "plugins"), b.path("velero", "tmp")
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
	keys := b.path("velero", "credentials")
	if err := process.WriteFile(keys, fmt.Appendf(nil, "[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n", b.secrets.S3AccessKey, b.secrets.S3SecretKey)); err != nil {
		return Spec{}, err
	}
	return Spec{
		// `server` comes first: Velero hands what follows it to its plugins.
		Argv: []string{
			b.program("velero"), "server", "--kubeconfig", b.kubeconfigPath(cluster), "--namespace", veleroNamespace, "--plugin-dir", plugins,
			"--metrics-address", b.addr("velero-metrics"), "--profiler-address", "", "--log-level", "info",
			"--store-validation-frequency", "5s", "--backup-sync-period", "10s", "--item-operation-sync-frequency", "1s",
			"--resource-timeout", "30s", "--disable-controllers", "backup-repo", "--client-qps", "200", "--client-burst", "400",
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
	// A restore looks for the server's Deployment; the server runs outside.
	labels := map[string]string{"app.kubernetes.io/name": "velero"}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "velero", Labels: labels}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "velero", Image: "velero/velero:v1.18.3"}}}},
	}}
	if err := b.create(func() error {
		_, err := client.AppsV1().Deployments(veleroNamespace).Create(ctx, deployment, metav1.CreateOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("making Velero's deployment: %w", err)
	}
	return b.storageLocation(ctx, cluster)
}

func (b *Box) storageLocation(ctx context.Context, cluster string) error {
	client, err := b.dynamic(cluster)
	if err != nil {
		return err
	}
	if err := b.watchOne(ctx, client.Resource(crdResource()), "backupstoragelocations.velero.io", func(o *unstructured.Unstructured) bool {
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
				return true
			}
		}
		return false
	}); err != nil {
		return fmt.Errorf("waiting for Velero's resource definitions: %w", err)
	}
	spec := map[string]any{
		"provider": "aws", "default": true, "objectStorage": map[string]any{"bucket": backupBucket, "prefix": cluster},
		"config": map[string]any{"region": region, "s3Url": "http://" + b.addr("s3"), "s3ForcePathStyle": "true", "checksumAlgorithm": ""},
	}
	location := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
		"metadata": map[string]any{"name": "default", "namespace": veleroNamespace}, "spec": spec,
	}}
	locations := client.Resource(locationResource()).Namespace(veleroNamespace)
	_, err = locations.Create(ctx, location, metav1.CreateOptions{})
	switch {
	case err == nil:
		b.change("made Velero's storage location")
		return nil
	case !apierrors.IsAlreadyExists(err):
		return fmt.Errorf("making Velero's storage location: %w", err)
	}
	have, err := locations.Get(ctx, "default", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Velero's storage location: %w", err)
	}
	if url, _, _ := unstructured.NestedString(have.Object, "spec", "config", "s3Url"); url == "http://"+b.addr("s3") {
		return nil
	}
	have.Object["spec"] = spec // the gateway has another port than before
	if _, err := locations.Update(ctx, have, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("changing Velero's storage location: %w", err)
	}
	b.change("changed Velero's storage location")
	return nil
}

func (b *Box) locationAvailable(ctx context.Context, cluster string) error {
	client, err := b.dynamic(cluster)
	if err != nil {
		return err
	}
	if err := answers(ctx, "http://"+b.addr("velero-metrics")+"/metrics"); err != nil {
		return err
	}
	last := "none"
	err = b.watchOne(ctx, client.Resource(locationResource()).Namespace(veleroNamespace), "default", func(o *unstructured.Unstructured) bool {
		last, _, _ = unstructured.NestedString(o.Object, "status", "phase")
		// What an earlier server said of the location does not count.
		text, _, _ := unstructured.NestedString(o.Object, "status", "lastValidationTime")
		at, err := time.Parse(time.RFC3339, text)
		return last == "Available" && err == nil && time.Since(at) < 10*time.Second
	})
	if err != nil {
		return fmt.Errorf("waiting for the storage location to be available, its phase is %q: %w", last, err)
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
