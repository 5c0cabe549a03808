package artifact

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/json" // as the API server reads: hostnetwork is not hostNetwork
)

// Limits of what is read. A backup comes out of a bucket that others can write
// to: a small file that unpacks into a disk full must end the reading.
const (
	maxUnpacked = 8 << 30  // of one file, unpacked
	maxJSON     = 64 << 20 // of one file that is decoded as a whole, into memory
	maxEntry    = 32 << 20 // of one object; etcd takes 1.5 MiB
	maxEntries  = 2_000_000
)

// Key names an object of a backup as Velero's archive does.
type Key struct {
	Resource  string `json:"resource"` // deployments.apps, or secrets
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String returns the key for people: deployments.apps orders-dev/orders.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Resource + " " + k.Name
	}
	return k.Resource + " " + k.Namespace + "/" + k.Name
}

// Item is what we keep of an object in the archive.
type Item struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		// A Service's type may also be an object in a kind of somebody's own.
		Type          any       `json:"type"`
		ReclaimPolicy any       `json:"persistentVolumeReclaimPolicy"` // PersistentVolume
		ClaimRef      *ClaimRef `json:"claimRef"`                      // PersistentVolume
		ExternalIPs   any       `json:"externalIPs"`                   // Service
	} `json:"spec"`
	Pod *PodSpec `json:"-"` // of a pod, or of the pods that a workload makes
}

// PodSpec is what ties a pod to its node.
type PodSpec struct {
	HostNetwork bool `json:"hostNetwork"`
	HostPID     bool `json:"hostPID"`
	HostIPC     bool `json:"hostIPC"`
	Volumes     []struct {
		Name     string `json:"name"`
		HostPath *struct {
			Path string `json:"path"`
		} `json:"hostPath"`
	} `json:"volumes"`
	Containers          []Container `json:"containers"`
	InitContainers      []Container `json:"initContainers"`
	EphemeralContainers []Container `json:"ephemeralContainers"`
}

// Container is what we keep of a container.
type Container struct {
	Name  string `json:"name"`
	Ports []struct {
		HostPort int32 `json:"hostPort"`
	} `json:"ports"`
}

// podOf reads the pods of an object, where its kind has some.
func podOf(resource string, raw []byte) (*PodSpec, error) {
	switch resource {
	case "pods":
		var pod struct {
			Spec PodSpec `json:"spec"`
		}
		err := json.Unmarshal(raw, &pod)
		return &pod.Spec, err
	case "deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps", "replicationcontrollers", "jobs.batch":
		var workload struct {
			Spec struct {
				Template struct {
					Spec PodSpec `json:"spec"`
				} `json:"template"`
			} `json:"spec"`
		}
		err := json.Unmarshal(raw, &workload)
		return &workload.Spec.Template.Spec, err
	}
	return nil, nil
}

// ClaimRef is the claim that a volume belongs to.
type ClaimRef struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// readTar reads the archive of a backup to its end. Every object is decoded,
// and must be the one that its path names. What is wrong with single entries
// is returned beside the objects; err says that the archive cannot be read on.
func readTar(r io.Reader) (items map[Key]Item, problems []string, err error) {
	items = map[Key]Item{}
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return items, problems, nil
		}
		if err != nil {
			return items, problems, fmt.Errorf("reading the archive after %d entries: %w", n, err)
		}
		if n >= maxEntries {
			return items, problems, fmt.Errorf("reading the archive: it has more than %d entries", maxEntries)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxEntry || !clean(h.Name) {
			problems = append(problems, fmt.Sprintf("entry %.200q (type %q, %d bytes) does not belong into a backup", h.Name, h.Typeflag, h.Size))
			continue
		}
		raw, err := io.ReadAll(tr)
		if err != nil {
			return items, problems, fmt.Errorf("reading %.200q of the archive: %w", h.Name, err)
		}
		if problem := keep(items, h.Name, raw); problem != "" {
			problems = append(problems, problem)
		}
	}
}

// clean reports whether a path stays where it is.
func clean(name string) bool {
	return name != "" && path.Clean(name) == name && !path.IsAbs(name) && name != ".." && !strings.HasPrefix(name, "../") && !strings.Contains(name, "\\")
}

// keep notes the object of an entry, or says what is wrong with it.
func keep(items map[Key]Item, name string, raw []byte) (problem string) {
	if strings.HasPrefix(name, "metadata/") {
		if name == "metadata/version" && len(bytes.TrimSpace(raw)) == 0 {
			return "metadata/version is empty"
		}
		return ""
	}
	key, versioned, ok := keyOf(name)
	if !ok {
		return fmt.Sprintf("entry %.200q is at no place of an object", name)
	}
	var item Item
	if err := json.Unmarshal(raw, &item); err != nil {
		return fmt.Sprintf("%s is no JSON object: %v", key, err)
	}
	if item.Kind == "" || item.APIVersion == "" || item.Metadata.Name != key.Name || item.Metadata.Namespace != key.Namespace {
		return fmt.Sprintf("%s holds the %s %q of namespace %q", key, item.Kind, item.Metadata.Name, item.Metadata.Namespace)
	}
	if versioned {
		return ""
	}
	pod, err := podOf(key.Resource, raw)
	if err != nil {
		return fmt.Sprintf("%s has no pods that can be read: %v", key, err)
	}
	item.Pod = pod
	items[key] = item.little(key.Resource)
	return ""
}

// little leaves out what nobody looks at, so that a large archive costs little
// memory: annotations such as kubectl's hold whole objects.
func (i Item) little(resource string) Item {
	unused := func(name, _ string) bool {
		return name != batchv1.JobNameLabel && name != "eks.amazonaws.com/role-arn" &&
			!strings.HasPrefix(name, "pod-security.kubernetes.io/") && !strings.HasPrefix(name, "external-dns.")
	}
	maps.DeleteFunc(i.Metadata.Labels, unused)
	maps.DeleteFunc(i.Metadata.Annotations, unused)
	if resource != "services" && resource != "persistentvolumes" {
		i.Spec = Item{}.Spec
	}
	return i
}

// keyOf reads resources/<resource>/[<version>/]namespaces/<ns>/<name>.json and
// resources/<resource>/[<version>/]cluster/<name>.json. Velero writes each
// object twice; the copy under a version is read, and not counted.
func keyOf(name string) (key Key, versioned, ok bool) {
	rest, ok := strings.CutPrefix(name, "resources/")
	if !ok {
		return key, false, false
	}
	rest, ok = strings.CutSuffix(rest, ".json")
	if !ok {
		return key, false, false
	}
	parts := strings.Split(rest, "/")
	if len(parts) > 2 && parts[1] != "namespaces" && parts[1] != "cluster" {
		versioned = true
		parts = append(parts[:1], parts[2:]...)
	}
	switch {
	case len(parts) == 4 && parts[1] == "namespaces":
		return Key{Resource: parts[0], Namespace: parts[2], Name: parts[3]}, versioned, true
	case len(parts) == 3 && parts[1] == "cluster":
		return Key{Resource: parts[0], Name: parts[2]}, versioned, true
	}
	return key, false, false
}
