// Package velero speaks to a Velero server through its objects. The types are
// our own and hold what we read and write: Velero's module pins another
// Kubernetes than ours.
package velero

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Phases of backups and restores.
const (
	Completed        = "Completed"
	PartiallyFailed  = "PartiallyFailed"
	Failed           = "Failed"
	FailedValidation = "FailedValidation"
	Deleting         = "Deleting"
)

// Ended reports whether a phase is a last one.
func Ended(phase string) bool {
	switch phase {
	case Completed, PartiallyFailed, Failed, FailedValidation, Deleting:
		return true
	}
	return false
}

// Meta is what we use of an object's metadata.
type Meta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
	UID         string            `json:"uid,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Backup is a backup.
type Backup struct {
	Meta   Meta         `json:"metadata"`
	Spec   BackupSpec   `json:"spec"`
	Status BackupStatus `json:"status,omitzero"`
}

// Newest returns the newest good backup of a list, or nil, and the names of the
// newer ones that ended otherwise, the newest first. Names do not count, and an
// expired backup may be half gone.
func Newest(list []Backup, now time.Time) (newest *Backup, worse []string) {
	byStart := slices.Clone(list)
	slices.SortFunc(byStart, func(a, b Backup) int { return started(b).Compare(started(a)) })
	for i, b := range byStart {
		if b.Status.Expiration != nil && !b.Status.Expiration.After(now) {
			continue
		}
		if b.Status.Phase == Completed && b.Status.StartTimestamp != nil {
			return &byStart[i], worse
		}
		if Ended(b.Status.Phase) {
			worse = append(worse, b.Meta.Name)
		}
	}
	return nil, worse
}

func started(b Backup) time.Time {
	if b.Status.StartTimestamp == nil {
		return time.Time{}
	}
	return b.Status.StartTimestamp.Time
}

// BackupSpec says what is backed up, and how.
type BackupSpec struct {
	IncludedNamespaces       []string `json:"includedNamespaces"`
	StorageLocation          string   `json:"storageLocation,omitempty"`
	TTL                      string   `json:"ttl,omitempty"`
	SnapshotVolumes          *bool    `json:"snapshotVolumes,omitempty"`
	SnapshotMoveData         *bool    `json:"snapshotMoveData,omitempty"`
	DefaultVolumesToFsBackup *bool    `json:"defaultVolumesToFsBackup,omitempty"`
}

// BackupStatus is how far a backup is, and how it ended.
type BackupStatus struct {
	Phase               string       `json:"phase,omitempty"`
	ValidationErrors    []string     `json:"validationErrors,omitempty"`
	FailureReason       string       `json:"failureReason,omitempty"`
	StartTimestamp      *metav1.Time `json:"startTimestamp,omitempty"`
	CompletionTimestamp *metav1.Time `json:"completionTimestamp,omitempty"`
	Expiration          *metav1.Time `json:"expiration,omitempty"`
	QueuePosition       int          `json:"queuePosition,omitempty"`
	Warnings            int          `json:"warnings,omitempty"`
	Errors              int          `json:"errors,omitempty"`
	Progress            struct {
		TotalItems    int `json:"totalItems,omitempty"`
		ItemsBackedUp int `json:"itemsBackedUp,omitempty"`
	} `json:"progress,omitzero"`
}

// Restore is a restore.
type Restore struct {
	Meta   Meta          `json:"metadata"`
	Spec   RestoreSpec   `json:"spec"`
	Status RestoreStatus `json:"status,omitzero"`
}

// RestoreSpec says what is restored, and to where.
type RestoreSpec struct {
	BackupName         string                `json:"backupName"`
	IncludedNamespaces []string              `json:"includedNamespaces"`
	NamespaceMapping   map[string]string     `json:"namespaceMapping,omitempty"`
	ExcludedResources  []string              `json:"excludedResources,omitempty"`
	LabelSelector      *metav1.LabelSelector `json:"labelSelector,omitempty"`
	PreserveNodePorts  *bool                 `json:"preserveNodePorts,omitempty"`
}

// RestoreStatus is how far a restore is, and how it ended.
type RestoreStatus struct {
	Phase               string       `json:"phase,omitempty"`
	ValidationErrors    []string     `json:"validationErrors,omitempty"`
	FailureReason       string       `json:"failureReason,omitempty"`
	StartTimestamp      *metav1.Time `json:"startTimestamp,omitempty"`
	CompletionTimestamp *metav1.Time `json:"completionTimestamp,omitempty"`
	Warnings            int          `json:"warnings,omitempty"`
	Errors              int          `json:"errors,omitempty"`
	Progress            struct {
		TotalItems    int `json:"totalItems,omitempty"`
		ItemsRestored int `json:"itemsRestored,omitempty"`
	} `json:"progress,omitzero"`
}

// Location is a BackupStorageLocation.
type Location struct {
	Meta Meta `json:"metadata"`
	Spec struct {
		Provider      string `json:"provider"`
		Default       bool   `json:"default"`
		AccessMode    string `json:"accessMode"`
		ObjectStorage struct {
			Bucket string `json:"bucket"`
			Prefix string `json:"prefix"`
		} `json:"objectStorage"`
		Config map[string]string `json:"config"`
	} `json:"spec"`
	Status struct {
		Phase              string       `json:"phase"`
		Message            string       `json:"message"`
		LastValidationTime *metav1.Time `json:"lastValidationTime"`
	} `json:"status"`
}

// VolumeInfo is what Velero writes down of each volume of a backup.
type VolumeInfo struct {
	PVCName        string       `json:"pvcName"`
	PVCNamespace   string       `json:"pvcNamespace"`
	PVName         string       `json:"pvName"`
	BackupMethod   string       `json:"backupMethod"`
	Skipped        bool         `json:"skipped"`
	SkippedReason  string       `json:"skippedReason"`
	StartTimestamp *metav1.Time `json:"startTimestamp"`
	Result         string       `json:"result"`
}

// Results are the errors and warnings of a backup or restore.
type Results struct {
	Errors   Messages `json:"errors"`
	Warnings Messages `json:"warnings"`
}

// Messages are grouped by where they come from.
type Messages struct {
	Velero     []string            `json:"velero"`
	Cluster    []string            `json:"cluster"`
	Namespaces map[string][]string `json:"namespaces"`
}

func serverStatusRequests() schema.GroupVersionResource { return resource("serverstatusrequests") }
func locations() schema.GroupVersionResource            { return resource("backupstoragelocations") }
func backups() schema.GroupVersionResource              { return resource("backups") }
func restores() schema.GroupVersionResource             { return resource("restores") }

func resource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "velero.io", Version: "v1", Resource: name}
}

// read turns an object into one of our types.
func read(u *unstructured.Unstructured, v any) error {
	raw, err := u.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("reading %s %q: %w", u.GetKind(), u.GetName(), err)
	}
	return nil
}

// write turns one of our types into an object of a kind.
func write(kind string, v any) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("writing the %s: %w", kind, err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &u.Object); err != nil {
		return nil, fmt.Errorf("writing the %s: %w", kind, err)
	}
	u.SetAPIVersion("velero.io/v1")
	u.SetKind(kind)
	return u, nil
}
