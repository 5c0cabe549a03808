package artifact

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/backup/internal/velero"
)

// File is one file of a backup, as it was read.
type File struct {
	Key      string `json:"key"`
	Size     int64  `json:"size"`
	Unpacked int64  `json:"unpacked"`
	SHA256   string `json:"sha256"`
}

// Artifact is a backup as it lies in its bucket.
type Artifact struct {
	Backup  velero.Backup
	Items   map[Key]Item
	Volumes []velero.VolumeInfo
	Results velero.Results
	Files   []File
	// Problems are what cannot be read, is missing or contradicts itself.
	Problems []string
}

// required are the files that every backup has; Velero writes further ones.
func required(name string) []string {
	return []string{"velero-backup.json", name + ".tar.gz", name + "-logs.gz", name + "-results.gz", name + "-resource-list.json.gz", name + "-volumeinfo.json.gz"}
}

// Read downloads every file of a backup and reads each to its end. An error is
// about the bucket; what is wrong with the backup is in Problems.
func Read(ctx context.Context, store Store, prefix, name string) (*Artifact, error) {
	dir := path.Join(prefix, "backups", name) + "/"
	objects, err := store.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, tool.Exit(tool.Unproven, fmt.Errorf("reading backup %q: nothing is at %q: %w", name, dir, ErrNotFound))
	}
	a := &Artifact{Items: map[Key]Item{}}
	have := map[string]bool{}
	var listed map[string][]string
	for _, o := range objects {
		file := strings.TrimPrefix(o.Key, dir)
		have[file] = true
		into := a.target(name, file, &listed)
		if err := a.file(ctx, store, o, into); err != nil {
			return nil, err
		}
	}
	for _, file := range required(name) {
		if !have[file] {
			a.problem("%s is missing", file)
		}
	}
	if have["velero-backup.json"] && a.Backup.Meta.Name != name {
		a.problem("velero-backup.json is of the backup %q", a.Backup.Meta.Name)
	}
	if have[name+".tar.gz"] && have[name+"-resource-list.json.gz"] {
		a.compare(listed)
	}
	return a, nil
}

func (a *Artifact) problem(format string, args ...any) {
	a.Problems = append(a.Problems, fmt.Sprintf(format, args...))
}

// target returns how a file is read.
func (a *Artifact) target(name, file string, listed *map[string][]string) func(io.Reader) error {
	switch file {
	case "velero-backup.json":
		return decode(&a.Backup)
	case name + "-results.gz":
		return decode(&a.Results)
	case name + "-volumeinfo.json.gz":
		return decode(&a.Volumes)
	case name + "-resource-list.json.gz":
		return decode(listed)
	case name + ".tar.gz":
		return func(r io.Reader) error {
			items, problems, err := readTar(r)
			a.Items = items
			a.Problems = append(a.Problems, problems...)
			return err
		}
	}
	if strings.HasSuffix(file, ".json.gz") || strings.HasSuffix(file, ".json") {
		return decode(new(json.RawMessage))
	}
	return func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }
}

// decode reads one JSON value and nothing after it. The value is in memory as a
// whole, and bounded by less than what is only read.
func decode(v any) func(io.Reader) error {
	return func(r io.Reader) error {
		d := json.NewDecoder(&counter{r: r, max: maxJSON})
		if err := d.Decode(v); err != nil {
			return err
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return errors.New("something follows the JSON value")
		}
		return nil
	}
}

// file reads one file to its end.
func (a *Artifact) file(ctx context.Context, store Store, o Object, read func(io.Reader) error) error {
	body, err := store.Open(ctx, o.Key)
	if err != nil {
		return err
	}
	defer body.Close()
	sum := sha256.New()
	packed := &counter{r: io.TeeReader(body, sum)}
	unpacked, err := unpack(packed, strings.HasSuffix(o.Key, ".gz"), read)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	base := path.Base(o.Key)
	if err != nil {
		a.problem("%s cannot be read: %v", base, err)
		return nil
	}
	if packed.n != o.Size {
		a.problem("%s has %d bytes, the bucket says %d", base, packed.n, o.Size)
	}
	a.Files = append(a.Files, File{Key: o.Key, Size: packed.n, Unpacked: unpacked, SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// unpack lets read have the content, and reads what it left. gzip's checksum
// and length are only seen at the very end.
func unpack(r io.Reader, packed bool, read func(io.Reader) error) (int64, error) {
	in := bufio.NewReader(r)
	plain := io.Reader(in)
	if packed {
		z, err := gzip.NewReader(in)
		if err != nil {
			return 0, err
		}
		plain = z
	}
	bounded := &counter{r: plain, max: maxUnpacked}
	if err := read(bounded); err != nil {
		return bounded.n, err
	}
	if _, err := io.Copy(io.Discard, bounded); err != nil {
		return bounded.n, err
	}
	_, err := io.Copy(io.Discard, in)
	return bounded.n, err
}

// counter counts what is read, and ends where it is more than max, if that is set.
type counter struct {
	r      io.Reader
	n, max int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.max > 0 && c.n > c.max {
		return n, fmt.Errorf("it unpacks into more than %d MiB", c.max>>20)
	}
	return n, err
}

// compare holds Velero's own list of what it backed up against the archive.
func (a *Artifact) compare(listed map[string][]string) {
	in := map[string]bool{}
	for key, item := range a.Items {
		name := key.Name
		if key.Namespace != "" {
			name = key.Namespace + "/" + name
		}
		in[item.APIVersion+"/"+item.Kind+" "+name] = true
	}
	var gone []string
	for kind, names := range listed {
		for _, name := range names {
			if !in[kind+" "+name] {
				gone = append(gone, kind+" "+name)
			}
		}
	}
	slices.Sort(gone)
	for _, one := range gone {
		a.problem("%s is in Velero's list and not in the archive", one)
	}
	if len(listed) == 0 {
		a.problem("Velero's list of what it backed up is empty")
	}
}

// RestoreResults reads what a restore said: its errors and warnings, and what
// became of each object ("namespace/name" to created, skipped, failed).
func RestoreResults(ctx context.Context, store Store, prefix, name string) (velero.Results, map[string][]string, error) {
	var results velero.Results
	var list map[string][]string
	dir := path.Join(prefix, "restores", name)
	for file, v := range map[string]any{"results.gz": &results, "resource-list.json.gz": &list} {
		if err := readGzip(ctx, store, path.Join(dir, "restore-"+name+"-"+file), v); err != nil {
			return results, list, fmt.Errorf("reading the results of restore %q: %w", name, err)
		}
	}
	return results, list, nil
}

func readGzip(ctx context.Context, store Store, key string, v any) error {
	body, err := store.Open(ctx, key)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = unpack(body, true, decode(v))
	return err
}
