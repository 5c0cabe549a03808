package helmrelease

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	helmtime "helm.sh/helm/v3/pkg/time"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/scheme"
)

// stored is a revision as the labels of its Secret tell of it.
type stored struct {
	secret  string
	number  int
	status  string
	version string // of the Secret
}

func (s stored) deployed() bool { return s.status == string(release.StatusDeployed) }

// Read returns what is stored of a release. It lists labels, and unpacks no
// more than the records it speaks of.
func (c *Client) Read(ctx context.Context, namespace, name string) (State, error) {
	return (&Index{selector: selector(name)}).read(ctx, c, namespace, name)
}

// Reread returns what is stored of a release whose state was read a moment ago.
// It lists nothing where nobody has written since.
func (c *Client) Reread(ctx context.Context, namespace, name string, was State) (State, error) {
	if was.Last != nil {
		last, err := c.cluster.Clientset().CoreV1().Secrets(namespace).Get(ctx, recordName(name, was.Last.Number), metav1.GetOptions{})
		if err != nil || last.ResourceVersion != was.Last.written() {
			return c.Read(ctx, namespace, name) // which tells an error as well
		}
	}
	if newest, err := c.newest(ctx, namespace, name, was); err != nil || !newest {
		return c.Read(ctx, namespace, name)
	}
	return was, nil
}

// newest reports whether a state's last revision is the last one. Revisions have
// numbers in a row, and whoever works on a release writes to its last one or
// makes the next.
func (c *Client) newest(ctx context.Context, namespace, name string, s State) (bool, error) {
	next := 1
	if s.Last != nil {
		next = s.Last.Number + 1
	}
	_, err := c.cluster.Clientset().CoreV1().Secrets(namespace).Get(ctx, recordName(name, next), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}

// Stored returns one revision as it is stored.
func (c *Client) Stored(ctx context.Context, namespace, name string, number int) (*Revision, error) {
	return c.revision(ctx, namespace, name, number)
}

// state reads the records that count of those that are listed.
func (c *Client) state(ctx context.Context, namespace, name string, list []stored) (s State, err error) {
	if len(list) == 0 {
		return State{}, nil
	}
	s = State{list: list, Ever: slices.ContainsFunc(list, func(r stored) bool {
		return r.deployed() || r.status == string(release.StatusSuperseded)
	})}
	if s.Last, err = c.revision(ctx, namespace, name, list[0].number); err != nil {
		return State{}, err
	}
	if i := slices.IndexFunc(list, stored.deployed); i == 0 {
		s.Deployed = s.Last
		return s, nil
	} else if i > 0 {
		s.Deployed, err = c.revision(ctx, namespace, name, list[i].number)
		return s, err
	}
	// A run that died while it wrote, or a rollback that failed, leaves none
	// that is called deployed.
	for _, r := range list[1:] {
		if r.status != string(release.StatusSuperseded) {
			continue
		}
		rev, err := c.revision(ctx, namespace, name, r.number)
		if err != nil {
			c.warn("%v", err)
			continue
		}
		if rev.WasReady() {
			s.Deployed = rev
			break
		}
	}
	return s, nil
}

// records lists what is stored of a release, the newest first.
func (c *Client) records(ctx context.Context, namespace, name string) ([]stored, error) {
	return recordsOf(namespace, name, (&Index{selector: selector(name)}).of(ctx, c, namespace).fresh)
}

// list lists the labels of records, by release.
func (c *Client) list(ctx context.Context, namespace string, o metav1.ListOptions) (map[string][]metav1.PartialObjectMetadata, error) {
	var list metav1.PartialObjectMetadataList
	result := c.cluster.Clientset().CoreV1().RESTClient().Get().Namespace(namespace).Resource("secrets").
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").
		VersionedParams(&o, scheme.ParameterCodec).Do(ctx)
	err := result.Error() // Raw does not read what the server says of a refusal
	if err == nil {
		var raw []byte
		if raw, err = result.Raw(); err == nil {
			err = json.Unmarshal(raw, &list)
		}
	}
	out := map[string][]metav1.PartialObjectMetadata{}
	for _, item := range list.Items {
		out[item.Labels["name"]] = append(out[item.Labels["name"]], item)
	}
	return out, denied(err)
}

func recordsOf(namespace, name string, get func() (map[string][]metav1.PartialObjectMetadata, error)) ([]stored, error) {
	by, err := get()
	if err != nil {
		return nil, fmt.Errorf("reading release %q: %w", name, err)
	}
	out := make([]stored, 0, len(by[name]))
	for _, item := range by[name] {
		number, err := strconv.Atoi(item.Labels["version"])
		if err != nil || number < 1 || item.Name != recordName(name, number) {
			return nil, broken(namespace, item.Name, name, number, fmt.Errorf("its Secret %q has version %q in its labels", item.Name, item.Labels["version"]))
		}
		out = append(out, stored{item.Name, number, item.Labels["status"], item.ResourceVersion})
	}
	slices.SortFunc(out, func(a, b stored) int { return cmp.Compare(b.number, a.number) })
	return out, nil
}

// Index is what is stored in the namespaces it is asked for, of one release or,
// for a set, of all. A list that must be up to date is dear: a server that answers
// from its cache waits for up to 100 ms until etcd has told it that the cache is
// (k8s.io/apiserver/pkg/storage/cacher/progress). So it takes the cache as it is
// and asks by get, which waits for nothing, whether anything came after that.
type Index struct {
	selector string

	mu    sync.Mutex
	lists map[string]*lists
}

// lists are those of one namespace, each made once.
type lists struct {
	cached, fresh func() (map[string][]metav1.PartialObjectMetadata, error)
}

// NewIndex returns an index of all releases.
func NewIndex() *Index { return &Index{selector: labels.Set{"owner": "helm"}.String()} }

func (x *Index) of(ctx context.Context, c *Client, namespace string) *lists {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lists == nil {
		x.lists = map[string]*lists{}
	}
	l := x.lists[namespace]
	if l == nil {
		list := func(version string) func() (map[string][]metav1.PartialObjectMetadata, error) {
			return sync.OnceValues(func() (map[string][]metav1.PartialObjectMetadata, error) {
				return c.list(ctx, namespace, metav1.ListOptions{LabelSelector: x.selector, ResourceVersion: version})
			})
		}
		l = &lists{cached: list("0"), fresh: list("")}
		x.lists[namespace] = l
	}
	return l
}

func (x *Index) read(ctx context.Context, c *Client, namespace, name string) (State, error) {
	l := x.of(ctx, c, namespace)
	if s, ok := c.current(ctx, namespace, name, l.cached); ok {
		return s, nil
	}
	list, err := recordsOf(namespace, name, l.fresh)
	if err != nil {
		return State{}, err
	}
	return c.state(ctx, namespace, name, list)
}

// current returns the state of a release by a list that may be old, where it is
// seen to be what is stored now.
func (c *Client) current(ctx context.Context, namespace, name string, cached func() (map[string][]metav1.PartialObjectMetadata, error)) (State, bool) {
	list, err := recordsOf(namespace, name, cached)
	if err != nil {
		return State{}, false
	}
	if len(list) == 0 { // of what was never there a get can tell nothing: its first revisions may be pruned
		_, err := c.cluster.Clientset().CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		return State{}, apierrors.IsNotFound(err)
	}
	s, err := c.state(ctx, namespace, name, list)
	if err != nil || s.Last.written() != list[0].version {
		return State{}, false
	}
	newest, err := c.newest(ctx, namespace, name, s)
	return s, err == nil && newest
}

func selector(name string) string {
	return labels.Set{"owner": "helm", "name": name}.String()
}

// load reads one record.
func (c *Client) load(ctx context.Context, namespace, name string, number int) (*record, error) {
	secret, err := c.cluster.Clientset().CoreV1().Secrets(namespace).Get(ctx, recordName(name, number), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the record of revision %d of release %q: %w", number, name, denied(err))
	}
	rel, err := decode(secret)
	if err != nil {
		return nil, broken(namespace, secret.Name, name, number, err)
	}
	rel.Labels = map[string]string{}
	for k, v := range secret.Labels {
		if !slices.Contains(driver.GetSystemLabels(), k) {
			rel.Labels[k] = v
		}
	}
	return &record{rel: rel, secret: secret, foreign: true}, nil
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

// History returns the stored revisions, the oldest first, without their
// manifests. One whose record cannot be read has the status Unreadable.
func (c *Client) History(ctx context.Context, namespace, name string) ([]Revision, error) {
	list, err := c.cluster.Clientset().CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector(name)})
	if err != nil {
		return nil, fmt.Errorf("reading the history of release %q: %w", name, denied(err))
	}
	out := make([]Revision, 0, len(list.Items))
	for i := range list.Items {
		s := &list.Items[i]
		number, _ := strconv.Atoi(s.Labels["version"])
		r, err := glance(s)
		if err != nil {
			r = Revision{Number: number, Status: Unreadable, Description: broken(namespace, s.Name, name, number, err).Error()}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Revision) int { return cmp.Compare(a.Number, b.Number) })
	return out, nil
}

