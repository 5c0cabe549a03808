package chartsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"go.yaml.in/yaml/v3"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
)

// index is the part of a repository's index.yaml that is asked for.
type index struct {
	Entries map[string][]entry `yaml:"entries"`
}

type entry struct {
	Version string   `yaml:"version"`
	URLs    []string `yaml:"urls"`
	Digest  string   `yaml:"digest"`
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// repository fetches a chart from a chart repository.
func (l *Loader) repository(ctx context.Context, c config.Chart) (*archive, error) {
	base := strings.TrimRight(c.Repo, "/") + "/"
	ix, err := l.indexes.do(base, func() (*index, error) { return l.index(ctx, base) })
	if err != nil {
		return nil, err
	}
	found, err := ix.pick(c.Name, c.Version)
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("looking for chart %q: %w", c, err))
	}
	raw, err := l.published(ctx, base, found)
	if err != nil {
		return nil, fmt.Errorf("fetching chart %q: %w", c, err)
	}
	if hexDigest.MatchString(found.Digest) {
		if err := checkDigest(raw, "sha256:"+found.Digest, "the repository's index"); err != nil {
			return nil, fmt.Errorf("fetching chart %q: %w", c, err)
		}
	}
	if c.Digest != "" {
		if err := checkDigest(raw, c.Digest, "the file"); err != nil {
			return nil, fmt.Errorf("fetching chart %q: %w", c, err)
		}
	}
	c.Version = found.Version
	return &archive{raw, c.String()}, nil
}

func (l *Loader) index(ctx context.Context, base string) (*index, error) {
	raw, err := l.get(ctx, base+"index.yaml", maxIndex)
	if err != nil {
		return nil, fmt.Errorf("reading chart repository %q: %w", base, err)
	}
	var ix index
	if err := yaml.Unmarshal(raw, &ix); err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading chart repository %q: %w", base, err), "this is no chart repository, or its index is damaged")
	}
	return &ix, nil
}

// pick returns the version that Helm would take: the one that is written so, or
// the highest that the range allows.
func (ix *index) pick(name, version string) (entry, error) {
	all := ix.Entries[name]
	if len(all) == 0 {
		return entry{}, errors.New("the repository has no chart of that name")
	}
	for _, e := range all {
		if e.Version == version {
			return e, nil
		}
	}
	allowed, err := semver.NewConstraint(version)
	if err != nil {
		return entry{}, fmt.Errorf("reading version %q: %w", version, err)
	}
	var best *semver.Version
	var found entry
	for _, e := range all {
		v, err := semver.NewVersion(e.Version)
		if err == nil && allowed.Check(v) && (best == nil || v.GreaterThan(best)) {
			best, found = v, e
		}
	}
	if best == nil {
		return entry{}, fmt.Errorf("none of its %d versions fits; the last is %s", len(all), all[0].Version)
	}
	return found, nil
}

// published fetches an entry from the first address that is given for it.
func (l *Loader) published(ctx context.Context, base string, e entry) ([]byte, error) {
	if len(e.URLs) == 0 {
		return nil, tool.Exitf(tool.Usage, "version %s has no address", e.Version)
	}
	if place, ok := strings.CutPrefix(e.URLs[0], "oci://"); ok {
		place, tag := cutTag(place)
		got, err := l.registry(ctx, place, tag, "")
		if err != nil {
			return nil, err
		}
		return got.raw, nil
	}
	from, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("reading address %q: %w", base, err)
	}
	to, err := from.Parse(e.URLs[0])
	if err != nil {
		return nil, tool.Exitf(tool.Usage, "version %s has an address that cannot be read", e.Version)
	}
	return l.get(ctx, to.String(), maxArchive)
}

func cutTag(place string) (repository, tag string) {
	i := strings.LastIndex(place, ":")
	if i < strings.LastIndex(place, "/") {
		return place, ""
	}
	return place[:i], place[i+1:]
}

func client() *http.Client {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: 30 * time.Second, TLSHandshakeTimeout: 15 * time.Second, ForceAttemptHTTP2: true}
	return &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return errors.New("it is redirected in a circle")
		}
		return plain(req.URL)
	}}
}

// plain refuses an address whose bytes anybody on the way may change.
func plain(u *url.URL) error {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, User: u.User}
	if why := config.Address(bare.String()); why != "" {
		return tool.Exitf(tool.Usage, "the address %q %s", bare.Redacted(), why)
	}
	return nil
}

// get fetches an address. Its query is never told: it may be a signature.
func (l *Loader) get(ctx context.Context, address string, limit int64) (raw []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("reading an address: %w", err)
	}
	shown := req.URL.Scheme + "://" + req.URL.Host + req.URL.Path
	if err := plain(req.URL); err != nil {
		return nil, err
	}
	login, err := l.login(req.URL.Host)
	if err != nil {
		return nil, err
	}
	if login != (Login{}) {
		req.SetBasicAuth(login.User, login.Password)
	}
	req.Header.Set("User-Agent", "slipway-deploy")
	resp, err := l.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, temporary(ctx, fmt.Errorf("asking %q: %w", shown, err))
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, answered(resp.StatusCode, fmt.Errorf("asking %q: it answers %s", shown, resp.Status))
	}
	raw, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, temporary(ctx, fmt.Errorf("reading %q: %w", shown, err))
	}
	if int64(len(raw)) > limit {
		return nil, tool.Exitf(tool.Usage, "reading %q: it is larger than %d bytes", shown, limit)
	}
	return raw, nil
}

// answered gives a status its exit code.
func answered(status int, err error) error {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return tool.Exit(tool.Denied, err, "credentials of the file names the variables of the job that hold a user and a password for this host")
	case slices.Contains([]int{http.StatusTooManyRequests, http.StatusRequestTimeout}, status) || status >= http.StatusInternalServerError:
		return tool.Exit(tool.Temporary, err)
	}
	return tool.Exit(tool.Usage, err)
}

// temporary is for what the network did, and not we.
func temporary(ctx context.Context, err error) error {
	var known *tool.Error
	if ctx.Err() != nil || errors.As(err, &known) {
		return err
	}
	return tool.Exit(tool.Temporary, err)
}
