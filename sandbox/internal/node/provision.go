package node

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Provisioner is the name by which a storage class asks for folders of a node.
const Provisioner = "sandbox.slipway.dev/folder"

// provision makes a volume for each claim of a storage class of Provisioner:
// a folder of the node.
func provision(ctx context.Context, cfg Config, logger *log.Logger) error {
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.AdminConfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	controller.NewProvisionController(ctx, client, Provisioner, folders{cfg},
		controller.LeaderElection(false), controller.Threadiness(2)).Run(ctx)
	logger.Printf("node %s: no more volumes are made", cfg.Name)
	return nil
}

// folders makes and removes the folders of one node.
type folders struct{ cfg Config }

func (f folders) Provision(_ context.Context, o controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	if o.SelectedNodeName != f.cfg.Name {
		return nil, controller.ProvisioningFinished, &controller.IgnoredError{Reason: "the claim is for another node"}
	}
	dir := f.cfg.path("volumes", o.PVName)
	if err := os.Mkdir(dir, 0o777); err != nil && !os.IsExist(err) {
		return nil, controller.ProvisioningFinished, fmt.Errorf("making a volume: %w", err)
	}
	// Any user of a container may write to it, whatever this process's mask.
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the folder above is the owner's alone
		return nil, controller.ProvisioningFinished, fmt.Errorf("making a volume: %w", err)
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			VolumeMode:                    o.PVC.Spec.VolumeMode,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: o.PVC.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: filepath.Join(volumesDir, o.PVName)}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{f.cfg.Name}}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (f folders) Delete(_ context.Context, pv *corev1.PersistentVolume) error {
	if pv.Spec.Local == nil || filepath.Dir(pv.Spec.Local.Path) != volumesDir {
		return fmt.Errorf("removing the volume %q: it is no folder of this node", pv.Name)
	}
	if err := os.RemoveAll(f.cfg.path("volumes", filepath.Base(pv.Spec.Local.Path))); err != nil {
		return fmt.Errorf("removing a volume: %w", err)
	}
	return nil
}
