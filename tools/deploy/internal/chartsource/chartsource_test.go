package chartsource_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	helmregistry "helm.sh/helm/v3/pkg/registry"
	"helm.sh/helm/v3/pkg/repo"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/chartsource"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// packed makes a chart's archive with Helm itself.
func packed(t *testing.T, name, version string) []byte {
	t.Helper()
	c := &chart.Chart{Metadata: &chart.Metadata{APIVersion: "v2", Name: name, Version: version},
		Templates: []*chart.File{{Name: "templates/m.yaml", Data: []byte("kind: ConfigMap\napiVersion: v1\nmetadata: {name: " + name + "}\n")}}}
	file, err := chartutil.Save(c, t.TempDir())
	must(t, err)
	raw, err := os.ReadFile(file)
	must(t, err)
	return raw
}

// repository is a chart repository with an index that Helm itself wrote.
type repository struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
	auth  string // user:password that is asked for
	files map[string][]byte
}

func newRepository(t *testing.T, versions ...string) *repository {
	t.Helper()
	r := &repository{asked: map[string]int{}, files: map[string][]byte{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	index := repo.NewIndexFile()
	for _, v := range versions {
		raw := packed(t, "redis", v)
		file := "redis-" + v + ".tgz"
		r.files["/charts/"+file] = raw
		sum := sha256.Sum256(raw)
		must(t, index.MustAdd(&chart.Metadata{APIVersion: "v2", Name: "redis", Version: v}, file, "", hex.EncodeToString(sum[:])))
	}
	index.SortEntries()
	file := filepath.Join(t.TempDir(), "index.yaml")
	must(t, index.WriteFile(file, 0o600))
	raw, err := os.ReadFile(file)
	must(t, err)
	r.files["/charts/index.yaml"] = raw
	return r
}

func (r *repository) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[req.URL.Path]++
	if user, password, _ := req.BasicAuth(); r.auth != "" && r.auth != user+":"+password {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	raw, ok := r.files[req.URL.Path]
	if !ok {
		http.NotFound(w, req)
		return
	}
	_, _ = w.Write(raw)
}

func anybody(string) (chartsource.Login, error) { return chartsource.Login{}, nil }

func TestRepository(t *testing.T) {
	r := newRepository(t, "1.2.3", "1.10.0", "1.4.0", "2.0.0-rc.1", "v3.0.0", "0.9.0+build.1")
	l := chartsource.New(anybody)
	for version, want := range map[string]string{"1.2.3": "1.2.3", "~1.2": "1.2.3", "^1": "1.10.0", "<1.5": "1.4.0", "*": "v3.0.0", "2.0.0-rc.1": "2.0.0-rc.1", "3.0.0": "v3.0.0", "0.9.0+build.1": "0.9.0+build.1", "~4": ""} {
		c, err := l.Load(t.Context(), t.TempDir(), config.Chart{Repo: r.URL + "/charts/", Name: "redis", Version: version})
		ix, ierr := repo.LoadIndexFile(indexFile(t, r))
		must(t, ierr)
		theirs, herr := ix.Get("redis", version)
		if want == "" {
			if err == nil || herr == nil || tool.CodeOf(err) != tool.Usage || !strings.Contains(err.Error(), "none of its 6 versions fits") {
				t.Errorf("%s: we %v, helm %v", version, err, herr)
			}
			continue
		}
		if err != nil || herr != nil || c.Version() != want || theirs.Version != want {
			t.Errorf("%s: we %v (%v), helm %v (%v), want %s", version, c, err, theirs, herr, want)
			continue
		}
		if c.Digest() != "sha256:"+theirs.Digest {
			t.Errorf("%s: digest %s, the index has %s", version, c.Digest(), theirs.Digest)
		}
	}
	if n := r.asked["/charts/index.yaml"]; n != 1 {
		t.Errorf("the index was asked for %d times", n)
	}
}

func indexFile(t *testing.T, r *repository) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "index.yaml")
	must(t, os.WriteFile(file, r.files["/charts/index.yaml"], 0o600))
	return file
}

