package artifact

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
)

// memory is a bucket in memory.
type memory map[string][]byte

func (m memory) List(_ context.Context, prefix string) ([]Object, error) {
	var out []Object
	for k, v := range m {
		if strings.HasPrefix(k, prefix) {
			out = append(out, Object{k, int64(len(v))})
		}
	}
	return out, nil
}

func (m memory) Open(_ context.Context, key string) (io.ReadCloser, error) {
	raw, ok := m[key]
	if !ok {
		return nil, ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

func zip(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func archive(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.PAXRecords["SLIPWAY.content"]
		h.PAXRecords, h.Mode = nil, 0o600
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func entry(name, content string) *tar.Header {
	return &tar.Header{Name: name, PAXRecords: map[string]string{"SLIPWAY.content": content}}
}

const (
	deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"orders","namespace":"orders-dev"}}`
	where      = "resources/deployments.apps/namespaces/orders-dev/orders.json"
)

// whole is a backup as Velero writes it.
func whole(t *testing.T) memory {
	t.Helper()
	return memory{
		"p/backups/b/velero-backup.json":            []byte(`{"metadata":{"name":"b"},"status":{"phase":"Completed"}}`),
		"p/backups/b/b.tar.gz":                      zip(t, archive(t, entry("metadata/version", "1.1.0"), entry(where, deployment), entry("resources/deployments.apps/v1-preferredversion/namespaces/orders-dev/orders.json", deployment))),
		"p/backups/b/b-logs.gz":                     zip(t, []byte("a log")),
		"p/backups/b/b-results.gz":                  zip(t, []byte(`{"errors":{},"warnings":{"namespaces":{"orders-dev":["w"]}}}`)),
		"p/backups/b/b-resource-list.json.gz":       zip(t, []byte(`{"apps/v1/Deployment":["orders-dev/orders"]}`)),
		"p/backups/b/b-volumeinfo.json.gz":          zip(t, []byte(`[{"pvcName":"d","pvcNamespace":"orders-dev","result":"succeeded"}]`)),
		"p/backups/b/b-csi-volumesnapshots.json.gz": zip(t, []byte(`null`)),
	}
}

func TestRead(t *testing.T) {
	const dir = "p/backups/b/"
	flip := func(raw []byte) []byte {
		out := bytes.Clone(raw)
		out[len(out)-5] ^= 0xff // in gzip's checksum
		return out
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, m memory)
		want  string // part of the problem; empty for none
	}{
		"whole":          {func(*testing.T, memory) {}, ""},
		"no results":     {func(_ *testing.T, m memory) { delete(m, dir+"b-results.gz") }, "b-results.gz is missing"},
		"no volume info": {func(_ *testing.T, m memory) { delete(m, dir+"b-volumeinfo.json.gz") }, "b-volumeinfo.json.gz is missing"},
		"truncated":      {func(_ *testing.T, m memory) { m[dir+"b.tar.gz"] = m[dir+"b.tar.gz"][:len(m[dir+"b.tar.gz"])-9] }, "b.tar.gz cannot be read: unexpected EOF"},
		"checksum":       {func(_ *testing.T, m memory) { m[dir+"b-logs.gz"] = flip(m[dir+"b-logs.gz"]) }, "b-logs.gz cannot be read: gzip: invalid checksum"},
		"chunked upload": {func(_ *testing.T, m memory) {
			m[dir+"b.tar.gz"] = append([]byte("10000;chunk-signature=\r\n"), m[dir+"b.tar.gz"]...)
		}, "b.tar.gz cannot be read: gzip: invalid header"},
		"tail":           {func(t *testing.T, m memory) { m[dir+"b-volumeinfo.json.gz"] = zip(t, []byte(`[] []`)) }, "something follows the JSON value"},
		"another backup": {func(_ *testing.T, m memory) { m[dir+"velero-backup.json"] = []byte(`{"metadata":{"name":"c"}}`) }, `is of the backup "c"`},
		"unknown file":   {func(t *testing.T, m memory) { m[dir+"b-csi-volumesnapshots.json.gz"] = zip(t, []byte(`{`)) }, "b-csi-volumesnapshots.json.gz cannot be read"},
		"listed, not kept": {func(t *testing.T, m memory) {
			m[dir+"b-resource-list.json.gz"] = zip(t, []byte(`{"v1/Secret":["orders-dev/db"]}`))
		}, "v1/Secret orders-dev/db is in Velero's list and not in the archive"},
		"nothing listed": {func(t *testing.T, m memory) { m[dir+"b-resource-list.json.gz"] = zip(t, []byte(`{}`)) }, "list of what it backed up is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			m := whole(t)
			c.spoil(t, m)
			a, err := Read(t.Context(), m, "p", "b")
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(a.Problems, "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("problems %q, want %q", got, c.want)
			}
			if c.want == "" && (len(a.Items) != 1 || len(a.Files) != len(m) || len(a.Volumes) != 1 || a.Backup.Status.Phase != "Completed") {
				t.Errorf("got %d items, %d files, %d volumes", len(a.Items), len(a.Files), len(a.Volumes))
			}
		})
	}
	if _, err := Read(t.Context(), whole(t), "p", "none"); err == nil {
		t.Error("a backup that is not there was read")
	}
}

func TestHostileArchives(t *testing.T) {
	for name, c := range map[string]struct {
		header *tar.Header
		want   string
	}{
		"parent":     {entry("../etc/passwd", "x"), "does not belong"},
		"inside":     {entry("resources/../../etc/passwd", "x"), "does not belong"},
		"absolute":   {entry("/resources/pods/namespaces/a/b.json", "{}"), "does not belong"},
		"link":       {&tar.Header{Name: where, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, "does not belong"},
		"device":     {&tar.Header{Name: where, Typeflag: tar.TypeBlock}, "does not belong"},
		"elsewhere":  {entry("resources/pods.json", "{}"), "at no place of an object"},
		"no json":    {entry(where, "{"), "is no JSON object"},
		"odd pods":   {entry(where, strings.Replace(deployment, "}}", `},"spec":{"template":{"spec":{"hostNetwork":"yes"}}}}`, 1)), "has no pods that can be read"},
		"other name": {entry(where, strings.Replace(deployment, `"orders"`, `"stolen"`, 1)), `holds the Deployment "stolen"`},
		"other ns":   {entry(where, strings.Replace(deployment, `"orders-dev"`, `"orders"`, 1)), `of namespace "orders"`},
		"no version": {entry("metadata/version", ""), "metadata/version is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			items, problems, err := readTar(bytes.NewReader(archive(t, c.header)))
			if err != nil {
				t.Fatal(err)
			}
			if len(problems) != 1 || !strings.Contains(problems[0], c.want) || len(items) != 0 {
				t.Errorf("items %v, problems %q, want one with %q", items, problems, c.want)
			}
		})
	}
}

// endless is a stream of one byte: what a bomb unpacks into.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

func TestBombsEnd(t *testing.T) {
	bounded := &counter{r: endless(0), max: 1 << 20}
	if n, err := io.Copy(io.Discard, bounded); err == nil || n > 2<<20 {
		t.Errorf("read %d bytes of an endless file, error %v", n, err)
	}
	if err := decode(new(any))(io.MultiReader(strings.NewReader(`"`), endless('0'))); err == nil || !strings.Contains(err.Error(), "more than 64 MiB") {
		t.Errorf("decoding an endless value ended with %v", err)
	}
	header := &tar.Header{Name: where, Typeflag: tar.TypeReg, Size: maxEntry + 1, Mode: 0o600}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	_, problems, err := readTar(io.MultiReader(&b, io.LimitReader(endless(0), maxEntry+4096)))
	if err != nil || len(problems) != 1 {
		t.Errorf("problems %q, error %v: an entry over the limit is named and passed over", problems, err)
	}
}

