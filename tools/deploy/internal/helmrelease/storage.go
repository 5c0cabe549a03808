package helmrelease

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"
)

type resourceInfo = resource.Info

// keep reports whether Helm leaves an object when its release goes.
func keep(manifest string, i *resourceInfo) bool {
	docs, err := documents(manifest)
	if err != nil {
		return false
	}
	for _, d := range docs {
		m, _ := d["metadata"].(map[string]any)
		a, _ := m["annotations"].(map[string]any)
		if d["kind"] == i.Mapping.GroupVersionKind.Kind && m["name"] == i.Name && a[kube.ResourcePolicyAnno] == kube.KeepPolicy {
			return true
		}
	}
	return false
}

// Revision is one revision of a release as it is stored.
type Revision struct {
	Number      int               `json:"revision"`
	Status      string            `json:"status"`
	Pending     bool              `json:"-"`
	Chart       string            `json:"chart"`
	Updated     time.Time         `json:"updated"`
	Description string            `json:"description"`
	Annotations map[string]string `json:"-"` // of its chart
	Manifest    string            `json:"-"`
}

// State is what is stored of a release: nil where there is none.
type State struct {
	Last     *Revision
	Deployed *Revision // the last that was ready
}

// Read returns what is stored of a release.
func (c *Client) Read(ctx context.Context, namespace, name string) (State, error) {
	cfg, _, err := c.helm(ctx, namespace, Wait{})
	if err != nil {
		return State{}, err
	}
	history, err := cfg.Releases.History(name)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return State{}, fmt.Errorf("reading release %q: %w", name, denied(err))
	}
	var s State
	for _, rel := range history {
		r := revisionOf(rel)
		if s.Last == nil || r.Number > s.Last.Number {
			s.Last = r
		}
		if rel.Info.Status == release.StatusDeployed && (s.Deployed == nil || r.Number > s.Deployed.Number) {
			s.Deployed = r
		}
	}
	return s, nil
}

func revisionOf(rel *release.Release) *Revision {
	r := &Revision{Number: rel.Version, Status: string(rel.Info.Status), Pending: rel.Info.Status.IsPending(),
		Updated: rel.Info.LastDeployed.Time, Description: rel.Info.Description, Manifest: manifestOf(rel)}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		r.Chart = rel.Chart.Metadata.Name + "-" + rel.Chart.Metadata.Version
		r.Annotations = rel.Chart.Metadata.Annotations
	}
	return r
}

// MarkFailed ends a pending revision that nobody works on any more. The write
// names the version that was read, so that it cannot hit a live owner's.
func (c *Client) MarkFailed(ctx context.Context, namespace, name string, revision int, why string) error {
	secrets := c.cluster.Clientset().CoreV1().Secrets(namespace)
	key := fmt.Sprintf("sh.helm.release.v1.%s.v%d", name, revision)
	secret, err := secrets.Get(ctx, key, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the record of revision %d of %q: %w", revision, name, err)
	}
	rel, err := decode(secret.Data["release"])
	if err != nil {
		return fmt.Errorf("reading the record of revision %d of %q: %w", revision, name, err)
	}
	if !rel.Info.Status.IsPending() {
		return nil
	}
	rel.Info.Status, rel.Info.Description = release.StatusFailed, why
	if secret.Data["release"], err = encode(rel); err != nil {
		return fmt.Errorf("writing the record of revision %d of %q: %w", revision, name, err)
	}
	secret.Labels["status"] = string(release.StatusFailed)
	secret.Labels["modifiedAt"] = strconv.FormatInt(time.Now().Unix(), 10)
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("marking revision %d of %q as failed: %w", revision, name, err)
	}
	return nil
}

// decode reads a record: base64 of gzipped JSON, as Helm's driver writes it.
func decode(data []byte) (*release.Release, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b, 0x08}) {
		gz, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		if raw, err = io.ReadAll(gz); err != nil {
			return nil, err
		}
	}
	var rel release.Release
	if err := json.Unmarshal(raw, &rel); err != nil {
		return nil, err
	}
	if rel.Info == nil {
		return nil, errors.New("the record has no state")
	}
	return &rel, nil
}

func encode(rel *release.Release) ([]byte, error) {
	raw, err := json.Marshal(rel)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	if _, err := gz.Write(raw); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	return []byte(base64.StdEncoding.EncodeToString(out.Bytes())), nil
}
