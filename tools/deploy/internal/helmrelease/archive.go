package helmrelease

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
)

// Limits of a chart. Helm's own hold for each archive alone; one that carries
// archives which carry archives is counted as a whole here.
const (
	maxUnpacked = 100 << 20
	maxEntries  = 10_000
	maxDepth    = 6
)

var errTooLarge = errors.New("it is larger than a chart may be once it is unpacked")

// budget is what may still be unpacked of a chart.
type budget struct{ bytes, entries int64 }

// spend counts an archive in, with the archives in it, before Helm unpacks it.
func (b *budget) spend(raw []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("archives lie in each other more than %d deep", maxDepth)
	}
	gz, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("it is no gzipped archive: %w", err)
	}
	tr := tar.NewReader(io.LimitReader(gz, b.bytes+1))
	for {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errTooLarge
		case err != nil:
			return err
		}
		if b.entries--; b.entries < 0 || h.Size > b.bytes {
			return errTooLarge
		}
		if !isArchive(h.Name) {
			n, err := io.Copy(io.Discard, tr)
			if b.bytes -= n; err != nil {
				return err
			}
			continue
		}
		inner, err := io.ReadAll(io.LimitReader(tr, b.bytes))
		if err != nil {
			return err
		}
		b.bytes -= int64(len(inner))
		if err := b.spend(inner, depth+1); err != nil {
			return fmt.Errorf("unpacking %q: %w", h.Name, err)
		}
	}
}

// isArchive reports whether Helm unpacks a file of a chart: a dependency.
func isArchive(name string) bool {
	name = strings.ReplaceAll(name, `\`, "/")
	return strings.HasSuffix(name, ".tgz") && strings.Contains("/"+name, "/charts/")
}

// unpackChart reads a packed chart into memory.
func unpackChart(raw []byte) ([]*loader.BufferedFile, error) {
	b := budget{maxUnpacked, maxEntries}
	if err := b.spend(raw, 0); err != nil {
		return nil, err
	}
	return loader.LoadArchiveFiles(bytes.NewReader(raw))
}

// inspect looks at a folder before Helm reads it: its links may lead to what is
// below root, where Helm follows them wherever they lead, and round and round;
// and the archives in it are held to the limits.
func inspect(root, dir string) error {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return fmt.Errorf("reading the folder: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("reading the folder: %w", err)
	}
	if !below(root, real) {
		return errors.New("its folder is a link that leads out of the file's folder")
	}
	w := walker{root: root, left: budget{maxUnpacked, maxEntries}}
	return w.walk(real, []string{real})
}

type walker struct {
	root string
	left budget
}

// walk looks at a folder; open are the folders whose links led here.
func (w *walker) walk(dir string, open []string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("reading the folder: %w", err)
		}
		if len(open) > 1 {
			if w.left.entries--; w.left.entries < 0 {
				return errTooLarge
			}
		}
		name, _ := filepath.Rel(dir, p)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			return w.follow(p, name, open)
		case d.Type().IsRegular() && isArchive(filepath.ToSlash(p)):
			return w.archive(p, name)
		}
		return nil
	})
}

func (w *walker) follow(link, name string, open []string) error {
	target, err := filepath.EvalSymlinks(link)
	if err != nil || !below(w.root, target) {
		return fmt.Errorf("the link %q leads out of the file's folder, or nowhere", name)
	}
	info, err := os.Stat(target)
	if err != nil {
		return fmt.Errorf("following the link %q: %w", name, err)
	}
	if !info.IsDir() {
		if isArchive(filepath.ToSlash(link)) && info.Mode().IsRegular() {
			return w.archive(target, name)
		}
		return nil
	}
	at := append(open[:len(open):len(open)], filepath.Dir(link))
	for _, o := range at {
		if below(target, o) {
			return fmt.Errorf("the link %q leads round in a circle", name)
		}
	}
	return w.walk(target, at)
}

func (w *walker) archive(path, name string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the folder: %w", err)
	}
	if err := w.left.spend(raw, 1); err != nil {
		return fmt.Errorf("unpacking %q: %w", name, err)
	}
	return nil
}

func below(root, path string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && filepath.IsLocal(rel)
}