// TestKeepsLittle: of an object only what a drill looks at stays in memory.
func TestKeepsLittle(t *testing.T) {
	metadata := `"metadata":{"name":"s","namespace":"a","labels":{"app":"x","pod-security.kubernetes.io/enforce":"restricted","batch.kubernetes.io/job-name":"j"},
		"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"large","external-dns.alpha.kubernetes.io/hostname":"h","eks.amazonaws.com/role-arn":"r"}}`
	items := map[Key]Item{}
	for _, resource := range []string{"services", "things.example.com"} {
		raw := `{"apiVersion":"v1","kind":"K",` + metadata + `,"spec":{"type":"LoadBalancer","externalIPs":["192.0.2.1"]}}`
		if problem := keep(items, "resources/"+resource+"/namespaces/a/s.json", []byte(raw)); problem != "" {
			t.Fatal(problem)
		}
	}
	service, thing := items[Key{"services", "a", "s"}], items[Key{"things.example.com", "a", "s"}]
	if m := service.Metadata; len(m.Labels) != 2 || len(m.Annotations) != 2 || m.Labels["app"] != "" || service.Spec.Type != "LoadBalancer" {
		t.Errorf("of a service %+v is kept", service)
	}
	if thing.Spec.Type != nil || thing.Spec.ExternalIPs != nil {
		t.Errorf("of a kind of somebody's own %+v is kept", thing)
	}
}

func FuzzArchive(f *testing.F) {
	f.Add([]byte("resources/"), []byte(deployment))
	f.Fuzz(func(t *testing.T, name, content []byte) {
		items := map[Key]Item{}
		if problem := keep(items, string(name), content); problem == "" {
			for key, item := range items {
				if item.Metadata.Name != key.Name || item.Metadata.Namespace != key.Namespace {
					t.Errorf("%v holds %v", key, item.Metadata)
				}
			}
		}
	})
}

func TestRestoreResults(t *testing.T) {
	m := memory{
		"restores/r/restore-r-results.gz":            zip(t, []byte(`{"errors":{"velero":["e"]}}`)),
		"restores/r/restore-r-resource-list.json.gz": zip(t, []byte(`{"v1/Secret":["a/b(created)"]}`)),
	}
	results, list, err := RestoreResults(t.Context(), m, "", "r")
	if err != nil || fmt.Sprint(results.Errors.Velero, list) != "[e] map[v1/Secret:[a/b(created)]]" {
		t.Errorf("got %v %v, error %v", results, list, err)
	}
	if _, _, err := RestoreResults(t.Context(), memory{}, "", "r"); err == nil {
		t.Error("results that are not there were read")
	}
}