func glance(s *corev1.Secret) (Revision, error) {
	raw, err := unpack(s)
	if err != nil {
		return Revision{}, err
	}
	var f fields
	if err := json.Unmarshal(raw, &f); err != nil {
		return Revision{}, err
	}
	if f.Info == nil {
		return Revision{}, fmt.Errorf("it has no state")
	}
	if err := matches(s, f.Name, f.Version); err != nil {
		return Revision{}, err
	}
	var updated helmtime.Time
	if len(f.Info.LastDeployed) > 0 {
		if err := updated.UnmarshalJSON(f.Info.LastDeployed); err != nil {
			return Revision{}, err
		}
	}
	return Revision{Number: f.Version, Status: string(f.Info.Status), Pending: pending(f.Info.Status), Updated: updated.Time,
		Chart: f.Chart.Metadata.Name + "-" + f.Chart.Metadata.Version, Description: f.Info.Description, Annotations: f.Chart.Metadata.Annotations}, nil
}

// MarkFailed ends a pending revision that nobody works on any more. The write
// names the version that was read, so that it cannot hit a live owner's.
func (c *Client) MarkFailed(ctx context.Context, namespace, name string, revision int, why string) error {
	r, err := c.load(ctx, namespace, name, revision)
	if err != nil || !pending(r.rel.Info.Status) {
		return err
	}
	secret := r.secret
	raw, err := unpack(secret)
	if err == nil {
		raw, err = ended(raw, release.StatusFailed, why)
	}
	if err == nil {
		secret.Data["release"], err = pack(raw)
	}
	if err != nil {
		return fmt.Errorf("writing the record of revision %d of %q: %w", revision, name, err)
	}
	secret.Labels["status"] = string(release.StatusFailed)
	secret.Labels["modifiedAt"] = strconv.FormatInt(time.Now().Unix(), 10)
	if _, err := c.cluster.Clientset().CoreV1().Secrets(namespace).Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("marking revision %d of %q as failed: %w", revision, name, denied(err))
	}
	return nil
}
