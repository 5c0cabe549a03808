package helmrelease

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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

	record *record
}

// stored is a revision as the labels of its Secret tell of it.
type stored struct {
	secret string
	number int
	status string
}

// State is what is stored of a release: nil where there is none.
type State struct {
	Last     *Revision
	Deployed *Revision // the last that was ready

	list []stored // all revisions, the newest first
}

// Same reports whether nothing was written to the release's records between
// the two readings.
func (s State) Same(o State) bool {
	return slices.Equal(s.list, o.list) && s.Last.written() == o.Last.written() && s.Deployed.written() == o.Deployed.written()
}

func (r *Revision) written() string {
	if r == nil || r.record == nil {
		return ""
	}
	return r.record.secret.ResourceVersion
}

// Read returns what is stored of a release. It lists labels, and unpacks no
// more than the records it speaks of.
func (c *Client) Read(ctx context.Context, namespace, name string) (State, error) {
	list, err := c.records(ctx, namespace, name)
	if err != nil || len(list) == 0 {
		return State{}, err
	}
	s := State{list: list}
	if s.Last, err = c.revision(ctx, namespace, name, list[0].number); err != nil {
		return State{}, err
	}
	switch i := slices.IndexFunc(list, stored.deployed); {
	case i == 0:
		s.Deployed = s.Last
	case i > 0:
		s.Deployed, err = c.revision(ctx, namespace, name, list[i].number)
	}
	return s, err
}

func (s stored) deployed() bool { return s.status == string(release.StatusDeployed) }

// records lists what is stored of a release, the newest first. Only metadata
// is asked for: a record holds a whole chart.
func (c *Client) records(ctx context.Context, namespace, name string) ([]stored, error) {
	raw, err := c.cluster.Clientset().CoreV1().RESTClient().Get().Namespace(namespace).Resource("secrets").
		Param("labelSelector", labels.Set{"owner": "helm", "name": name}.String()).
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").Do(ctx).Raw()
	var list metav1.PartialObjectMetadataList
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("reading release %q: %w", name, denied(err))
	}
	var out []stored
	for _, item := range list.Items {
		if n, err := strconv.Atoi(item.Labels["version"]); err == nil {
			out = append(out, stored{item.Name, n, item.Labels["status"]})
		}
	}
	slices.SortFunc(out, func(a, b stored) int { return cmp.Compare(b.number, a.number) })
	return out, nil
}

func (c *Client) revision(ctx context.Context, namespace, name string, number int) (*Revision, error) {
	r, err := c.load(ctx, namespace, name, number)
	if err != nil {
		return nil, err
	}
	rev := revisionOf(r.rel)
	rev.record = r
	return rev, nil
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
	gz, err := gzip.NewWriterLevel(&out, gzip.BestCompression) // as Helm does: a record has a limit
	if err != nil {
		return nil, err
	}
	if _, err := gz.Write(raw); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	return []byte(base64.StdEncoding.EncodeToString(out.Bytes())), nil
}