// TestOnce: several releases of one chart fetch it once, and each gets its own.
func TestOnce(t *testing.T) {
	r := newRepository(t, "1.2.3")
	c := config.Chart{Repo: r.URL + "/charts", Name: "redis", Version: "1.2.3"}
	got, err := chartsource.New(anybody).All(t.Context(), t.TempDir(), []config.Chart{c, c, c, c, c, c, c, c, c, c})
	must(t, err)
	got[0].Annotate("only", "mine")
	for _, other := range got[1:] {
		if other == got[0] {
			t.Fatal("two releases share a chart")
		}
	}
	if r.asked["/charts/redis-1.2.3.tgz"] != 1 || r.asked["/charts/index.yaml"] != 1 {
		t.Errorf("asked %v", r.asked)
	}
}

func TestRepositoryRefuses(t *testing.T) {
	r := newRepository(t, "1.2.3")
	good := config.Chart{Repo: r.URL + "/charts", Name: "redis", Version: "1.2.3"}
	with := func(change func(*config.Chart)) config.Chart { c := good; change(&c); return c }
	for name, c := range map[string]struct {
		chart  config.Chart
		change func()
		code   int
		want   string
	}{
		"another name":   {with(func(c *config.Chart) { c.Name = "valkey" }), nil, tool.Usage, "no chart of that name"},
		"no repository":  {with(func(c *config.Chart) { c.Repo = r.URL + "/none" }), nil, tool.Usage, "404"},
		"another digest": {with(func(c *config.Chart) { c.Digest = "sha256:" + strings.Repeat("0", 64) }), nil, tool.Refused, "the file promises sha256:000"},
		"changed since":  {good, func() { r.files["/charts/redis-1.2.3.tgz"] = packed(t, "redis", "1.2.4") }, tool.Refused, "the repository's index promises"},
		"no index":       {good, func() { r.files["/charts/index.yaml"] = []byte("<html>\n\t<x>") }, tool.Usage, "cannot unmarshal"},
		"elsewhere":      {good, func() { r.index("http://evil.example.com/redis.tgz") }, tool.Usage, "is not https"},
		"a file":         {good, func() { r.index("file:///etc/passwd") }, tool.Usage, "is not an address"},
		"a password":     {good, func() { r.index("https://user:hunter2@example.com/redis.tgz") }, tool.Usage, "holds a credential"},
		"another chart": {good, func() {
			r.index("other.tgz")
			r.files["/charts/other.tgz"] = packed(t, "other", "1.2.3")
		}, tool.Usage, `the archive holds chart "other"`},
		"closed": {with(func(c *config.Chart) { c.Repo = "http://127.0.0.1:1/charts" }), nil, tool.Temporary, "refused"},
	} {
		before := map[string][]byte{}
		for k, v := range r.files {
			before[k] = v
		}
		if c.change != nil {
			c.change()
		}
		_, err := chartsource.New(anybody).Load(t.Context(), t.TempDir(), c.chart)
		if err == nil || tool.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: code %d: %v", name, tool.CodeOf(err), err)
		}
		r.files = before
	}
}

// index makes the index say that its chart is elsewhere.
func (r *repository) index(address string) {
	r.files["/charts/index.yaml"] = []byte("apiVersion: v1\nentries: {redis: [{name: redis, version: 1.2.3, urls: [" + address + "]}]}\n")
}

