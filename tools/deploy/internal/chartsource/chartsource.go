// Package chartsource fetches charts from where their files say that they are:
// a folder, a chart repository, or an OCI registry. Everything is kept in
// memory: no cache of a user is read, and nothing is written.
package chartsource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Limits of what is fetched, so that a hostile server costs little.
const (
	maxIndex   = 64 << 20
	maxArchive = 64 << 20
	parallel   = 8
	patience   = 5 * time.Minute
	maxNested  = 6 // folders that need folders
)

// Login is a user name and a password. The empty one asks without.
type Login struct{ User, Password string }

// Loader loads charts, each of them once. It is safe for concurrent use.
type Loader struct {
	login   func(host string) (Login, error)
	client  *http.Client
	indexes memo[*index]
	fetched memo[*archive]
	charts  memo[*helmrelease.Chart]
}

// New returns a loader. login gives the credential for a host of charts.
func New(login func(host string) (Login, error)) *Loader {
	return &Loader{login: login, client: client()}
}

// archive is a packed chart as it was fetched, and what it is known by.
type archive struct {
	raw    []byte
	source string
}

// memo does a piece of work once for each key, also when several ask at once.
type memo[T any] struct {
	mu    sync.Mutex
	calls map[string]func() (T, error)
}

func (m *memo[T]) do(key string, fn func() (T, error)) (T, error) {
	m.mu.Lock()
	if m.calls == nil {
		m.calls = map[string]func() (T, error){}
	}
	call, ok := m.calls[key]
	if !ok {
		call = sync.OnceValues(fn)
		m.calls[key] = call
	}
	m.mu.Unlock()
	return call()
}

// All loads the charts of a set, several at a time, and names everything that
// is wrong with them. root is the folder of the file that names them.
func (l *Loader) All(ctx context.Context, root string, charts []config.Chart) ([]*helmrelease.Chart, error) {
	out, errs := make([]*helmrelease.Chart, len(charts)), make([]error, len(charts))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, c := range charts {
		g.Go(func() error {
			out[i], errs[i] = l.Load(ctx, root, c)
			return nil
		})
	}
	_ = g.Wait() // every error is in errs, so that all of them are told
	return out, join(errs)
}

// join is errors.Join without what several releases of one chart repeat, under
// the code of the first.
func join(errs []error) error {
	var all []error
	seen := map[string]bool{}
	for _, err := range errs {
		if err != nil && !seen[err.Error()] {
			seen[err.Error()] = true
			all = append(all, err)
		}
	}
	if len(all) < 2 {
		return errors.Join(all...)
	}
	return tool.Exit(tool.CodeOf(all[0]), errors.Join(all...), tool.HintsOf(all[0])...)
}

// Load returns a copy of a chart for one release.
func (l *Loader) Load(ctx context.Context, root string, c config.Chart) (*helmrelease.Chart, error) {
	ctx, cancel := tool.Deadline(ctx, patience, "fetching chart "+c.String())
	defer cancel()
	loaded, err := l.charts.do(root+"\x00"+c.String(), func() (*helmrelease.Chart, error) { return l.load(ctx, root, c) })
	if err != nil {
		return nil, err
	}
	return loaded.Copy(), nil
}

func (l *Loader) load(ctx context.Context, root string, c config.Chart) (*helmrelease.Chart, error) {
	if c.Path != "" {
		loaded, err := l.folder(ctx, root, filepath.Join(root, filepath.FromSlash(c.Path)), 0)
		if err != nil {
			return nil, err
		}
		return loaded, loaded.From(c.Path)
	}
	got, err := l.remote(ctx, c)
	if err != nil {
		return nil, err
	}
	loaded, err := helmrelease.LoadArchive(got.raw, c.String())
	if err != nil {
		return nil, err
	}
	if c.Name != "" && loaded.Name() != c.Name {
		return nil, tool.Exitf(tool.Usage, "loading chart %q: the archive holds chart %q", c, loaded.Name())
	}
	if c.OCI != "" && c.Version != "" && loaded.Version() != c.Version {
		return nil, tool.Exitf(tool.Usage, "loading chart %q: the digest is of version %s", c, loaded.Version())
	}
	return loaded, loaded.From(got.source)
}

// remote fetches what a repository or a registry has.
func (l *Loader) remote(ctx context.Context, c config.Chart) (*archive, error) {
	return l.fetched.do(c.String(), func() (*archive, error) {
		if c.OCI != "" {
			return l.registry(ctx, strings.TrimPrefix(c.OCI, "oci://"), c.Version, c.Digest)
		}
		return l.repository(ctx, c)
	})
}

// folder loads a folder's chart and what its lock names.
func (l *Loader) folder(ctx context.Context, root, dir string, depth int) (*helmrelease.Chart, error) {
	if depth > maxNested {
		return nil, tool.Exitf(tool.Usage, "loading chart %q: charts need each other in a circle, or too deep", filepath.Base(dir))
	}
	loaded, err := helmrelease.LoadDir(root, dir)
	if err != nil {
		return nil, err
	}
	missing, err := loaded.Missing()
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	g.SetLimit(parallel)
	for i := range missing {
		g.Go(func() (err error) {
			missing[i].Raw, err = l.dependency(ctx, root, dir, missing[i], depth)
			if err != nil {
				return fmt.Errorf("fetching dependency %s %s of chart %q: %w", missing[i].Name, missing[i].Version, loaded.Name(), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return loaded.With(missing)
}

// dependency returns the archive of a chart that a lock names.
func (l *Loader) dependency(ctx context.Context, root, dir string, d helmrelease.Dependency, depth int) ([]byte, error) {
	var got *helmrelease.Chart
	switch repo := d.Repository; {
	case strings.HasPrefix(repo, "file://"):
		place := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(repo, "file://")))
		rel, err := filepath.Rel(root, place)
		if err != nil || !filepath.IsLocal(rel) {
			return nil, tool.Exit(tool.Usage, fmt.Errorf("%q leads out of the file's folder", repo), "dependencies from folders lie below the folder of slipway.yaml or releases.yaml")
		}
		if got, err = l.folder(ctx, root, place, depth+1); err != nil {
			return nil, err
		}
	case strings.HasPrefix(repo, "@"), strings.HasPrefix(repo, "alias:"):
		return nil, tool.Exit(tool.Usage, fmt.Errorf("%q is a name that only the machine knows which made the lock", repo), "write the repository's address into Chart.yaml, and renew the lock")
	default:
		c := config.Chart{Repo: repo, Name: d.Name, Version: d.Version}
		if strings.HasPrefix(repo, "oci://") {
			c = config.Chart{OCI: strings.TrimRight(repo, "/") + "/" + d.Name, Version: d.Version}
		} else if why := config.Address(repo); why != "" {
			return nil, tool.Exitf(tool.Usage, "%q %s", repo, why)
		}
		fetched, err := l.remote(ctx, c)
		if err != nil {
			return nil, err
		}
		if got, err = helmrelease.LoadArchive(fetched.raw, c.String()); err != nil {
			return nil, err
		}
	}
	if got.Name() != d.Name || got.Version() != d.Version {
		return nil, tool.Exitf(tool.Usage, "the lock says %s %s, and there is %s %s", d.Name, d.Version, got.Name(), got.Version())
	}
	return got.Pack()
}

// checkDigest holds bytes to the digest that was promised.
func checkDigest(raw []byte, promised, by string) error {
	sum := sha256.Sum256(raw)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != promised {
		return tool.Exit(tool.Refused, fmt.Errorf("%s promises %s, and the archive has %s", by, promised, got), "somebody changed a published chart, or stands in between")
	}
	return nil
}
