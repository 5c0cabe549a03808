package kube

import (
	"context"
	"io"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Getter has the methods that Helm and kubectl's libraries ask for (their
// genericclioptions.RESTClientGetter), over the cluster's shared parts.
type Getter struct {
	cluster *Cluster
	ctx     context.Context //nolint:containedctx // the libraries above have no context of their own
}

// RESTClientGetter returns a getter whose every request ends with ctx. The
// libraries that use it go on working after their own cancellation; with this
// none of their calls gets through any more.
func (c *Cluster) RESTClientGetter(ctx context.Context) *Getter {
	return &Getter{cluster: c, ctx: ctx}
}

// ToRESTConfig returns a copy each time: kubectl's factory writes into it, and
// several releases at once would write into each other's.
func (g *Getter) ToRESTConfig() (*rest.Config, error) {
	rc := g.cluster.REST()
	rc.Wrap(func(next http.RoundTripper) http.RoundTripper { return &bound{next: next, ctx: g.ctx} })
	return rc, nil
}

// ToDiscoveryClient returns the cluster's discovery.
func (g *Getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.cluster.Discovery()
}

// ToRESTMapper returns the cluster's mapper.
func (g *Getter) ToRESTMapper() (meta.RESTMapper, error) { return g.cluster.Mapper() }

// ToRawKubeConfigLoader returns the kubeconfig, for the default namespace.
func (g *Getter) ToRawKubeConfigLoader() clientcmd.ClientConfig { return g.cluster.raw }

// bound ends requests together with a context that they do not carry.
type bound struct {
	next http.RoundTripper
	ctx  context.Context //nolint:containedctx // see Getter
}

// RoundTrip sends the request under both contexts.
func (b *bound) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := b.ctx.Err(); err != nil {
		return nil, context.Cause(b.ctx)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(b.ctx, func() { cancel(context.Cause(b.ctx)) })
	end := func() { stop(); cancel(nil) }
	resp, err := b.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		end()
		return nil, err
	}
	resp.Body = &body{ReadCloser: resp.Body, end: end}
	return resp, nil
}

// body frees what holds the contexts together when the answer has been read.
type body struct {
	io.ReadCloser
	end func()
}

// Close closes the answer.
func (b *body) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

func emptyKubeconfig(endpoint string, ca []byte) *api.Config {
	c := api.NewConfig()
	c.Clusters["cluster"] = &api.Cluster{Server: endpoint, CertificateAuthorityData: ca}
	c.Contexts["cluster"] = &api.Context{Cluster: "cluster"}
	c.CurrentContext = "cluster"
	return c
}