func TestCredentials(t *testing.T) {
	r := newRepository(t, "1.2.3")
	r.auth = "robot:hunter2"
	c := config.Chart{Repo: r.URL + "/charts", Name: "redis", Version: "1.2.3"}
	_, err := chartsource.New(anybody).Load(t.Context(), t.TempDir(), c)
	if tool.CodeOf(err) != tool.Denied {
		t.Errorf("without: %v", err)
	}
	other := newRepository(t, "1.2.3")
	seen := map[string]bool{}
	l := chartsource.New(func(host string) (chartsource.Login, error) {
		seen[host] = true
		if host == strings.TrimPrefix(r.URL, "http://") {
			return chartsource.Login{User: "robot", Password: "hunter2"}, nil
		}
		return chartsource.Login{}, nil
	})
	if _, err := l.Load(t.Context(), t.TempDir(), c); err != nil {
		t.Error(err)
	}
	// The archive lies on another host, which learns no password.
	r.index(other.URL + "/charts/redis-1.2.3.tgz")
	other.auth = ":"
	if _, err := chartsource.New(func(host string) (chartsource.Login, error) {
		if host == strings.TrimPrefix(r.URL, "http://") {
			return chartsource.Login{User: "robot", Password: "hunter2"}, nil
		}
		return chartsource.Login{}, nil
	}).Load(t.Context(), t.TempDir(), c); err != nil {
		t.Error(err)
	}
	_, err = chartsource.New(func(string) (chartsource.Login, error) {
		return chartsource.Login{}, tool.Exit(tool.Usage, errors.New("a variable is not set"))
	}).Load(t.Context(), t.TempDir(), c)
	if tool.CodeOf(err) != tool.Usage {
		t.Errorf("without the variable: %v", err)
	}
}

// ociRegistry is a registry with a chart that Helm's own client pushed.
func ociRegistry(t *testing.T, versions ...string) (place string, digests map[string]string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	client, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptWriter(io.Discard),
		helmregistry.ClientOptCredentialsFile(filepath.Join(t.TempDir(), "config.json")))
	must(t, err)
	digests = map[string]string{}
	for _, v := range versions {
		got, err := client.Push(packed(t, "redis", v), host+"/charts/redis:"+v)
		must(t, err)
		digests[v] = got.Manifest.Digest
	}
	return "oci://" + host + "/charts/redis", digests
}

