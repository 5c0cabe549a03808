// Package kube is access to one Kubernetes cluster: a single configuration
// without client-side rate limits, one discovery, one mapper and one watch
// helper, shared by everything that a run does there.
package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// Config says how to reach a cluster: by endpoint, authority and token, or by
// a kubeconfig file and one of its contexts.
type Config struct {
	Endpoint string
	CA       []byte // PEM
	// Token returns a bearer token and when it must be renewed. It is asked
	// again shortly before that moment.
	Token func(ctx context.Context) (token string, expiry time.Time, err error)

	Kubeconfig string // path; used where Endpoint is empty
	Context    string // context of the kubeconfig; its current one where empty

	UserAgent string
	// Warn gets the server's warnings, each text once. Nil drops them.
	Warn func(text string)
}

// Cluster is access to one cluster. It is safe for concurrent use.
type Cluster struct {
	config    *rest.Config
	raw       clientcmd.ClientConfig
	dynamic   *dynamic.DynamicClient
	clientset *kubernetes.Clientset

	mu        sync.Mutex
	discovery *frozen
	mapper    *sharedMapper
}

// New returns access to the cluster. No call is made before the first use.
func New(cfg Config) (*Cluster, error) {
	rc, raw, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	// The server's own fairness rules are the limit; a second limiter in the
	// client only makes a run slow without a word.
	rc.QPS = -1
	rc.UserAgent = cfg.UserAgent
	if rc.UserAgent == "" {
		rc.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	rc.WarningHandler = &warnings{tell: cfg.Warn}
	if cfg.Token != nil {
		rc.Wrap((&tokenSource{ask: cfg.Token, now: time.Now}).wrap)
	}
	c := &Cluster{config: rc, raw: raw}
	client, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("making the client of %q: %w", rc.Host, err)
	}
	if c.dynamic, err = dynamic.NewForConfigAndClient(rest.CopyConfig(rc), client); err != nil {
		return nil, fmt.Errorf("making the dynamic client of %q: %w", rc.Host, err)
	}
	if c.clientset, err = kubernetes.NewForConfigAndClient(rest.CopyConfig(rc), client); err != nil {
		return nil, fmt.Errorf("making the client set of %q: %w", rc.Host, err)
	}
	return c, nil
}

func restConfig(cfg Config) (*rest.Config, clientcmd.ClientConfig, error) {
	if cfg.Endpoint != "" {
		rc := &rest.Config{Host: cfg.Endpoint, TLSClientConfig: rest.TLSClientConfig{CAData: cfg.CA}}
		raw := clientcmd.NewDefaultClientConfig(*emptyKubeconfig(cfg.Endpoint, cfg.CA), &clientcmd.ConfigOverrides{})
		return rc, raw, nil
	}
	if cfg.Kubeconfig == "" {
		return nil, nil, errors.New("reaching a cluster: neither an endpoint nor a kubeconfig is given")
	}
	raw := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: cfg.Kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: cfg.Context})
	if err := hasContext(raw, cfg.Context); err != nil {
		return nil, nil, fmt.Errorf("reading kubeconfig %q: %w", cfg.Kubeconfig, err)
	}
	rc, err := raw.ClientConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("reading kubeconfig %q: %w", cfg.Kubeconfig, err)
	}
	return rc, raw, nil
}

// hasContext names the contexts that there are, where the chosen one is not
// among them or none is chosen: GitLab's file has one for each agent, and
// chooses none.
func hasContext(raw clientcmd.ClientConfig, name string) error {
	all, err := raw.RawConfig()
	if err != nil {
		return err
	}
	if name == "" {
		name = all.CurrentContext
	}
	known := slices.Sorted(maps.Keys(all.Contexts))
	switch {
	case all.Contexts[name] != nil:
		return nil
	case name == "":
		return fmt.Errorf("no context is chosen; it has %s", strings.Join(known, ", "))
	}
	return fmt.Errorf("it has no context %q, only %s", name, strings.Join(known, ", "))
}

// Host returns the address of the API server.
func (c *Cluster) Host() string { return c.config.Host }

// REST returns a copy of the configuration: users of one write into it.
func (c *Cluster) REST() *rest.Config { return rest.CopyConfig(c.config) }

// Dynamic returns the client for objects of any kind.
func (c *Cluster) Dynamic() dynamic.Interface { return c.dynamic }

// Clientset returns the typed client of the built-in kinds.
func (c *Cluster) Clientset() kubernetes.Interface { return c.clientset }

// Mapper returns the mapper from kinds to resources. It is built at the first
// use, from one discovery, and changes with Refresh alone.
func (c *Cluster) Mapper() (meta.RESTMapper, error) {
	if err := c.prime(); err != nil {
		return nil, err
	}
	return c.mapper, nil
}

// Discovery returns the cached discovery. Its Invalidate does nothing, since
// libraries call it before each use; Refresh renews it.
func (c *Cluster) Discovery() (discovery.CachedDiscoveryInterface, error) {
	if err := c.prime(); err != nil {
		return nil, err
	}
	return c.discovery, nil
}

// Refresh discovers anew, for after CRDs were applied. Mappers that were
// handed out see what is new as well.
func (c *Cluster) Refresh() error {
	if err := c.prime(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.discovery.CachedDiscoveryInterface.Invalidate()
	return c.discover()
}

func (c *Cluster) prime() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mapper != nil {
		return nil
	}
	c.discovery = &frozen{memory.NewMemCacheClient(c.clientset.Discovery())}
	return c.discover()
}

func (c *Cluster) discover() error {
	groups, err := restmapper.GetAPIGroupResources(c.discovery)
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return fmt.Errorf("discovering the kinds of %q: %w", c.config.Host, err)
	}
	m := restmapper.NewDiscoveryRESTMapper(groups)
	if c.mapper == nil {
		c.mapper = &sharedMapper{}
	}
	c.mapper.now.Store(&m)
	return nil
}

// Resource returns the resource of a kind, and whether it has namespaces.
func (c *Cluster) Resource(gvk schema.GroupVersionKind) (gvr schema.GroupVersionResource, namespaced bool, err error) {
	mapper, err := c.Mapper()
	if err != nil {
		return gvr, false, err
	}
	m, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return gvr, false, fmt.Errorf("finding the resource of kind %s: %w", gvk, err)
	}
	return m.Resource, m.Scope.Name() == meta.RESTScopeNameNamespace, nil
}

// frozen is a discovery that does not forget when a library tells it to.
type frozen struct {
	discovery.CachedDiscoveryInterface
}

// Invalidate does nothing: Refresh is the way.
func (*frozen) Invalidate() {}

// Fresh says that asking again brings nothing new.
func (*frozen) Fresh() bool { return true }