func TestRegistry(t *testing.T) {
	place, digests := ociRegistry(t, "1.2.3", "1.3.0+b")
	for name, c := range map[string]struct {
		chart config.Chart
		code  int
		want  string
	}{
		"by digest":          {config.Chart{OCI: place, Digest: digests["1.2.3"]}, 0, "1.2.3"},
		"digest and version": {config.Chart{OCI: place, Version: "1.2.3", Digest: digests["1.2.3"]}, 0, "1.2.3"},
		"by version":         {config.Chart{OCI: place, Version: "1.3.0+b"}, 0, "1.3.0+b"},
		"they differ":        {config.Chart{OCI: place, Version: "1.2.3", Digest: digests["1.3.0+b"]}, tool.Usage, "the digest is of version 1.3.0+b"},
		"no such digest":     {config.Chart{OCI: place, Digest: "sha256:" + strings.Repeat("0", 64)}, tool.Usage, "MANIFEST_UNKNOWN"},
		"no such version":    {config.Chart{OCI: place, Version: "9.9.9"}, tool.Usage, "MANIFEST_UNKNOWN"},
	} {
		got, err := chartsource.New(anybody).Load(t.Context(), t.TempDir(), c.chart)
		switch {
		case c.code == 0 && (err != nil || got.Version() != c.want):
			t.Errorf("%s: %v, %v", name, got, err)
		case c.code != 0 && (err == nil || tool.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: code %d: %v", name, tool.CodeOf(err), err)
		}
	}
}

// TestDependencies: what a lock names is fetched from a repository, a registry
// and a folder, as 'helm dependency build' fetches it, and nothing is written.
func TestDependencies(t *testing.T) {
	r := newRepository(t, "1.2.3", "1.3.0")
	place, _ := ociRegistry(t, "2.0.0")
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	put("lib/Chart.yaml", "apiVersion: v2\nname: lib\nversion: 0.1.0\ntype: library\n")
	put("lib/templates/_x.tpl", `{{- define "x" }}from the library{{ end }}`)
	wanted := fmt.Sprintf(`dependencies:
  - {name: redis, version: ">=1.0.0 <1.3.0", repository: %q}
  - {name: redis, version: "^2", repository: %q, alias: cache}
  - {name: lib, version: ~0, repository: "file://../lib"}
`, r.URL+"/charts", strings.TrimSuffix(place, "/redis"))
	put("chart/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"+wanted)
	put("chart/templates/m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {x: {{ include \"x\" . }}}\n")
	lock := []*chart.Dependency{{Name: "redis", Version: "1.2.3", Repository: r.URL + "/charts"},
		{Name: "redis", Version: "2.0.0", Repository: strings.TrimSuffix(place, "/redis")}, {Name: "lib", Version: "0.1.0", Repository: "file://../lib"}}
	put("chart/Chart.lock", lockOf(t, filepath.Join(root, "chart"), lock))

	before := tree(t, root)
	got, err := chartsource.New(anybody).Load(t.Context(), root, config.Chart{Path: "chart"})
	must(t, err)
	if after := tree(t, root); after != before {
		t.Errorf("the folder changed:\n%s\nafter\n%s", before, after)
	}
	raw, err := got.Pack()
	must(t, err)
	whole, err := loader.LoadArchive(bytes.NewReader(raw))
	must(t, err)
	var have []string
	for _, d := range whole.Dependencies() {
		have = append(have, d.Name()+" "+d.Metadata.Version)
	}
	for _, want := range []string{"redis 1.2.3", "redis 2.0.0", "lib 0.1.0"} {
		if !strings.Contains(strings.Join(have, ", "), want) {
			t.Errorf("dependency %s is missing: %v", want, have)
		}
	}

	for name, c := range map[string]struct {
		lock []*chart.Dependency
		want string
	}{
		"a moved lock":  {[]*chart.Dependency{{Name: "redis", Version: "1.2.4", Repository: r.URL + "/charts"}}, "none of its 2 versions fits"},
		"out of reach":  {[]*chart.Dependency{{Name: "lib", Version: "0.1.0", Repository: "file://../../lib"}}, "leads out of the file's folder"},
		"a local name":  {[]*chart.Dependency{{Name: "redis", Version: "1.2.3", Repository: "@stable"}}, "only the machine knows"},
		"not https":     {[]*chart.Dependency{{Name: "redis", Version: "1.2.3", Repository: "http://charts.example.com"}}, "is not https"},
		"another lib":   {[]*chart.Dependency{{Name: "lib", Version: "0.2.0", Repository: "file://../lib"}}, "the lock says lib 0.2.0, and there is lib 0.1.0"},
		"another name":  {[]*chart.Dependency{{Name: "library", Version: "0.1.0", Repository: "file://../lib"}}, "the lock says library 0.1.0"},
		"by itself":     {[]*chart.Dependency{{Name: "app", Version: "1.0.0", Repository: "file://."}}, "in a circle"},
		"no dependency": {[]*chart.Dependency{{Name: "gone", Version: "1.0.0", Repository: "file://../gone"}}, "no such file"},
	} {
		put("chart/Chart.lock", lockOf(t, filepath.Join(root, "chart"), c.lock))
		_, err := chartsource.New(anybody).Load(t.Context(), root, config.Chart{Path: "chart"})
		if err == nil || tool.CodeOf(err) != tool.Usage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: code %d: %v", name, tool.CodeOf(err), err)
		}
	}
}

func tree(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		fmt.Fprintln(&b, path)
		return err
	}))
	return b.String()
}

// TestCancel: a chart that does not come is not waited for.
func TestCancel(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	_, err := chartsource.New(anybody).Load(ctx, t.TempDir(), config.Chart{Repo: server.URL, Name: "x", Version: "1.0.0"})
	if tool.CodeOf(err) != tool.Cancelled {
		t.Errorf("code %d: %v", tool.CodeOf(err), err)
	}
}
